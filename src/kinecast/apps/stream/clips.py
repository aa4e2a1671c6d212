"""From a clip to a .kcm file and back, in constant memory, with any backbone."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.stream.drawing import Drawer
from kinecast.apps.stream.layered import encode_layered
from kinecast.apps.stream.options import (
    DEFAULT_QUALITY,
    EncodeOptions,
    layout_for_quality,
    profile_named,
)
from kinecast.apps.stream.sending import BATCH, Beside, Progress, Sending
from kinecast.apps.stream.sound import SoundWriter, stream_sound
from kinecast.apps.stream.within import encode_within
from kinecast.codec.absences import Absences, AbsenceUnit
from kinecast.codec.decoder import DecodedFrame, MotionDecoder
from kinecast.codec.encoder import encode_motion
from kinecast.codec.filling import DEFAULT_FILLER, FILLERS, INTERPOLATE, Forecast, fill, interpolate
from kinecast.codec.identity import stream_identity
from kinecast.codec.layers import LayeredDecoder, keep_layers, stream_decoder
from kinecast.codec.packets import EXTENDED, REFERENCES, Header, MotionPacket, ReferenceChunk
from kinecast.codec.profiles import GENERIC, Profile, generic_profile, load_profile
from kinecast.codec.quantizer import Layout
from kinecast.codec.schedule import Present
from kinecast.codec.stream import BodyUnit, PictureAssembler, StreamReader, code_picture, open_picture, write_stream
from kinecast.codec.times import FrameClock, TimesUnit
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import CLIP_OUTPUTS, STREAM_OUTPUTS, atomic_path, check_output, existing_file
from kinecast.media.footage import Footage, footage
from kinecast.media.sound import clip_sound
from kinecast.media.video import VideoWriter, to_tensor, to_uint8
from kinecast.motion import Motion

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone


def encode_clip(
    backbone: "Backbone",
    clip: str | Path,
    output: str | Path,
    options: EncodeOptions | None = None,
    progress: Progress = lambda stage, frames: None,
) -> dict[str, Any]:
    """Encode a clip: its first frame as the reference picture, and motion; returns sizes and rates.

    Where the frame rate is not constant, the frames' times travel too, and if asked for, sound.

    Raises:
        KinecastError: unreadable input, a number out of range, or an output that cannot be written.
    """
    options = options or EncodeOptions()
    check_output(output, STREAM_OUTPUTS, "motion stream", [clip])
    layouts = partial(layout_for_quality, backbone.unflatten(torch.empty(0, backbone.motion_dim)))
    layout = layouts(DEFAULT_QUALITY if options.quality is None else options.quality)
    tables = profile_named(options.profile, options.model_name, layout)
    seen = footage(clip, backbone.frame_size, options.crop, options.fps, options.limit, true_fps=options.true_fps)
    rate = Fraction(seen.rate).limit_denominator(1001 if seen.rate > 1 else 1_000_000)
    started = time.perf_counter()
    sound = _sound_of(clip, options)
    header = Header(
        layout,
        (rate.numerator, rate.denominator),
        backbone.frame_size,
        stream_identity(backbone),
        options.model_name,
        tables.name,
        tables.fingerprint(),
        options.filler[0],
    )
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        sending: Beside
        facts: dict[str, Any] = {}
        if options.layers is not None:
            sending, sizes, facts = encode_layered(backbone, seen, file, header, options, sound, progress)
        elif options.kbps is None:
            sending, sizes = _encode_plain(backbone, seen, file, header, options, sound, progress)
        else:
            sending, sizes, facts = encode_within(backbone, seen, file, header, options, sound, progress)
    report = {
        "frames": sending.frames,
        "frames_sent": sending.sent,
        "frames_without_face": sending.absent,
        "fps": float(rate) if seen.constant else sending.frames / sending.seconds,
        "constant_rate": seen.constant,
        "profile": tables.name,
        **facts,
        **sizes,
        **_rates(sizes, sending.seconds),
        "seconds": round(time.perf_counter() - started, 3),
    }
    _warn_of_budget(output, options.kbps, report)
    return report


def _encode_plain(
    backbone: "Backbone",
    seen: Footage,
    file: BinaryIO,
    header: Header,
    options: EncodeOptions,
    sound: SoundWriter | None,
    progress: Progress,
) -> tuple[Beside, dict[str, int]]:
    """Encode every frame by the header's layout, from one picture, as the frames come."""
    sending = Sending(backbone, seen, sound, progress)
    data, mime = code_picture(to_uint8(sending.picture)[0], options.picture_quality)
    schedule = Present(lambda: sending.present) if backbone.needs_face else None
    packing = options.packing if schedule is None else replace(options.packing, skips=True)
    if sending.extended:
        header = replace(header, version=EXTENDED)
    tables = profile_named(options.profile, options.model_name, header.layout)
    packets = encode_motion(sending.vectors(), header.layout, tables, packing, schedule)
    sizes = write_stream(file, header, data, mime, sending.units(packets))
    if sending.extended:  # absences come up on the way
        file.seek(0)
        file.write(bytes(replace(header, version=EXTENDED)))
    return sending, sizes


