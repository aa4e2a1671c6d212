"""Local backends: the calling process itself, or a pool of processes."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from kinecast.errors import KinecastError
from kinecast.jobs.tasks import QUEUED_AHEAD, Task, TaskResult, Worker


class InProcess:
    """The calling process, on one thread."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Yield the index in `tasks` and the result of each, as it completes."""
        yield from ((i, self._worker.run(task)) for i, task in enumerate(tasks))

    def close(self, failed: bool) -> None:
        """Restore the number of threads."""
        torch.set_num_threads(self._threads)


class ProcessPool:
    """A pool of local processes."""

    def __init__(self, worker: Worker, count: int) -> None:
        self._count = count
        self._others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._pool = ProcessPoolExecutor(count, context, _start, (worker,))

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Yield the index in `tasks` and the result of each, as it completes."""
        waiting = list(enumerate(tasks))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._count + QUEUED_AHEAD:
                    i, task = waiting.pop()
                    running[self._pool.submit(_run, task)] = i
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise KinecastError(
                "a worker died (killed, or out of memory): finished work is kept: run the same command again, "
                "perhaps with fewer --workers"
            ) from error

    def close(self, failed: bool) -> None:
        """Wait for the processes to end; after a failure, terminate them."""
        if failed:  # finished results are on disk; the next run computes the rest
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        self._pool.shutdown(cancel_futures=True)


_worker: Worker | None = None


def _start(worker: Worker) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the waiting process, which terminates this one
    torch.set_num_threads(1)
    _worker = worker


def _run(task: Task) -> TaskResult:
    assert _worker is not None
    return _worker.run(task)
