"""A clip in layers: motion and pictures of which whoever passes it on, or receives it, may take the first few only.

Notation: D numbers per frame.
"""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from kinecast.apps.stream.key_pictures import drawable, source_of
from kinecast.apps.stream.options import EncodeOptions, layout_for_quality, profile_named
from kinecast.apps.stream.sending import Progress, Sending
from kinecast.apps.stream.sound import SoundWriter
from kinecast.codec.layers import encode_layers, keep_layers
from kinecast.codec.packets import LAYERED, Header, MotionPacket, split_picture
from kinecast.codec.quantizer import Layout
from kinecast.codec.references import ChoiceUnit, PictureLayerUnit
from kinecast.codec.schedule import Present
from kinecast.codec.stream import BodyUnit, StreamReader, code_picture, write_stream
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import STREAM_OUTPUTS, atomic_path, check_output, existing_file
from kinecast.media.footage import Footage
from kinecast.media.pictures import to_uint8
from kinecast.motion import Motion

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone

LAYERS_QUALITY = 8  # of the highest layer, if none is asked for
_COARSER = 4  # quality of the base below that: motion of `mesh` at about half a kilobit per second, with
_BASE_EVERY = 3  # one frame in three, for which the layers above it cost least (docs/results/layers.md)
_BASE_PICTURE = 600  # bytes of 256x256: half a kilobit per second over ten seconds


def layer_layouts(motion: Motion, layers: int, quality: float | None = None) -> tuple[list[Layout], list[int]]:
    """Return the layouts of `layers` layers, the base first, and one frame in how many each of them has.

    Raises:
        KinecastError: the quality of the highest is too low for a base below it.
    """
    top = LAYERS_QUALITY if quality is None else quality
    if top <= _COARSER:
        raise KinecastError(f"quality: expected {_COARSER + 1} to 9 with layers, whose base is coarser, found {top:g}")
    qualities = np.linspace(top - _COARSER, top, layers).tolist()
    return [layout_for_quality(motion, q) for q in qualities], [_BASE_EVERY] + [1] * (layers - 1)


def encode_layered(
    backbone: "Backbone",
    seen: Footage,
    file: BinaryIO,
    header: Header,
    options: EncodeOptions,
    sound: SoundWriter | None,
    progress: Progress,
) -> tuple[Sending, dict[str, int], dict[str, Any]]:
    """Encode a clip in `options.layers` layers; returns what was counted beside the motion, and sizes."""
    assert options.layers is not None
    sending = Sending(backbone, seen, sound, progress)
    template = backbone.unflatten(torch.empty(0, backbone.motion_dim))
    layouts, every = layer_layouts(template, options.layers, options.quality)
    tables = profile_named(options.profile, options.model_name, layouts[0])
    header = replace(header, layout=layouts[0], layers=tuple(layouts[1:]), version=LAYERED)
    pictures = layer_pictures(backbone, to_uint8(sending.picture)[0], options.layers, options.picture_quality)
    schedule = Present(lambda: sending.present) if backbone.needs_face else None
    packets = encode_layers(sending.vectors(), layouts, tables, every, options.packing, schedule)
    sizes = [{"motion_bytes": 0, "picture_bytes": len(data)} for data, _ in pictures]

    top = 0

    def units() -> Iterator[BodyUnit]:
        nonlocal top
        for n, (data, mime) in enumerate(pictures[1:], start=1):
            yield PictureLayerUnit(n, n)
            yield from split_picture(data, mime, n)
            yield ChoiceUnit(0, n)
        for unit in sending.units(packets):
            if isinstance(unit, MotionPacket):
                sizes[unit.layer]["motion_bytes"] += len(bytes(unit))
                top += unit.count if unit.layer == len(layouts) - 1 else 0
            yield unit

    written = write_stream(file, header, *pictures[0], units())
    sending.sent = top  # frames, not those of every layer
    kbps = [{"motion_kbps": round(8 * one["motion_bytes"] / sending.seconds / 1000, 3)} for one in sizes]
    return sending, written, {"layers": [one | rate for one, rate in zip(sizes, kbps, strict=True)]}


def layer_pictures(backbone: "Backbone", picture: np.ndarray, layers: int, quality: int) -> list[tuple[bytes, str]]:
    """Return codes of a picture, uint8 (H, W, 3), with their types: small for the base, of `quality` for the highest.

    Each is a picture that the backbone can draw from.
    """
    best = code_picture(picture, quality)
    area = picture.shape[0] * picture.shape[1] / 256**2
    bounds = np.geomspace(min(_BASE_PICTURE * area, len(best[0])), len(best[0]), layers)[:-1]
    return [*(coded_within(backbone, picture, bound) for bound in bounds), best]


def coded_within(backbone: "Backbone", picture: np.ndarray, most: float) -> tuple[bytes, str]:
    """Code a picture as well as `most` bytes allow, or in so many more that the backbone can draw from it."""
    coded = drawable(picture, most, partial(source_of, backbone))
    assert coded is not None  # every size fits
    return coded[:2]


def thin_stream(stream: str | Path, output: str | Path, layers: int) -> dict[str, Any]:
    """Write a .kcm file with the first `layers` layers of another, as a relay would, decoding nothing; returns sizes.

    Raises:
        KinecastError: not a .kcm file, not so many layers, or an output that cannot be written.
    """
    path = existing_file(stream, "motion stream (.kcm)")
    check_output(output, STREAM_OUTPUTS, "motion stream", [path])
    with path.open("rb") as file:
        reader = StreamReader(file)
        found = 1 + len(reader.header.layers)
        if not 1 <= layers <= found:
            raise KinecastError(f"{path}: expected 1 to {found} layers to keep, as it has {found}, found {layers}")
        header, units = keep_layers(reader.header, reader.units(), layers)
        with atomic_path(output) as temporary, temporary.open("wb") as out:
            out.write(bytes(header))
            for unit in units:
                out.write(bytes(unit))
    if reader.skipped:
        text = f"{path}: {reader.skipped} damaged bytes were skipped"
        warnings.warn(KinecastWarning(text), stacklevel=2)
    sizes = {"input_bytes": path.stat().st_size, "output_bytes": Path(output).stat().st_size}
    return {"layers": layers, "of_layers": found, **sizes}
