"""Many portraits or many driving clips, one output each: outputs already made with the same settings are skipped.

Beside each output `x.mp4`, `x.json` holds its inputs, settings and report. Both are written atomically, so that a batch
resumes after an interruption.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinecast.apps.backbone_worker import model_files
from kinecast.apps.portrait.batch_worker import LastDrive, Made, make
from kinecast.apps.portrait.driving import MOTION_SUFFIXES, Progress
from kinecast.apps.portrait.options import PortraitOptions, Say
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, check_distinct, check_folder, make_folder
from kinecast.jobs import tasks as jobs
from kinecast.jobs.pool import WorkerPool
from kinecast.media.pictures import PICTURE_SUFFIXES
from kinecast.media.sources import by_name
from kinecast.models.base import Backbone

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".gif")
_SIDECAR = ".json"


@dataclass(frozen=True)
class Task:
    """One output of a batch, with its inputs."""

    source: Path
    driving: Path
    output: Path

    @property
    def sidecar(self) -> Path:
        """The sidecar file with inputs and settings."""
        return self.output.with_suffix(_SIDECAR)


def is_batch(source: Path | None, driving: Path) -> bool:
    """Return whether inputs name several: a folder of pictures as source, or one with clips or motion as driving."""
    return (source is not None and source.is_dir()) or bool(_drivings(driving))


def plan(source: Path, driving: Path, folder: Path, suffix: str = ".mp4") -> list[Task]:
    """Return a task for each pair of a source and a driving clip, all of one driving clip together.

    Outputs are named by the file of the folder, or of both: SOURCE_DRIVING.mp4.

    Raises:
        KinecastError: nothing to animate, or two outputs of one name.
    """
    sources = _files(source, (*PICTURE_SUFFIXES, *CLIP_SUFFIXES)) if source.is_dir() else [source]
    drivings = _drivings(driving) or [driving]
    if not sources:
        raise KinecastError(f"{source}: expected a folder of pictures, found none in it: name another folder")
    tasks: dict[str, Task] = {}
    for clip in drivings:
        for picture in sources:
            names = [picture.stem] * source.is_dir() + [clip.stem] * (clip is not driving)
            name = "_".join(names)
            if name in tasks:
                raise KinecastError(
                    f"{folder}: expected outputs of different names, found two of {name}{suffix}: rename an input"
                )
            tasks[name] = Task(picture, clip, folder / f"{name}{suffix}")
    return list(tasks.values())


def run_batch(
    backbone: Backbone,
    tasks: Sequence[Task],
    options: PortraitOptions,
    model: str,
    overwrite: bool = False,
    progress: Progress = lambda stage, frames: None,
    say: Say = lambda line: None,
    pool: WorkerPool | None = None,
) -> int:
    """Do all unfinished tasks, and return their number.

    A failed task is reported, and the others continue.

    Args:
        backbone: what animates.
        tasks: of `plan`.
        options: of all.
        model: the backbone's name, part of the outputs' key.
        overwrite: replace outputs made with different settings.
        progress: as of `animate_portrait`; with a pool, called once per task.
        say: likewise.
        pool: of a `PortraitWorker` with the same model and options, which does the work; None is this process.

    Raises:
        KinecastError: existing outputs with different settings, before any work; or failed tasks.
    """
    made_of = {task.output: _made_of(task, options, model) for task in tasks}
    open_tasks = [task for task in tasks if _said(task) != made_of[task.output]]
    _check(open_tasks, tasks, made_of, overwrite)
    if len(open_tasks) < len(tasks):
        say(f"{len(tasks) - len(open_tasks)} of {len(tasks)} outputs exist already")
    failed = []
    results = (
        _by(pool, open_tasks, model, progress, say) if pool else _here(backbone, open_tasks, options, progress, say)
    )
    for task, made in results:
        if made.error is not None:
            failed.append(task)
            say(f"{task.output.name}: {made.error}")
            continue
        with atomic_path(task.sidecar) as temporary:
            values = {"made_of": made_of[task.output], "report": made.report}
            temporary.write_text(json.dumps(values, indent=2) + "\n")
    if failed:
        raise KinecastError(f"{len(failed)} of {len(open_tasks)} could not be animated, {failed[0].output.name} first")
    return len(open_tasks)


def _here(
    backbone: Backbone, tasks: Sequence[Task], options: PortraitOptions, progress: Progress, say: Say
) -> Iterator[tuple[Task, Made]]:
    """Do tasks in turn in this process."""
    drives = LastDrive(options, progress)
    for number, task in enumerate(tasks, 1):
        say(f"[{number}/{len(tasks)}] {task.source.name}, driven by {task.driving.name}")
        yield task, make(backbone, task.source, task.driving, task.output, drives, options, progress, say)


def _by(
    pool: WorkerPool, tasks: Sequence[Task], model: str, progress: Progress, say: Say
) -> Iterator[tuple[Task, Made]]:
    """Do tasks by a pool; they come as they are finished."""
    given = model_files(model)
    work = [jobs.Task("animate", (t.source, t.driving, t.output), reads=(t.source, t.driving, *given)) for t in tasks]
    for number, (i, made) in enumerate(pool.run(work), 1):
        task = tasks[i]
        say(f"[{number}/{len(tasks)}] {task.source.name}, driven by {task.driving.name}")
        for line in made.lines:
            say(line)
        progress("animate", 1)
        yield task, made


def _check(open_tasks: Sequence[Task], tasks: Sequence[Task], made_of: Mapping[Path, Any], overwrite: bool) -> None:
    inputs = {path for task in tasks for path in (task.source, task.driving)}
    for task in open_tasks:
        foreign = task.sidecar.exists() and _sidecar(task) != made_of[task.output]
        for path, there in ((task.output, task.output.exists()), (task.sidecar, foreign)):
            check_distinct(path, inputs)
            if there and not overwrite:
                raise KinecastError(
                    f"{path}: expected no such file, or one with the same inputs and options, found another: name "
                    "another folder, or add --overwrite"
                )
    if tasks:
        check_folder(tasks[0].output.parent)
        make_folder(tasks[0].output.parent)


def _said(task: Task) -> Any:
    """Return the settings of a finished output; None if there is none."""
    return _sidecar(task) if task.output.is_file() else None


def _sidecar(task: Task) -> Any:
    """Return the settings in the sidecar; None if it is not a sidecar."""
    try:
        return json.loads(task.sidecar.read_text())["made_of"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _made_of(task: Task, options: PortraitOptions, model: str) -> dict[str, Any]:
    files = {name: _known(path) for name, path in (("source", task.source), ("driving", task.driving))}
    values = {**files, "model": model, "options": asdict(options)}
    return dict(json.loads(json.dumps(values)))  # as it is read back


def _known(path: Path) -> list[Any]:
    """Return a file's key."""
    if path.is_dir():
        return [path.name, sorted(each.name for each in path.iterdir())]
    status = path.stat()
    return [path.name, status.st_size, status.st_mtime_ns]


def _drivings(driving: Path) -> list[Path]:
    return list(_files(driving, (*CLIP_SUFFIXES, *MOTION_SUFFIXES))) if driving.is_dir() else []


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    there = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    return sorted(there, key=by_name)
