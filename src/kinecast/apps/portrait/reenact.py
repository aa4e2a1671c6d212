"""A clip as source: every frame is a portrait, and its head adds the driving motion to its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinecast.apps.animation import Clock, Report, transfer_report
from kinecast.apps.portrait.driving import Drive, Progress
from kinecast.apps.portrait.faces import ALL, LARGEST
from kinecast.apps.portrait.options import PortraitOptions, landmarker_of
from kinecast.apps.portrait.stage import set_stage
from kinecast.errors import KinecastError
from kinecast.faces.tracking import Tracker
from kinecast.media.footage import Footage, footage
from kinecast.media.resampling import Shown
from kinecast.media.video import VideoWriter
from kinecast.models.base import Backbone


def source_footage(source: str | Path, options: PortraitOptions) -> Footage:
    """Return the frames of a source clip.

    Raises:
        KinecastError: unreadable, or options for a picture.
    """
    for name, given in (("square", options.square), ("size", options.size), ("absolute", not options.relative)):
        if given:
            raise KinecastError(f"reenact: expected whole frames and relative motion, found --{name}: drop one")
    if options.face == ALL:
        raise KinecastError("reenact: expected one face, found --face all: choose the largest, or a number")
    return footage(source, None, "none", limit=options.limit)


def reenacted(backbone: Backbone, clip: Footage, drive: Drive, options: PortraitOptions) -> Iterator[Shown[np.ndarray]]:
    """Yield the frames of a source clip, each animated by the driving motion at its time.

    The driving face's changes are added to the head's own pose and expression. Frames without a face are unchanged. The
    clip ends with the motion, if that is shorter.

    Args:
        backbone: animates, and finds faces itself.
        clip: from `source_footage`.
        drive: the driving motion to add.
        options: whose face, and how motion is applied.

    Yields:
        Start and end of each frame's display in seconds, and the frame.

    Raises:
        KinecastError: no face in any frame.
    """
    which = "nearest" if options.face == LARGEST else options.face
    tracker, initial = Tracker(landmarker_of(backbone), which), drive.motion[:1]
    ends = drive.motion.edges() - drive.motion.edges()[0]
    found = False
    for begins, until, picture in clip.shown():
        index = int(np.searchsorted(ends, begins + 1e-6, side="right")) - 1
        if index >= len(drive.motion):
            break
        face = tracker(picture)
        if face is not None:
            found = True
            stage = set_stage(backbone, picture, [face])
            picture = next(stage.frames([drive.motion[index]], initial, options.transfer))
        yield begins, until, picture
    if not found:
        raise KinecastError(
            f"{clip.info.path}: expected a face in its frames, found none: choose a clip that shows one "
            "larger, or more from the front"
        )


def reenact(
    backbone: Backbone,
    source: str | Path,
    drive: Drive,
    output: str | Path,
    options: PortraitOptions,
    clock: Clock,
    progress: Progress = lambda stage, frames: None,
) -> Report:
    """Write a source clip with the driving motion added, and with the driving clip's sound.

    Raises:
        KinecastError: as `reenacted`, or an output that cannot be written.
    """
    clip, frames = source_footage(source, options), 0
    first: np.ndarray | None = None
    with VideoWriter(output, clip.rate, quality=options.quality, sound=drive.sound) as writer, clock("animate"):
        for begins, until, frame in reenacted(backbone, clip, drive, options):
            first = frame if first is None else first
            writer.write(frame, None if clip.constant else np.array([begins, until]))
            progress("animate", 1)
            frames += 1
    assert first is not None
    return transfer_report(frames, clip.rate, drive.motion.dim, first, clock)
