"""One task of a batch of portraits, wherever it runs: in this process, in others, or on a Ray cluster."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinecast.apps.animation import Clock
from kinecast.apps.backbone_worker import BackboneWorker
from kinecast.apps.portrait.driving import Drive, Progress
from kinecast.apps.portrait.job import drive_of, perform, prepared
from kinecast.apps.portrait.options import PortraitOptions, Say
from kinecast.errors import KinecastError
from kinecast.jobs.tasks import TaskResult, as_bytes
from kinecast.models.base import Backbone


@dataclass(frozen=True)
class BatchSettings:
    """What a worker needs besides its portraits and clips."""

    model: str
    device: str
    engine: str
    precision: str
    options: PortraitOptions


@dataclass(frozen=True)
class Made:
    """What became of a task: its figures, or why there are none; and what was said."""

    report: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    lines: tuple[str, ...] = ()


class LastDrive:
    """Gives the motion of a clip, and remembers that of the last one: tasks come clip by clip."""

    def __init__(self, options: PortraitOptions, progress: Progress = lambda stage, frames: None) -> None:
        self._options, self._progress = options, progress
        self._known: dict[Path, Drive] = {}

    def __call__(self, backbone: Backbone, path: Path) -> Drive:
        """Return the motion of a clip.

        Raises:
            KinecastError: unreadable, or of another model.
        """
        if path not in self._known:
            self._known.clear()
            self._known[path] = drive_of(backbone, path, self._options, self._progress)
        return self._known[path]


def make(
    backbone: Backbone,
    source: Path,
    driving: Path,
    output: Path,
    drives: LastDrive,
    options: PortraitOptions,
    progress: Progress = lambda stage, frames: None,
    say: Say = lambda line: None,
) -> Made:
    """Animate one portrait by one clip; what fails is told in what is returned."""
    clock = Clock()
    try:
        stage = prepared(backbone, source, options, clock, say)
        with clock("detect"):
            drive = drives(backbone, driving)
        return Made(perform(stage, drive, output, options, clock, progress).to_dict())
    except KinecastError as error:
        return Made(error=str(error))


class PortraitWorker(BackboneWorker):
    """Animates portraits, each to a file that comes back as bytes."""

    settings: BatchSettings

    def __init__(self, settings: BatchSettings) -> None:
        super().__init__(settings)
        self._drives = LastDrive(settings.options)

    def animate(self, source: Path, driving: Path, output: Path) -> TaskResult:
        """Make one output; the value is a `Made`."""
        lines: list[str] = []
        options = self.settings.options
        made: list[Made] = []

        def save(path: Path) -> None:
            made.append(make(self.backbone, source, driving, path, self._drives, options, say=lines.append))
            if made[0].error is not None:
                path.touch()

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = as_bytes(save, output.suffix)
        said = (*lines, *(str(warning.message) for warning in caught))
        result = Made(made[0].report, made[0].error, said)
        return TaskResult(result, {} if result.error is not None else {output: data})
