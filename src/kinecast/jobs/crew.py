"""One map over tasks, in one of three places: this process, processes of this machine, or a Ray cluster.

A task is a pure function of its arguments and of files, done on one thread, so that the place and the number of
workers change no bit of its result. Files that it makes come back as bytes, and are written here before anybody hears
that it is done: a worker that dies takes its unfinished task with it and nothing else.
"""

import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder

AHEAD = 2  # tasks handed out beyond those that are being done


@dataclass(frozen=True)
class Task:
    """One call of a worker's method.

    `reads` are files of the user's, which must be where the task is done; `needs` are files that an earlier task
    made, which are brought there.
    """

    method: str
    arguments: tuple[Any, ...]
    reads: tuple[Path, ...] = ()
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Done:
    """What a task gives back: a plain value, and files to be written."""

    value: Any = None
    files: Mapping[Path, bytes] = field(default_factory=dict)


class Worker:
    """Does tasks, its methods. It travels as its settings; models are loaded where it arrives, when they are needed.

    Args:
        settings: picklable, with `device`; equal settings make workers that may stand for each other.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.brought: dict[Path, Path] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.settings,)

    def at(self, path: Path) -> Path:
        """Return where a file that the run made lies on this machine."""
        return self.brought.get(path, path)

    def do(self, task: Task) -> Done:
        """Do a task."""
        done: Done = getattr(self, task.method)(*task.arguments)
        return done


class Place(Protocol):
    """Where tasks are done."""

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
        """Yield each task's place in the order of `tasks` and what it gave, as it is done."""

    def close(self, failed: bool) -> None:
        """Let the workers go; what is running is stopped if something failed."""


class Crew:
    """A worker many times over, to be used in a `with` statement.

    Args:
        worker: does the tasks itself if it is alone; elsewhere copies do.
        workers: how many; None is one, or with `ray` as many as the cluster has processors.
        ray: "local" or the address of a cluster.

    Raises:
        KinecastError: fewer than one, no Ray, or no cluster there.
    """

    def __init__(self, worker: Worker, workers: int | None = None, ray: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise KinecastError(f"workers: expected at least 1, found {workers}")
        self._worker, self._workers, self._ray = worker, workers, ray
        self._place: Place

    def __enter__(self) -> "Crew":
        if self._ray is not None:
            from kinecast.jobs.cluster import Cluster

            self._place = Cluster(self._worker, self._ray, self._workers)
        elif (self._workers or 1) > 1:
            self._place = _Processes(self._worker, self._workers or 1)
        else:
            self._place = _Here(self._worker)
        return self

    def __exit__(self, *error: object) -> None:
        self._place.close(failed=error[0] is not None)

    def do(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Do tasks; yield each one's place and value as it is done and its files are written.

        Raises:
            KinecastError: what a task raised, or a worker died for good.
        """
        for i, done in self._place.map(tasks):
            for path, data in done.files.items():
                make_folder(path.parent)
                with atomic_path(path) as temporary:
                    temporary.write_bytes(data)
            yield i, done.value


class _Here:
    """The process that asks."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
        yield from ((i, self._worker.do(task)) for i, task in enumerate(tasks))

    def close(self, failed: bool) -> None:
        torch.set_num_threads(self._threads)


class _Processes:
    """A pool of processes of this machine."""

    def __init__(self, worker: Worker, count: int) -> None:
        self._count = count
        self._others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._pool = ProcessPoolExecutor(count, context, _start, (worker,))

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Done]]:
        waiting = list(enumerate(tasks))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._count + AHEAD:
                    i, task = waiting.pop()
                    running[self._pool.submit(_do, task)] = i
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise KinecastError(
                "a worker died (killed, or out of memory): what is finished is kept: run the same command again, "
                "perhaps with fewer --workers"
            ) from error

    def close(self, failed: bool) -> None:
        if failed:  # a stop is a stop: what is finished is on disk, the rest is done another time
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        self._pool.shutdown(cancel_futures=True)


_worker: Worker | None = None


def _start(worker: Worker) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    torch.set_num_threads(1)
    _worker = worker


def _do(task: Task) -> Done:
    assert _worker is not None
    return _worker.do(task)


def as_bytes(save: Callable[[Path], object], suffix: str) -> bytes:
    """Return what a function writes to a path of some suffix."""
    with tempfile.TemporaryDirectory(prefix="kinecast-") as folder:
        path = Path(folder, f"made{suffix}")
        save(path)
        return path.read_bytes()
