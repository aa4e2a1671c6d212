"""One pool of workers for independent tasks, on any backend: this process, local processes, or a Ray cluster."""

from collections.abc import Iterator, Sequence
from typing import Any

from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.jobs.cluster import RayCluster
from kinecast.jobs.local import InProcess, ProcessPool
from kinecast.jobs.tasks import Backend, Task, Worker


class WorkerPool:
    """A pool of copies of one worker, for use in a `with` statement.

    Args:
        worker: computes the tasks itself if one worker is asked for; otherwise its copies do.
        workers: number of workers; None is one, or with `ray` as many as the cluster has cores.
        ray: "local" or the address of a cluster.

    Raises:
        KinecastError: fewer than one worker, Ray not installed, or no cluster at the address.
    """

    def __init__(self, worker: Worker, workers: int | None = None, ray: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise KinecastError(f"workers: expected at least 1, found {workers}")
        self._worker, self._workers, self._ray = worker, workers, ray
        self._backend: Backend

    def __enter__(self) -> "WorkerPool":
        if self._ray is not None:
            self._backend = RayCluster(self._worker, self._ray, self._workers)
        elif (self._workers or 1) > 1:
            self._backend = ProcessPool(self._worker, self._workers or 1)
        else:
            self._backend = InProcess(self._worker)
        return self

    def __exit__(self, *error: object) -> None:
        self._backend.close(failed=error[0] is not None)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Run tasks; yield the index and value of each as it completes and its files are written.

        Raises:
            KinecastError: raised by a task, or a worker that died repeatedly.
        """
        for i, done in self._backend.map(tasks):
            for path, data in done.files.items():
                make_folder(path.parent)
                with atomic_path(path) as temporary:
                    temporary.write_bytes(data)
            yield i, done.value
