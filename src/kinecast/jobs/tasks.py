"""Tasks, their results, and the worker that computes them: the contract of a pool's backends.

A task is a pure function of its arguments and of files, computed on one thread, so that neither the backend nor the
number of workers changes a bit of its result. Files it creates come back as bytes and are written by the waiting
process: a worker that dies loses only its unfinished task.
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

    `reads` are the user's files, which must exist where the task runs; `needs` are files made by earlier tasks, which
    are copied there.
    """

    method: str
    arguments: tuple[Any, ...]
    reads: tuple[Path, ...] = ()
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """The result of a task: a plain value, and files to write."""

    value: Any = None
    files: Mapping[Path, bytes] = field(default_factory=dict)


class Worker:
    """Computes tasks, which are calls of its methods. Only its settings are pickled; models are loaded where it runs.

    Args:
        settings: picklable, with `device`; workers of equal settings are interchangeable.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.copies: dict[Path, Path] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)

    def at(self, path: Path) -> Path:
        """Return the path of a file of the run on this machine."""
        return self.copies.get(path, path)

    def run(self, task: Task) -> TaskResult:
        """Compute a task."""
        done: TaskResult = getattr(self, task.method)(*task.arguments)
        return done


class Backend(Protocol):
    """A place where tasks are computed."""

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Yield the index in `tasks` and the result of each, as it completes."""

    def close(self, failed: bool) -> None:
        """Release the workers; running tasks are stopped if something failed."""


def as_bytes(save: Callable[[Path], object], suffix: str) -> bytes:
    """Return the bytes that a function writes to a path with this suffix."""
    with tempfile.TemporaryDirectory(prefix="kinecast-") as folder:
        path = Path(folder, f"made{suffix}")
        save(path)
        return path.read_bytes()


def digest(*parts: Any) -> str:
    """Return a name, 32 hex digits, of plain values."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