def _warn_of_budget(output: str | Path, kbps: float | None, report: dict[str, Any]) -> None:
    """Say so where even the coarsest stream is above the budget."""
    found = report["total_kbps"] - report["sound_kbps"]
    if kbps is not None and found > 1.05 * kbps:
        warnings.warn(
            KinecastWarning(
                f"{output}: expected a budget that the smallest picture and the coarsest motion fit in, found {kbps:g} "
                f"kbps, and {found:.2f} needed for {report['frames']} frames: it is exceeded"
            ),
            stacklevel=3,
        )


def _rates(sizes: dict[str, int], seconds: float) -> dict[str, float]:
    """Return the rates of a stream's parts, in kbps, from their sizes in bytes."""
    motion = {"motion": sizes["payload_bytes"] + sizes["overhead_bytes"]}
    beside = {part: sizes[f"{part}_bytes"] for part in ("overhead", "times", "sound")}
    parts = motion | beside | {"total": sum(sizes.values())}
    return {f"{part}_kbps": 8 * size / seconds / 1000 for part, size in parts.items()}


def _sound_of(clip: str | Path, options: EncodeOptions) -> SoundWriter | None:
    if options.sound_kbps is None:
        return None
    source = clip_sound(clip)
    if source is None:
        warnings.warn(KinecastWarning(f"{clip}: it has no sound to send"), stacklevel=3)
        return None
    return SoundWriter(source, options.sound_kbps)


def decode_clip(
    backbone: "Backbone",
    stream: str | Path,
    output: str | Path,
    quality: int = 18,
    progress: Progress = lambda stage, frames: None,
    filler: Callable[[str], Forecast | None] = FILLERS.get,
    interpolated: bool = False,
    sound: bool = True,
    layers: int | None = None,
) -> dict[str, Any]:
    """Render the clip of a .kcm file, with its sound if it has any and `sound` is set.

    Damage is skipped, with a warning. Frames that it hits, and those that the sender left out, are filled by what
    `filler` gives for the name in the header, or interpolated, as that may say. Where it gives None they are filled by
    `damped`, with a warning: the name is advice. While the sender saw no face, the last picture is held. Each frame is
    drawn from the picture that the sender chose for it, or, where that did not come, from the one before. With
    `layers` it is what a receiver of only so many layers sees.

    Raises:
        KinecastError: not a .kcm file, one of another model or version, or one without picture or motion.
    """
    path = existing_file(stream, "motion stream (.kcm)")
    check_output(output, CLIP_OUTPUTS, "clip", [path])
    with path.open("rb") as file:
        reader = StreamReader(file)
        header, units = reader.header, reader.units()
        if layers is not None:
            header, units = keep_layers(header, units, layers)
        check_model(header, backbone, stream_identity(backbone), str(path))
        decoder = stream_decoder(header, profile_for(header))
        forecast = None if interpolated else filler(header.filler)
        if forecast is None and not interpolated and header.filler != INTERPOLATE:
            forecast = _usual(header.filler, path)
        drawer = Drawer(backbone, header, path)
        drawer.start(units)
        clock, absent = FrameClock(header.rate), 0
        with VideoWriter(output, Fraction(*header.rate), quality=quality) as writer:
            shown = frames_of(drawer.watch(units), decoder, clock)
            shown = interpolate(shown) if forecast is None else fill(shown, forecast)
            for frames in _batches(shown):
                if not writer.frames_written and sound and header.version >= EXTENDED:
                    writer.sound = stream_sound(path, clock.start(frames[0].number))
                # Also where the first times were lost: later ones may come.
                edges = clock.edges([frame.number for frame in frames]) if header.version >= EXTENDED else None
                writer.write(drawer.draw(frames), edges)
                absent += sum(frame.absent for frame in frames)
                progress("decode", len(frames))
            written = writer.frames_written
    if drawer.missed or drawer.damaged:
        warnings.warn(
            KinecastWarning(
                f"{path}: expected all pictures whole, found {drawer.missed + drawer.damaged} missing or damaged: "
                "frames are drawn from others"
            ),
            stacklevel=2,
        )
    if reader.skipped:
        warnings.warn(
            KinecastWarning(
                f"{path}: {reader.skipped} damaged bytes were skipped, {decoder.losses.concealed} frames concealed"
            ),
            stacklevel=2,
        )
    fps = written / clock.seconds if clock.used else header.fps
    return {
        "frames": written,
        "fps": fps,
        "layers": 1 + len(header.layers),
        "frames_without_face": absent,
        "skipped_bytes": reader.skipped,
        **vars(decoder.losses),
    }


