"""One portrait and what drives it, to a clip on disk, in memory that does not grow with the clip."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.animation import Clock, Report, rates
from kinecast.apps.portrait.driving import Drive, Progress, Reading, clip_drive, is_motion, motion_drive
from kinecast.apps.portrait.faces import LARGEST, chosen, described, face_option, find_faces
from kinecast.apps.portrait.inputs import as_picture
from kinecast.apps.portrait.preview import preview
from kinecast.apps.portrait.stage import Stage, set_stage
from kinecast.errors import KinecastError
from kinecast.faces import Face, Landmarker
from kinecast.files import CLIP_OUTPUTS, check_output
from kinecast.media.footage import check_part
from kinecast.media.framing import check_reading, check_size
from kinecast.media.pictures import write_image
from kinecast.media.video import VideoWriter
from kinecast.models.base import Backbone
from kinecast.models.transfer import Transfer

SQUARE = 512  # pixels of a square's side, unless another is asked for

Say = Callable[[str], None]


@dataclass(frozen=True)
class PortraitOptions:
    """How a portrait is animated.

    Attributes:
        face: whose head moves: "largest", "all", or a number from 1, counted from the left.
        square: show the square around the head instead of the whole picture.
        size: the side of that square in pixels, 512 by default; asks for a square too.
        transfer: how relative motion is applied: strengths by region, openings of eyes and lips (mesh).
        relative: take over how the driving face changes since its first frame, not where it is.
        crop: how driving frames are cut, by a policy of `kinecast.media.framing`; None is what the backbone sees best.
        fps: resample to this constant rate.
        true_fps: the true frame rate, where the file's times are wrong.
        limit: at most so many frames.
        start: seconds of the driving clip before which it is left out.
        end: seconds after which it is.
        smooth: filter what trembles (One Euro).
        sound: keep the driving clip's.
        quality: of the output, 0 (best) to 51 (smallest).
    """

    face: str | int = LARGEST
    square: bool = False
    size: int | None = None
    relative: bool = True
    transfer: Transfer = Transfer()
    crop: str | None = None
    fps: float | None = None
    true_fps: float | None = None
    limit: int | None = None
    start: float = 0.0
    end: float | None = None
    smooth: bool = False
    sound: bool = True
    quality: int = 18

    def __post_init__(self) -> None:
        if self.transfer != Transfer() and not self.relative:
            raise KinecastError("transfer: expected relative motion, which it changes, found absolute: leave one out")
        face_option(self.face)
        check_size(self.size)
        check_reading(self.crop or "face", self.fps, self.limit)
        check_reading(fps=self.true_fps)
        check_part(self.start, self.end)

    @property
    def side(self) -> int | None:
        """The side of the square that is shown; None for the whole picture."""
        return self.size or (SQUARE if self.square else None)

    @property
    def reading(self) -> Reading:
        """How the driving clip is read."""
        return Reading(self.crop, self.fps, self.true_fps, self.limit, self.start, self.end, self.smooth)


def animate_portrait(
    backbone: Backbone,
    source: Any,
    driving: str | Path,
    output: str | Path,
    options: PortraitOptions | None = None,
    progress: Progress = lambda stage, frames: None,
    say: Say = lambda line: None,
    preview_path: str | Path | None = None,
) -> Report:
    """Animate the faces of a picture by a clip or by motion, and write the result.

    Args:
        backbone: what animates.
        source: a picture, as `as_picture` takes it.
        driving: a clip, or motion (.npz, .kcm, video with GFV messages).
        output: mp4, mov, webm, mkv or gif.
        options: which faces, what is shown, which part of the clip.
        progress: called with (stage, frames done since the last call).
        say: called with lines about what was found.
        preview_path: a picture, .jpg or .png, that is written before the work, of what moves.

    Raises:
        KinecastError: unreadable input, no face in it, an output that cannot be written.
    """
    options = options or PortraitOptions()
    inputs = [driving, source] if isinstance(source, str | Path) else [driving]
    check_output(output, CLIP_OUTPUTS, "clip", inputs)
    clock = Clock()
    stage = prepared(backbone, source, options, clock, say, preview_path)
    with clock("detect"):
        drive = drive_of(backbone, driving, options, progress)
    return perform(stage, drive, output, options, clock, progress)


def prepared(
    backbone: Backbone,
    source: Any,
    options: PortraitOptions,
    clock: Clock,
    say: Say = lambda line: None,
    preview_path: str | Path | None = None,
) -> Stage:
    """Return a picture as a stage; say where its faces are, and write the preview.

    Raises:
        KinecastError: as `animate_portrait`.
    """
    with clock("encode source"):
        stage, faces, picked = staged(backbone, as_picture(source), options)
    say(described(faces, picked))
    if preview_path is not None:
        write_image(preview_path, preview(stage, picked))
        say(f"wrote {preview_path}")
    return stage


def staged(
    backbone: Backbone, picture: np.ndarray, options: PortraitOptions, faces: Sequence[Face] | None = None
) -> tuple[Stage, Sequence[Face], list[Face]]:
    """Return a picture as a stage, the faces in it from left to right, and those that move.

    Args:
        backbone: what animates.
        picture: (H, W, 3), uint8.
        options: which faces, and what is shown.
        faces: if they are known already.

    Raises:
        KinecastError: there is none, or not the one that is asked for.
    """
    faces = find_faces(picture, landmarker_of(backbone)) if faces is None else faces
    if not faces:
        raise KinecastError(
            f"source: expected a face in the {picture.shape[1]}x{picture.shape[0]} pixels, found none: choose a "
            "picture that shows one larger, or more from the front"
        )
    picked = chosen(faces, options.face)
    backbone.check_transfer(options.transfer)
    return set_stage(backbone, picture, picked, options.side, options.relative), faces, picked


def landmarker_of(backbone: Backbone) -> Landmarker:
    """Return what finds faces: the backbone's own, if it has one."""
    own = getattr(backbone, "landmarker", None)
    return own if isinstance(own, Landmarker) else Landmarker(str(backbone.device), "eager")


