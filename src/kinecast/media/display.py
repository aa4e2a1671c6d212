"""Decoded frames as displayed: deinterlaced, upright, square pixels, sRGB, on white."""

import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type
from av.video.reformatter import Colorspace, VideoReformatter
from PIL import Image

from kinecast.errors import KinecastError
from kinecast.media.colour import ColourConverter, Colours, foreign_colours, warn_tone_mapped
from kinecast.media.framing import fit

# Matrices by their codes in ITU-T H.273: those swscale converts, and those that are not Y'CbCr, which it refuses.
_MATRICES = (1, 4, 5, 6, 7, 9)
_BT2020_CONSTANT = 10
_NOT_YUV = {8: "YCgCo", 11: "Y'D'zD'x", 14: "ICtCp", 15: "IPT", 16: "YCgCo", 17: "YCgCo"}
Matrix = tuple[int, int, int, int]
_OBLONG = 10  # no pixel is longer than that: the file is wrong
_UPRIGHT: Matrix = (1, 0, 0, 1)


class Display:
    """Converts the frames of one clip for display. A clip may change its format, so each frame is checked.

    Args:
        path: the clip, for messages.
        aspect: width of a pixel by its height.
    """

    def __init__(self, path: Path, aspect: Fraction | None) -> None:
        self._path = path
        self._aspect = aspect if aspect and 1 / _OBLONG < aspect < _OBLONG else Fraction(1)
        self._converter = VideoReformatter()  # one for all frames: its set-up costs more than its work
        self._wide = VideoReformatter()  # to 16 bits, for colours that are converted
        self._colours: tuple[Any, ColourConverter] | None = None
        self._matrix: tuple[int, Matrix] | None = None
        self._shape: tuple[int, int] | None = None

    def __call__(self, frame: Any) -> np.ndarray:
        """Return a frame as a uint8 array (H, W, 3), RGB.

        Raises:
            KinecastError: its colour space cannot be converted.
        """
        if not frame.format.is_rgb and (kind := _NOT_YUV.get(frame.colorspace)):
            raise KinecastError(
                f"{self._path}: expected colours in RGB or Y'CbCr, found {kind} (Dolby Vision's, or of an editor): "
                "export it as HDR10, HLG or SDR"
            )
        alpha = has_alpha(frame)
        matrix = assumed_matrix(frame)
        if colours := foreign_colours(frame.color_trc, frame.color_primaries):
            frame, matrix = self._converted(frame, matrix, colours, alpha), None
        pixels = self._converter.reformat(
            frame,
            width=max(round(frame.width * self._aspect), 1),
            format="rgba" if alpha else "rgb24",
            src_colorspace=matrix,
            threads=1,
        ).to_ndarray()
        shown = turned(on_white(Image.fromarray(pixels)) if alpha else pixels, self._orientation(frame))
        self._shape = self._shape or (shown.shape[0], shown.shape[1])
        # A recorded call shrinks on a poor line; its frames keep the first one's size.
        return fit(shown, (0, 0, *shown.shape[:2]), self._shape)

    def _orientation(self, frame: Any) -> Matrix:
        # PyAV's side data and the frame reference each other, which keeps the picture alive until garbage collection.
        # So it is read at the first frame, and when the angle, which PyAV knows too, changes.
        if self._matrix is None or self._matrix[0] != frame.rotation:
            self._matrix = frame.rotation, orientation(frame)
        return self._matrix[1]

    def _converted(self, frame: Any, matrix: int | None, colours: Colours, alpha: bool) -> Any:
        pixels = "gbrap16le" if alpha else "gbrp16le"
        form = (frame.width, frame.height, pixels, colours)
        if self._colours is None or self._colours[0] != form:
            if colours.hdr:
                warn_tone_mapped(self._path, colours)
            self._colours = form, ColourConverter(*form, frame.time_base or Fraction(1, 1000))
        return self._colours[1](self._wide.reformat(frame, format=pixels, src_colorspace=matrix, threads=1))


def has_alpha(frame: Any) -> bool:
    """Return whether a frame may have transparent parts."""
    return any(component.is_alpha for component in frame.format.components)


def on_white(image: Image.Image) -> np.ndarray:
    """Return a picture with alpha as a frame (H, W, 3) on a white background."""
    image = image.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def assumed_matrix(frame: Any) -> int | None:
    """Return the assumed matrix of a frame that names none; None if it names one or is RGB.

    As players do, BT.601 up to PAL's size and BT.709 beyond it; BT.2020 for HDR.
    """
    if frame.format.is_rgb or frame.colorspace in _MATRICES or frame.colorspace in _NOT_YUV:
        return None
    colours = foreign_colours(frame.color_trc, frame.color_primaries)
    if frame.colorspace == _BT2020_CONSTANT or (colours and colours.hdr):
        return int(Colorspace.BT2020)
    return int(Colorspace.ITU709) if frame.width >= 1280 or frame.height > 576 else int(Colorspace.ITU601)


def orientation(frame: Any) -> Matrix:
    """Return a, b, c, d of the frame's display matrix, each -1, 0 or 1: x' = a x + c y and y' = b x + d y.

    Other angles are rounded to the nearest quarter turn.
    """
    try:
        data = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # side data of a kind unknown to this PyAV; it knows the angle
        return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[round(frame.rotation / 90) % 4]
    if data is None:
        return _UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    signs = tuple(int(np.sign(value)) for value in (a, b, c, d))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (signs[0] or 1, 0, 0, signs[3] or 1)
    return (0, signs[1] or 1, signs[2] or 1, 0)


def turned(pixels: np.ndarray, matrix: Matrix) -> np.ndarray:
    """Return a frame rotated and mirrored by `orientation`."""
    a, b, c, d = matrix
    if matrix == _UPRIGHT:
        return pixels
    if a == 0:
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def deinterlaced(frames: Iterator[Any]) -> Iterator[Any]:
    """Yield decoded frames, deinterlaced from the first interlaced frame on.

    As many frames come out as go in, with their own times.
    """
    for frame in frames:
        if frame.interlaced_frame:
            break
        yield frame
    else:
        return
    for form, alike in groupby(chain([frame], frames), lambda f: (f.width, f.height, f.format.name)):
        yield from _woven(alike, *form)


def _woven(frames: Iterator[Any], width: int, height: int, pixels: str) -> Iterator[Any]:
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat(pixels), time_base=Fraction(1, 1000))
    weave = graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
    graph.link_nodes(source, weave, graph.add("buffersink")).configure()
    times: deque[tuple[Any, Any]] = deque()  # the filter counts in other ticks and delays by a frame
    for frame in chain(frames, [None]):
        if frame is not None:
            times.append((frame.pts, frame.duration))
        graph.vpush(frame)
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                whole = graph.vpull()
                whole.pts, whole.duration = times.popleft()
                yield whole