def read_motion(backbone: "Backbone", stream: str | Path) -> tuple[Tensor, Motion]:
    """Return the picture, (1, 3, H, W) in [0, 1], and the motion of a .kcm file, to animate any source.

    Frames that the sender left out, or that damage hit, are interpolated; those in which it saw no face are not valid.

    Raises:
        KinecastError: as `decode_clip`.
    """
    path = existing_file(stream, "motion stream (.kcm)")
    with path.open("rb") as file:
        reader = StreamReader(file)
        header = reader.header
        check_model(header, backbone, stream_identity(backbone), str(path))
        units = reader.units()
        picture = first_picture(units, header, path)
        clock = FrameClock(header.rate)
        vectors, edges, valid = list[np.ndarray](), list[np.ndarray](), list[bool]()
        for frame in interpolate(frames_of(units, stream_decoder(header, profile_for(header)), clock)):
            vectors.append(frame.vector)
            edges.append(clock.edges([frame.number]))
            valid.append(not frame.absent)
    if not vectors:
        raise KinecastError(f"{path}: expected at least one frame of motion, found none: copy it again")
    motion = backbone.unflatten(torch.from_numpy(np.stack(vectors).astype(np.float32)))
    shown = torch.tensor(valid)
    motion = replace(motion, fps=header.fps, frame_size=backbone.frame_size, clip=path.name, valid=shown)
    if clock.used:
        begins, ends = torch.from_numpy(np.array(edges)).T
        motion = replace(motion, fps=len(motion) / clock.seconds, times=begins, end=float(ends[-1]))
    return to_tensor(picture[None]), motion


def header_size(backbone: "Backbone", layout: Layout, model_name: str = "face-128") -> int:
    """Return the bytes of a stream's header."""
    return len(bytes(Header(layout, (30, 1), backbone.frame_size, model_name=model_name, profile=model_name)))


def profile_for(header: Header) -> Profile:
    """Return the profile that a header names.

    Raises:
        KinecastError: it is not bundled, or has other numbers.
    """
    layout, name = header.layout, header.profile
    profile = generic_profile(layout) if name == GENERIC else load_profile(name, layout)
    if profile.fingerprint() != header.fingerprint:
        raise KinecastError(
            f"codec profile {name!r}: expected fingerprint {header.fingerprint.hex()} as in the stream, found "
            f"{profile.fingerprint().hex()}: use the version of kinecast that wrote the stream"
        )
    return profile


def check_model(header: Header, backbone: "Backbone", identity: bytes, where: str) -> None:
    """Check that a backbone, whose `stream_identity` is given, is the one that a stream was encoded with.

    Raises:
        KinecastError: it is another.
    """
    if identity != header.model:
        raise KinecastError(
            f"{where}: expected the model {header.model_name or '?'} ({header.model.hex()[:12]}...) that encoded "
            f"it, found one of {identity.hex()[:12]}...: name the right one with --model"
        )
    if header.layout.dim != backbone.motion_dim or tuple(header.frame_size) != tuple(backbone.frame_size):
        raise KinecastError(
            f"{where}: expected {backbone.motion_dim} numbers per frame at {backbone.frame_size}, found "
            f"{header.layout.dim} at {header.frame_size}: it is damaged"
        )


def _usual(name: str, path: Path) -> Forecast:
    """Say that a filler of this name is not to be had; returns the default one."""
    warnings.warn(
        KinecastWarning(
            f"{path}: expected a known filler, found {name!r}: skipped or lost frames are concealed by {DEFAULT_FILLER}"
        ),
        stacklevel=3,
    )
    return FILLERS[DEFAULT_FILLER]


def first_picture(units: Iterator[BodyUnit], header: Header, path: Path) -> np.ndarray:
    """Return the first reference picture among a stream's units, uint8 (H, W, 3), which are read as far as that.

    Raises:
        KinecastError: there is none before the motion, or it cannot be decoded.
    """
    assembler = PictureAssembler()
    for unit in units:
        if isinstance(unit, MotionPacket):
            break
        if isinstance(unit, ReferenceChunk) and (whole := assembler.push(unit)) is not None:
            return open_picture(whole[2], header.frame_size, header.version >= REFERENCES)
    raise KinecastError(f"{path}: expected a whole reference picture before the motion, found none: copy it again")


def frames_of(
    units: Iterator[BodyUnit], decoder: MotionDecoder | LayeredDecoder, clock: FrameClock
) -> Iterator[DecodedFrame]:
    """Yield the frames of a stream's motion packets; their times go to the clock, absent ones are marked."""
    absences = Absences()

    def marked(frames: list[DecodedFrame]) -> Iterator[DecodedFrame]:
        return (replace(frame, absent=True) if absences.covers(frame.number) else frame for frame in frames)

    for unit in units:
        if isinstance(unit, MotionPacket):
            yield from marked(decoder.push(unit))
        elif isinstance(unit, TimesUnit):
            clock.take(unit)
        elif isinstance(unit, AbsenceUnit):
            absences.take(unit)
    yield from marked(decoder.flush())


def _batches(frames: Iterator[DecodedFrame]) -> Iterator[list[DecodedFrame]]:
    while batch := list(islice(frames, BATCH)):
        yield batch
