"""From a clip to a .kcm file and back, in constant memory, with whatever backbone is given."""

import time
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kinecast.codec.decoder import DecodedFrame, MotionDecoder
from kinecast.codec.encoder import FILE, Packing, encode_motion
from kinecast.codec.identity import model_identity
from kinecast.codec.packets import Header, MotionPacket, ReferenceChunk
from kinecast.codec.profiles import GENERIC, generic_profile, load_profile, profile_names
from kinecast.codec.quantizer import Component, Layout, to_fine
from kinecast.codec.stream import PictureAssembler, StreamReader, code_picture, open_picture, write_stream
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import atomic_path, existing_file
from kinecast.motion import LAYOUTS, Motion
from kinecast.video import VideoWriter, probe, read_batches, to_tensor, to_uint8

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.backbones.base import Backbone

BATCH = 8
QUALITIES = range(1, 10)
_WIDER = {"jacobian": 4}  # the same error of a Jacobian moves a pixel less: its offsets from the keypoint are small
Progress = Callable[[str, int], None]


def layout_for(motion: Motion, quality: int = 7) -> Layout:
    """Return the layout of a motion at a quality: steps of 2**-(4.5 + quality/2), four times as wide for Jacobians.

    Raises:
        KinecastError: the quality is not 1 to 9.
    """
    if quality not in QUALITIES:
        raise KinecastError(f"quality: expected 1 (smallest) to 9 (finest), found {quality}")
    step = 2.0 ** -(4.5 + quality / 2)
    groups = LAYOUTS[motion.backbone]
    if len(groups) > 1:
        return Layout.plain(motion.dim, step, motion.backbone)
    names = [name for name in groups[0] if name in motion.components]
    keypoints = motion.components[names[0]].shape[1]
    widths = [int(np.prod(motion.components[name].shape[2:])) for name in names]
    parts = [Component(n, w, to_fine(step * _WIDER.get(n, 1))) for n, w in zip(names, widths, strict=True)]
    return Layout(motion.backbone, keypoints, tuple(parts))


def encode_clip(
    backbone: "Backbone",
    clip: str | Path,
    output: str | Path,
    quality: int = 7,
    picture_quality: int = 60,
    profile: str = "auto",
    model_name: str = "",
    crop: str = "center",
    fps: float | None = None,
    limit: int | None = None,
    progress: Progress = lambda stage, frames: None,
    packing: Packing = FILE,
) -> dict[str, Any]:
    """Encode a clip: its first frame as the reference picture, and the motion of all; returns sizes and rates.

    Raises:
        KinecastError: unreadable input, a number out of range, or an output that cannot be written.
    """
    if not 1 <= picture_quality <= 100:
        raise KinecastError(f"picture quality: expected 1 to 100, found {picture_quality}")
    if fps is not None and not 0 < fps <= 1000:
        raise KinecastError(f"fps: expected a rate in (0, 1000], found {fps}")
    rate = Fraction(fps or probe(clip).fps).limit_denominator(1001)
    started, count = time.perf_counter(), 0
    batches = read_batches(clip, backbone.frame_size, crop, BATCH, limit)
    first = next(batches)
    motion = backbone.detect(first.to(backbone.device)).to("cpu")
    layout = layout_for(motion, quality)
    if profile == "auto":
        profile = model_name if model_name in profile_names() else GENERIC
    tables = load_profile(profile, layout)

    def vectors() -> Iterator[np.ndarray]:
        nonlocal count
        current = motion
        while True:
            count += len(current)
            progress("encode", len(current))
            yield from current.vectors().numpy()
            frames = next(batches, None)
            if frames is None:
                return
            current = backbone.detect(frames.to(backbone.device)).to("cpu")

    data, mime = code_picture(to_uint8(first[:1])[0], picture_quality)
    header = Header(
        layout,
        (rate.numerator, rate.denominator),
        backbone.frame_size,
        model_identity(backbone.state_dict()),
        model_name,
        profile,
        tables.fingerprint(),
    )
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        sizes = write_stream(file, header, data, mime, encode_motion(vectors(), layout, tables, packing))
    seconds = count / float(rate)
    motion_bytes = sizes["payload_bytes"] + sizes["overhead_bytes"]
    return {
        "frames": count,
        "fps": float(rate),
        "profile": profile,
        **sizes,
        "motion_kbps": 8 * motion_bytes / seconds / 1000,
        "overhead_kbps": 8 * sizes["overhead_bytes"] / seconds / 1000,
        "total_kbps": 8 * sum(sizes.values()) / seconds / 1000,
        "seconds": round(time.perf_counter() - started, 3),
    }


