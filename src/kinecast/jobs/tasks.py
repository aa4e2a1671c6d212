"""Tasks, their results, and the worker that computes them: what every backend of a pool agrees on.

A task is a pure function of its arguments and of files, computed on one thread, so that neither the backend nor the
number of workers changes a bit of its result. Files that it makes come back as bytes and are written by the process
that waits: a worker that dies loses its unfinished task and nothing else.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

QUEUED_AHEAD = 2  # tasks submitted beyond those that are running


@dataclass(frozen=True)
class Task:
    """One call of a worker's method.

    `reads` are the user's files, which must exist where the task runs; `needs` are files that an earlier task made,
    which are copied there.
    """

    method: str
    arguments: tuple[Any, ...]
    reads: tuple[Path, ...] = ()
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """What a task returns: a plain value, and files to be written."""

    value: Any = None
    files: Mapping[Path, bytes] = field(default_factory=dict)


class Worker:
    """Computes tasks, which name its methods. It is pickled as its settings; models are loaded where it runs.

    Args:
        settings: picklable, with `device`; workers of equal settings are interchangeable.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.copies: dict[Path, Path] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)

    def at(self, path: Path) -> Path:
        """Return where a file that the run made is on this machine."""
        return self.copies.get(path, path)

    def run(self, task: Task) -> TaskResult:
        """Compute a task."""
        done: TaskResult = getattr(self, task.method)(*task.arguments)
        return done


class Backend(Protocol):
    """Where tasks are computed."""

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Yield the index in `tasks` and the result of each, as it completes."""

    def close(self, failed: bool) -> None:
        """Release the workers; running tasks are stopped if something failed."""


def as_bytes(save: Callable[[Path], object], suffix: str) -> bytes:
    """Return what a function writes to a path of some suffix."""
    with tempfile.TemporaryDirectory(prefix="kinecast-") as folder:
        path = Path(folder, f"made{suffix}")
        save(path)
        return path.read_bytes()


def digest(*parts: Any) -> str:
    """Return a name, 32 hex digits, of plain values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