def drive_of(
    backbone: Backbone,
    driving: str | Path,
    options: PortraitOptions,
    progress: Progress = lambda stage, frames: None,
) -> Drive:
    """Return the motion of a clip or a motion file.

    Raises:
        KinecastError: unreadable, or of another model.
    """
    if is_motion(driving):
        return motion_drive(backbone, Path(driving), options.reading, options.sound)
    return clip_drive(backbone, driving, options.reading, options.relative, options.sound, progress)


def perform(
    stage: Stage,
    drive: Drive,
    output: str | Path,
    options: PortraitOptions,
    clock: Clock | None = None,
    progress: Progress = lambda stage, frames: None,
) -> Report:
    """Draw all frames, write them, and return the figures.

    Raises:
        KinecastError: an output that cannot be written.
    """
    clock = clock or Clock()
    with VideoWriter(output, drive.fps, quality=options.quality, sound=drive.sound) as writer:
        frames = _timed(
            stage.frames([drive.motion], drive.motion[:1] if options.relative else None, options.transfer), clock
        )
        for i, frame in enumerate(frames):
            with clock("write"):
                writer.write(frame, None if drive.edges is None else drive.edges[i : i + 2])
            progress("animate", 1)
    return _report(stage, drive, clock)


def _timed(frames: Iterator[np.ndarray], clock: Clock) -> Iterator[np.ndarray]:
    while True:
        with clock("animate"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _report(stage: Stage, drive: Drive, clock: Clock) -> Report:
    frames = len(drive.motion)
    return Report(
        mode="transfer",
        frames=frames,
        frames_sent=frames,
        fps=drive.fps,
        motion_dim=drive.motion.dim,
        rate=rates(drive.motion.dim, drive.fps, np.zeros(frames, dtype=bool), 1.0, stage.picture),
        seconds={name: round(seconds, 4) for name, seconds in clock.seconds.items()},
    )