def decode_clip(
    backbone: "Backbone",
    stream: str | Path,
    output: str | Path,
    quality: int = 18,
    progress: Progress = lambda stage, frames: None,
) -> dict[str, Any]:
    """Draw the clip that a .kcm file describes.

    Damage is skipped, with a warning; the frames that it hits are held.

    Raises:
        KinecastError: no .kcm file, one of another model or version, or no picture or motion in it.
    """
    path = existing_file(stream, "motion stream (.kcm)")
    with path.open("rb") as file:
        reader = StreamReader(file)
        header = reader.header
        check_model(header, backbone, str(path))
        decoder = MotionDecoder(header.layout, profile_for(header))
        units = reader.units()
        picture = _picture(units, header, path)
        source = to_tensor(picture[None]).to(backbone.device)
        state, source_motion = backbone.encode_source(source), backbone.detect(source)
        with VideoWriter(output, Fraction(*header.rate), quality=quality) as writer:
            for frames in _batches(units, decoder):
                vectors = torch.from_numpy(np.stack([frame.vector for frame in frames]))
                motion = backbone.unflatten(vectors).to(backbone.device)
                writer.write(backbone.animate(state, source_motion, motion).cpu())
                progress("decode", len(frames))
            written = writer.frames_written
    if reader.skipped:
        warnings.warn(
            KinecastWarning(
                f"{path}: {reader.skipped} damaged bytes were skipped, {decoder.losses.concealed} frames held"
            ),
            stacklevel=2,
        )
    return {"frames": written, "fps": header.fps, "skipped_bytes": reader.skipped, **vars(decoder.losses)}


def profile_for(header: Header) -> Any:
    """Return the profile that a header names.

    Raises:
        KinecastError: it is not bundled, or has other numbers.
    """
    layout, name = header.layout, header.profile
    profile = generic_profile(layout) if name == GENERIC else load_profile(name, layout)
    if profile.fingerprint() != header.fingerprint:
        raise KinecastError(
            f"codec profile {name!r}: expected fingerprint {header.fingerprint.hex()} as the stream says, "
            f"found {profile.fingerprint().hex()}: use the version of kinecast that wrote the stream"
        )
    return profile


def check_model(header: Header, backbone: "Backbone", where: str) -> None:
    """Check that a backbone is the one that a stream was encoded with.

    Raises:
        KinecastError: it is another.
    """
    found = model_identity(backbone.state_dict())
    if found != header.model:
        raise KinecastError(
            f"{where}: expected the model {header.model_name or '?'} ({header.model.hex()[:12]}...) that encoded "
            f"it, found one of {found.hex()[:12]}...: name the right one with --model"
        )
    if header.layout.dim != backbone.motion_dim or tuple(header.frame_size) != tuple(backbone.frame_size):
        raise KinecastError(
            f"{where}: expected {backbone.motion_dim} numbers a frame at {backbone.frame_size}, found "
            f"{header.layout.dim} at {header.frame_size}: it is damaged"
        )


def _picture(units: Iterator[ReferenceChunk | MotionPacket], header: Header, path: Path) -> np.ndarray:
    assembler = PictureAssembler()
    for unit in units:
        if isinstance(unit, MotionPacket):
            break
        if (whole := assembler.push(unit)) is not None:
            return open_picture(whole[2], header.frame_size)
    raise KinecastError(f"{path}: expected a whole reference picture before the motion, found none: copy it again")


def _batches(units: Iterator[ReferenceChunk | MotionPacket], decoder: MotionDecoder) -> Iterator[list[DecodedFrame]]:
    frames: list[DecodedFrame] = []
    for unit in units:
        if not isinstance(unit, MotionPacket):
            continue  # a later picture: this version draws from the first
        for frame in decoder.push(unit):
            frames.append(frame)
            if len(frames) == BATCH:
                yield frames
                frames = []
    frames += decoder.flush()
    for start in range(0, len(frames), BATCH):
        yield frames[start : start + BATCH]
