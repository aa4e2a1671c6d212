"""One portrait with its driving, to a clip on disk, in constant memory."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.animation import Clock, Report, transfer_report
from kinecast.apps.portrait.driving import Drive, Progress, clip_drive, is_motion, motion_drive
from kinecast.apps.portrait.faces import chosen, described, doubts, find_faces
from kinecast.apps.portrait.inputs import as_picture
from kinecast.apps.portrait.options import PortraitOptions, Say, landmarker_of
from kinecast.apps.portrait.preview import preview
from kinecast.apps.portrait.reenact import reenact, source_footage
from kinecast.apps.portrait.stage import Stage, set_stage
from kinecast.errors import KinecastError
from kinecast.faces import Face
from kinecast.files import CLIP_OUTPUTS, check_output
from kinecast.media.pictures import write_image
from kinecast.media.video import VideoWriter
from kinecast.models.base import Backbone


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
    """Animate the faces of a picture with a clip or motion, and write the result.

    Args:
        backbone: animates.
        source: a picture, as accepted by `as_picture`.
        driving: a clip, or motion (.npz, .kcm, .csv of blendshapes, video with GFV messages).
        output: mp4, mov, webm, mkv or gif.
        options: which faces, what to show, which part of the clip.
        progress: called with (stage, frames done since the last call).
        say: called with lines about what was found.
        preview_path: a picture, .jpg or .png, written before the work, that shows what will move.

    Raises:
        KinecastError: unreadable input, no face in it, an output that cannot be written.
    """
    options = options or PortraitOptions()
    inputs = [driving, source] if isinstance(source, str | Path) else [driving]
    check_output(output, CLIP_OUTPUTS, "clip", inputs)
    clock = Clock()
    if options.reenact:
        return _reenacted(backbone, source, driving, output, options, clock, progress, preview_path)
    stage = prepared(backbone, source, options, clock, say, preview_path)
    with clock("detect"):
        drive = drive_of(backbone, driving, options, progress)
    return perform(stage, drive, output, options, clock, progress)


def _reenacted(
    backbone: Backbone,
    source: Any,
    driving: str | Path,
    output: str | Path,
    options: PortraitOptions,
    clock: Clock,
    progress: Progress,
    preview_path: str | Path | None,
) -> Report:
    if not isinstance(source, str | Path):
        raise KinecastError(f"reenact: expected the path of a clip as source, found {type(source).__name__}")
    if preview_path is not None:
        raise KinecastError("preview: expected a picture as source, found --reenact: drop one")
    source_footage(source, options)  # faults are reported before the work
    with clock("detect"):
        drive = drive_of(backbone, driving, options, progress)
    return reenact(backbone, source, drive, output, options, clock, progress)


def prepared(
    backbone: Backbone,
    source: Any,
    options: PortraitOptions,
    clock: Clock,
    say: Say = lambda line: None,
    preview_path: str | Path | None = None,
) -> Stage:
    """Return a picture as a stage; report the positions of its faces, and write the preview.

    Raises:
        KinecastError: as `animate_portrait`.
    """
    with clock("encode source"):
        stage, faces, picked = staged(backbone, as_picture(source), options)
    for line in (described(faces, picked), *doubts(faces, picked)):
        say(line)
    if preview_path is not None:
        write_image(preview_path, preview(stage, picked))
        say(f"wrote {preview_path}")
    return stage


def staged(
    backbone: Backbone, picture: np.ndarray, options: PortraitOptions, faces: Sequence[Face] | None = None
) -> tuple[Stage, Sequence[Face], list[Face]]:
    """Return a picture as a stage, the faces in it from left to right, and the animated ones.

    Args:
        backbone: what animates.
        picture: (H, W, 3), uint8.
        options: which faces, and what to show.
        faces: the faces, if already known.

    Raises:
        KinecastError: no face, or not the requested one.
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
        return motion_drive(backbone, Path(driving), options, options.sound)
    return clip_drive(backbone, driving, options, options.relative, options.sound, progress)


def perform(
    stage: Stage,
    drive: Drive,
    output: str | Path,
    options: PortraitOptions,
    clock: Clock | None = None,
    progress: Progress = lambda stage, frames: None,
) -> Report:
    """Render and write all frames, and return the report.

    Raises:
        KinecastError: an output that cannot be written.
    """
    clock = clock or Clock()
    with VideoWriter(output, drive.fps, quality=options.quality, sound=drive.sound) as writer:
        frames = _timed(
            stage.frames([drive.motion], drive.motion if options.relative else None, options.transfer), clock
        )
        for i, frame in enumerate(frames):
            with clock("write"):
                writer.write(frame, None if drive.edges is None else drive.edges[i : i + 2])
            progress("animate", 1)
    absent = int((~drive.motion.valid_frames()).sum())
    return transfer_report(len(drive.motion), drive.fps, drive.motion.dim, stage.picture, clock, absent)


def _timed(frames: Iterator[np.ndarray], clock: Clock) -> Iterator[np.ndarray]:
    while True:
        with clock("animate"):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
