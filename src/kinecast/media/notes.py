"""Unusual properties of a clip, which kinecast handles and other programs may show differently."""

from pathlib import Path
from typing import Any, NamedTuple

from kinecast.media.colour import foreign_colours
from kinecast.media.container import clip_timing, decoded, has_alpha_beside, header_fps, open_clip
from kinecast.media.display import assumed_matrix, has_alpha, orientation
from kinecast.media.stills import open_pictures

_SAME_RATE = 0.01  # relative tolerance of rates: 29.97 and 30 count as the same
_NEAR_RATE = 1.0  # with a variable rate a header cannot be exact, but may be far off
_MATRICES = {1: "BT.709", 9: "BT.2020"}  # by their codes in ITU-T H.273


class Note(NamedTuple):
    """One unusual property; `kind` groups them for counting."""

    kind: str
    text: str


def clip_notes(path: Path) -> list[Note]:
    """Inspect the packets' times and the first frame of a clip; pictures and folders of pictures have no notes.

    Raises:
        KinecastError: the clip cannot be read.
    """
    if path.is_dir() or open_pictures(path) is not None:
        return []
    clock, _ = clip_timing(path)
    with open_clip(path) as (container, stream):
        claimed, has_header = header_fps(stream), container.format.name != "gif"
        frame = next((f for f in decoded(container, stream) if f is not None and not f.is_corrupt), None)
        notes = [] if frame is None else [*_shape(frame, stream), *_colour(frame, stream)]
    if not clock.constant:
        notes.append(Note("rate", f"variable frame rate, {clock.fps:.3g} fps on average"))
    if has_header and abs(claimed / clock.fps - 1) > (_SAME_RATE if clock.constant else _NEAR_RATE):
        notes.append(Note("header", f"the header claims {claimed:.4g} fps, the frames have {clock.fps:.4g}"))
    return notes


def _shape(frame: Any, stream: Any) -> list[Note]:
    notes = []
    a, b, c, d = orientation(frame)
    if a * d - b * c < 0:
        notes.append(Note("mirrored", "shown mirrored by its display matrix"))
    elif (a, d) != (1, 1):
        notes.append(Note("turned", f"shown rotated by {180 if a else 90} degrees by its display matrix"))
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        notes.append(Note("pixels", f"pixels that are not square, {aspect.numerator}:{aspect.denominator}"))
    if frame.interlaced_frame:
        notes.append(Note("interlaced", "interlaced: frames are deinterlaced"))
    return notes


def _colour(frame: Any, stream: Any) -> list[Note]:
    notes = []
    colours = foreign_colours(frame.color_trc, frame.color_primaries)
    if colours and colours.hdr:
        notes.append(Note("hdr", f"HDR ({colours.hdr}), tone mapped to SDR"))
    elif colours:
        notes.append(Note("colours", "colours beyond BT.709, mapped to sRGB"))
    matrix = assumed_matrix(frame)
    if matrix in _MATRICES:  # small clips seldom name one, and every player assumes BT.601
        notes.append(Note("matrix", f"no colour matrix is named: {_MATRICES[matrix]} is assumed"))
    # Every gif is decoded with alpha.
    if has_alpha_beside(stream) or (has_alpha(frame) and stream.codec_context.name != "gif"):
        notes.append(Note("alpha", "transparent parts, shown on white"))
    return notes
