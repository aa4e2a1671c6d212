"""The driving of a portrait: the motion of a clip, a motion file or a stream of frames, with times and sound."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.apps.blendshape_driving import TABLE, load_motion
from kinecast.apps.extraction import Progress, check_motion, detect_motion
from kinecast.apps.portrait.inputs import as_picture
from kinecast.apps.stream.clips import read_motion
from kinecast.apps.stream.gfv.clips import read_gfv
from kinecast.apps.stream.gfv.reading import carries_gfv
from kinecast.apps.stream.sound import stream_sound
from kinecast.errors import KinecastError
from kinecast.media.footage import Footage, footage
from kinecast.media.framing import centred
from kinecast.media.pictures import to_tensor
from kinecast.media.sound import SoundSource, clip_sound
from kinecast.media.video import DEFAULT_FPS, probe
from kinecast.models.base import Backbone
from kinecast.motion import Motion

MOTION_FILE, STREAM_FILE = ".npz", ".kcm"
MOTION_SUFFIXES = (MOTION_FILE, STREAM_FILE, TABLE)
_LARGEST_SIDE = 1024  # pixels of a driving frame in face detection


@dataclass(frozen=True)
class Reading:
    """How a driving clip is read.

    Attributes:
        crop: crop of the frames, a policy of `kinecast.media.framing`; None lets the backbone choose.
        fps: resample to this constant rate.
        true_fps: the true frame rate, if the file's times are wrong.
        limit: maximum number of frames.
        start: start of the clip, in seconds.
        end: end of the clip, in seconds.
        smooth: filter jitter (One Euro).
    """

    crop: str | None = None
    fps: float | None = None
    true_fps: float | None = None
    limit: int | None = None
    start: float = 0.0
    end: float | None = None
    smooth: bool = False


@dataclass(frozen=True)
class Drive:
    """Motion of T frames, with display times and sound.

    Attributes:
        motion: T frames.
        fps: their rate, the mean one where they have times.
        edges: (T + 1,) seconds between which they are shown, None for a constant rate.
        sound: from the first frame on.
    """

    motion: Motion
    fps: float
    edges: np.ndarray | None = None
    sound: SoundSource | None = None


def clip_drive(
    backbone: Backbone,
    clip: str | Path,
    reading: Reading,
    relative: bool = True,
    sound: bool = True,
    progress: Progress = lambda stage, frames: None,
) -> Drive:
    """Detect the motion of a clip, streaming.

    Args:
        backbone: detects.
        clip: whatever `kinecast.media.video.read_frames` reads.
        reading: how.
        relative: whether only its changes count, so that whole frames may be used.
        sound: whether to keep the sound.
        progress: called with ("detect", frames done since the last call).

    Raises:
        KinecastError: unreadable, an option out of range, or no face where the backbone needs one.
    """
    seen = driving_footage(backbone, clip, reading, relative)
    motion = detect_motion(backbone, seen, progress, reading.smooth)
    edges = None if motion.times is None else motion.edges()
    return Drive(motion, motion.fps or seen.rate, edges, clip_sound(clip, reading.start) if sound else None)


def driving_footage(backbone: Backbone, clip: str | Path, reading: Reading, relative: bool = True) -> Footage:
    """Return the frames of a clip in the crop that suits the backbone.

    A backbone that finds faces itself gets whole frames if framing does not matter, so that a moving head is never
    cropped; all others get a crop around the face in the first frames.
    """
    size: tuple[int, int] | None = backbone.frame_size
    crop = reading.crop
    if crop is None and relative and backbone.any_size:
        crop, size = "none", _whole(clip)
    return footage(clip, size, crop or "face", reading.fps, reading.limit, reading.true_fps, reading.start, reading.end)


def _whole(clip: str | Path) -> tuple[int, int] | None:
    """Return the size of a clip's frames, reduced if larger than a face needs; None keeps their own."""
    info = probe(clip)
    scale = _LARGEST_SIDE / max(info.height, info.width)
    return None if scale >= 1 else (max(round(info.height * scale), 1), max(round(info.width * scale), 1))


def is_motion(path: str | Path) -> bool:
    """Return whether a file holds motion: by its suffix, or as video with GFV messages."""
    return Path(path).suffix.lower() in MOTION_SUFFIXES or carries_gfv(path)


def motion_drive(backbone: Backbone, path: Path, reading: Reading, sound: bool = True) -> Drive:
    """Read motion (.npz), blendshapes (.csv), a motion stream (.kcm) or GFV video, without their pictures.

    Raises:
        KinecastError: damaged, of another model, or an option that needs frames.
    """
    heard: SoundSource | None = None
    if path.suffix.lower() == STREAM_FILE:
        _, motion = read_motion(backbone, path)
        if sound and reading.start == 0:
            heard = stream_sound(path, float(motion.edges()[0]))
    elif path.suffix.lower() in MOTION_SUFFIXES:
        motion = load_motion(backbone, path)
    else:
        _, motion = read_gfv(backbone, path)
        heard = clip_sound(path, reading.start) if sound else None
    return replace(given_drive(backbone, motion, reading), sound=heard)


def given_drive(backbone: Backbone, motion: Motion, reading: Reading) -> Drive:
    """Return previously detected motion with its display times.

    Raises:
        KinecastError: motion of another model, or of no frames, or an option that needs frames.
    """
    if reading.smooth:
        raise KinecastError("smooth: expected a clip as --driving, found motion: extract it again, or drop --smooth")
    check_motion(backbone, motion)
    if reading.true_fps is not None:
        motion = replace(motion, fps=reading.true_fps, times=None, end=None)
    motion = motion if motion.fps or motion.times is not None else replace(motion, fps=DEFAULT_FPS)
    motion = motion if reading.fps is None else motion.at_rate(reading.fps)
    if reading.start or reading.end is not None:
        motion = _part(motion, reading.start, reading.end)
    motion = motion[: reading.limit]
    return Drive(motion, motion.fps or DEFAULT_FPS, None if motion.times is None else motion.edges())


def _part(motion: Motion, start: float, end: float | None) -> Motion:
    edges = motion.edges() - motion.edges()[0]
    middles = torch.from_numpy((edges[1:] + edges[:-1]) / 2)
    inside = (middles >= start) & (middles < (float("inf") if end is None else end))
    if not inside.any():
        raise KinecastError(f"start: expected seconds within the {edges[-1]:.2f} s of motion, found {start:g}")
    part = motion[inside]
    return part if part.times is None else replace(part, times=part.times - part.times[0], end=_end(part))


def _end(part: Motion) -> float | None:
    return None if part.end is None or part.times is None else part.end - float(part.times[0])


def stream_motion(backbone: Backbone, frames: Iterable[Any], smooth: float | None = None) -> Iterator[Motion]:
    """Yield the motion (1) of each frame of a stream as it comes, causally.

    Args:
        backbone: detects.
        frames: as accepted by `as_picture`.
        smooth: frames per second, for a filter of jitter.

    Raises:
        KinecastError: no frames, or no face in the first one if the backbone needs one.
    """
    detect = backbone.follow(smooth)
    for frame in frames:
        picture = as_picture(frame)
        seen = to_tensor(picture if backbone.any_size else centred(picture, backbone.frame_size))
        yield detect(seen.to(backbone.device)).to("cpu")
