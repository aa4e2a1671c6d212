"""From a clip to a .kcm file and back, in constant memory, with any backbone."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.stream.sending import BATCH, Progress, Sending
from kinecast.apps.stream.sound import SoundWriter, stream_sound
from kinecast.codec.absences import Absences, AbsenceUnit
from kinecast.codec.decoder import DecodedFrame, MotionDecoder
from kinecast.codec.encoder import FILE, Packing, encode_motion
from kinecast.codec.filling import DEFAULT_FILLER, FILLERS, Forecast, damped, fill, interpolate
from kinecast.codec.identity import stream_identity
from kinecast.codec.packets import EXTENDED, VERSION, Header, MotionPacket, ReferenceChunk
from kinecast.codec.profiles import (
    GENERIC,
    Profile,
    check_profile_name,
    generic_profile,
    load_profile,
    profile_names,
)
from kinecast.codec.quantizer import Component, Layout, to_fine
from kinecast.codec.schedule import ClosedLoop, Present, RateControl, Render, Schedule, in_pictures, in_steps
from kinecast.codec.stream import BodyUnit, PictureAssembler, StreamReader, code_picture, open_picture, write_stream
from kinecast.codec.times import FrameClock, TimesUnit
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import CLIP_OUTPUTS, STREAM_OUTPUTS, atomic_path, check_output, existing_file
from kinecast.media.footage import footage
from kinecast.media.framing import check_reading
from kinecast.media.sound import check_sound_kbps, clip_sound
from kinecast.media.video import VideoWriter, to_tensor, to_uint8
from kinecast.motion import Motion

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone

QUALITIES = range(1, 10)
DEFAULT_QUALITY = 5
AUTO_PROFILE = "auto"
TERMS = "keypoints", "pictures"  # of the distance by which a closed loop decides


def check_quality(quality: int) -> None:
    """Check a quality.

    Raises:
        KinecastError: it is not 1 to 9.
    """
    if quality not in QUALITIES:
        raise KinecastError(f"quality: expected 1 (smallest) to 9 (finest), found {quality}")


def layout_for_quality(motion: Motion, quality: int = DEFAULT_QUALITY) -> Layout:
    """Return the layout of a motion at a quality: steps of 2**-(4.5 + quality/2), times those of its spec.

    Raises:
        KinecastError: the quality is not 1 to 9.
    """
    check_quality(quality)
    step = 2.0 ** -(4.5 + quality / 2)
    present = [each for each in motion.spec if each.name in motion.components]
    # Numbers of one group are interleaved by keypoint; several groups are parts of one vector, of one "keypoint".
    axis = 2 if len(motion.spec.groups) == 1 else 1
    keypoints = motion.components[present[0].name].shape[1] if axis == 2 else 1
    widths = [int(np.prod(motion.components[each.name].shape[axis:])) for each in present]
    parts = [Component(e.name, w, to_fine(step * e.step)) for e, w in zip(present, widths, strict=True)]
    return Layout(motion.backbone, keypoints, tuple(parts))


@dataclass(frozen=True)
class EncodeOptions:
    """Options for encoding a clip.

    `quality` (1 to 9) are the steps, of which a higher number has finer ones. `rate_kbps` is a budget for motion
    packets: the least important frames are skipped until it is met. `filler` is what a receiver fills them with: a name
        for the header, and the forecast. What is noticed is measured on `terms`:
    "keypoints", or "pictures", for which each frame is drawn twice. `picture_quality` is WebP's. `fps` resamples to a
    constant rate, `true_fps` is that of a clip whose times are wrong, `limit` the most frames. `sound_kbps` is what the
    clip's sound may cost; None leaves it out.
    """

    quality: int = DEFAULT_QUALITY
    rate_kbps: float | None = None
    filler: tuple[str, Forecast] = ("damped", damped)
    picture_quality: int = 60
    profile: str = AUTO_PROFILE
    model_name: str = ""
    crop: str = "center"
    fps: float | None = None
    limit: int | None = None
    packing: Packing = FILE
    terms: str = TERMS[0]
    true_fps: float | None = None
    sound_kbps: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.picture_quality <= 100:
            raise KinecastError(f"picture quality: expected 1 to 100, found {self.picture_quality}")
        check_reading(self.crop, self.fps, self.limit)
        check_reading(fps=self.true_fps)
        if self.sound_kbps is not None:
            check_sound_kbps(self.sound_kbps)
        if self.rate_kbps is not None and not 0 < self.rate_kbps <= 10_000:
            raise KinecastError(f"rate: expected a budget above 0 and at most 10000 kbps, found {self.rate_kbps}")
        check_quality(self.quality)
        if self.profile != AUTO_PROFILE:
            check_profile_name(self.profile)
        if self.terms not in TERMS:
            raise KinecastError(f"closed loop: expected distances of {' or '.join(TERMS)}, found {self.terms!r}")


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
    layout = layout_for_quality(backbone.unflatten(torch.empty(0, backbone.motion_dim)), options.quality)
    tables = profile_named(options.profile, options.model_name, layout)
    seen = footage(clip, backbone.frame_size, options.crop, options.fps, options.limit, true_fps=options.true_fps)
    rate = Fraction(seen.rate).limit_denominator(1001 if seen.rate > 1 else 1_000_000)
    started = time.perf_counter()
    sending = Sending(backbone, seen, _sound_of(clip, options), progress)
    data, mime = code_picture(to_uint8(sending.picture)[0], options.picture_quality)
    schedule = _schedule(backbone, options, data, layout, float(rate))
    if backbone.needs_face:
        schedule = Present(lambda: sending.present, schedule)
    packing = options.packing if schedule is None else replace(options.packing, skips=True)
    header = Header(
        layout,
        (rate.numerator, rate.denominator),
        backbone.frame_size,
        stream_identity(backbone),
        options.model_name,
        tables.name,
        tables.fingerprint(),
        options.filler[0],
        EXTENDED if sending.extended else VERSION,
    )
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        packets = encode_motion(sending.vectors(), layout, tables, packing, schedule)
        sizes = write_stream(file, header, data, mime, sending.units(packets))
        if sending.extended:  # absences come up on the way
            file.seek(0)
            file.write(bytes(replace(header, version=EXTENDED)))
    return {
        "frames": sending.frames,
        "frames_sent": sending.sent,
        "frames_without_face": sending.absent,
        "fps": float(rate) if seen.constant else sending.frames / sending.seconds,
        "constant_rate": seen.constant,
        "profile": tables.name,
        **sizes,
        **_rates(sizes, sending.seconds),
        "seconds": round(time.perf_counter() - started, 3),
    }


def _schedule(
    backbone: "Backbone", options: EncodeOptions, picture: bytes, layout: Layout, fps: float
) -> Schedule | None:
    """Return what leaves frames out to keep a budget, None without one; `picture` is the coded one."""
    if options.rate_kbps is None:
        return None
    distance = in_steps(layout)
    if options.terms == "pictures":
        distance = in_pictures(renderer(backbone, open_picture(picture, backbone.frame_size)))
    return RateControl(ClosedLoop(options.filler[1], distance, 0.0), options.rate_kbps, fps)


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


def renderer(backbone: "Backbone", picture: np.ndarray) -> Render:
    """Return what draws motion vectors as a receiver of the reference picture, uint8 (H, W, 3), does."""
    source = to_tensor(picture[None]).to(backbone.device)
    state, source_motion = backbone.encode_source(source), backbone.detect(source)

    def render(vectors: np.ndarray) -> np.ndarray:
        motion = backbone.unflatten(torch.from_numpy(vectors.astype(np.float32))).to(backbone.device)
        return to_uint8(backbone.animate(state, source_motion, motion).cpu())

    return render


def decode_clip(
    backbone: "Backbone",
    stream: str | Path,
    output: str | Path,
    quality: int = 18,
    progress: Progress = lambda stage, frames: None,
    filler: Callable[[str], Forecast | None] = FILLERS.get,
    interpolated: bool = False,
    sound: bool = True,
) -> dict[str, Any]:
    """Render the clip of a .kcm file, with its sound if it has any and `sound` is set.

    Damage is skipped, with a warning. Affected frames, and those the sender skipped, are concealed by what `filler`
    returns for the name in the header, or interpolated. If it returns None they are concealed by `damped`, with a
    warning: the name is a suggestion. While the sender saw no face, the last picture is held.

    Raises:
        KinecastError: not a .kcm file, one of another model or version, or one without picture or motion.
    """
    path = existing_file(stream, "motion stream (.kcm)")
    check_output(output, CLIP_OUTPUTS, "clip", [path])
    with path.open("rb") as file:
        reader = StreamReader(file)
        header = reader.header
        check_model(header, backbone, stream_identity(backbone), str(path))
        decoder = MotionDecoder(header.layout, profile_for(header))
        forecast = None if interpolated else _advised(filler, header.filler, path)
        units = reader.units()
        picture = first_picture(units, header, path)
        source = to_tensor(picture[None]).to(backbone.device)
        state, source_motion = backbone.encode_source(source), backbone.detect(source)
        clock, absent = FrameClock(header.rate), 0
        with VideoWriter(output, Fraction(*header.rate), quality=quality) as writer:
            shown = frames_of(units, decoder, clock)
            shown = interpolate(shown) if forecast is None else fill(shown, forecast)
            for frames in _batches(shown):
                if not writer.frames_written and sound and header.version == EXTENDED:
                    writer.sound = stream_sound(path, clock.start(frames[0].number))
                vectors = torch.from_numpy(np.stack([frame.vector for frame in frames]))
                motion = backbone.unflatten(vectors).to(backbone.device)
                # Also where the first times were lost: later ones may come.
                edges = clock.edges([frame.number for frame in frames]) if header.version == EXTENDED else None
                writer.write(backbone.animate(state, source_motion, motion).cpu(), edges)
                absent += sum(frame.absent for frame in frames)
                progress("decode", len(frames))
            written = writer.frames_written
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
        for frame in interpolate(frames_of(units, MotionDecoder(header.layout, profile_for(header)), clock)):
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


def profile_named(name: str, model_name: str, layout: Layout) -> Profile:
    """Return a profile by name; "auto" is that of the model, or of it and D numbers ("mesh-42"), or generic.

    Raises:
        KinecastError: there is none of this name, or it is of another layout.
    """
    if name == AUTO_PROFILE:
        known = profile_names()
        name = next((each for each in (f"{model_name}-{layout.dim}", model_name) if each in known), GENERIC)
    return load_profile(name, layout)


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


def _advised(filler: Callable[[str], Forecast | None], name: str, path: Path) -> Forecast:
    """Return the filler of a name; if it is unavailable, warn and return the default one."""
    forecast = filler(name)
    if forecast is not None:
        return forecast
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
            return open_picture(whole[2], header.frame_size)
    raise KinecastError(f"{path}: expected a whole reference picture before the motion, found none: copy it again")


def frames_of(units: Iterator[BodyUnit], decoder: MotionDecoder, clock: FrameClock) -> Iterator[DecodedFrame]:
    """Yield the frames of a stream's motion packets; their times go to the clock, absent ones are marked."""
    absences = Absences()

    def marked(frames: list[DecodedFrame]) -> Iterator[DecodedFrame]:
        return (replace(frame, absent=True) if absences.covers(frame.number) else frame for frame in frames)

    for unit in units:
        if isinstance(unit, MotionPacket):  # a later picture is passed over: this version draws from the first
            yield from marked(decoder.push(unit))
        elif isinstance(unit, TimesUnit):
            clock.take(unit)
        elif isinstance(unit, AbsenceUnit):
            absences.take(unit)
    yield from marked(decoder.flush())


def _batches(frames: Iterator[DecodedFrame]) -> Iterator[list[DecodedFrame]]:
    while batch := list(islice(frames, BATCH)):
        yield batch
