"""A Ray cluster as a backend: one Ray task per task, on one core, retried if its process dies.

Nodes need the same kinecast version and the user's files under the same paths (a shared folder). Files created by the
run itself (motion, trained forecasters) are copied to the nodes, and results come back as bytes.
"""

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from kinecast.device import choose_device
from kinecast.errors import KinecastError
from kinecast.jobs.tasks import QUEUED_AHEAD, Task, TaskResult, Worker
from kinecast.packages import optional

LOCAL = "local"
RETRIES = 5  # of a task whose process died; Ray's own retries when out of memory are not counted
_STORE_BYTES = 200 << 20  # of a cluster that we start: results are small, and Ray's default is a third of memory
_PATIENCE_SECONDS = 5.0
_KEPT_FILES = 256  # copied files that the cluster keeps beyond the tasks that use them


class RayCluster:
    """A Ray session, joined or started, until `close`. A session this process already has is used and left running."""

    def __init__(self, worker: Worker, address: str, workers: int | None) -> None:
        self._ray = ray = _import_ray()
        self._folder: str | None = None
        self._ours = not ray.is_initialized()
        if self._ours:
            self._open(address, workers)
        self._limit = None if address == LOCAL else workers
        self._worker = ray.put(worker)
        gpus = 1 if choose_device(worker.settings.device).type == "cuda" else 0
        self._run = ray.remote(_run).options(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)
        self._sent = lru_cache(_KEPT_FILES)(lambda path: ray.put(path.read_bytes()))

    def map(self, tasks: Sequence[Task]) -> Iterator[tuple[int, TaskResult]]:
        """Yield the index in `tasks` and the result of each, as it completes."""
        waiting = list(enumerate(tasks))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._window():
                    i, task = waiting.pop()
                    files = {path: self._sent(path) for path in task.needs}
                    running[self._run.remote(self._worker, task, os.getcwd(), files)] = i
                ready, _ = self._ray.wait(list(running), num_returns=1)
                for reference in ready:
                    result = self._result(reference)
                    yield running.pop(reference), result
        finally:
            for reference in running:  # of a run that ends early
                self._ray.cancel(reference, force=True)

    def close(self, failed: bool) -> None:
        """Disconnect, or stop the cluster if it is ours."""
        if self._ours:
            self._ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self, address: str, workers: int | None) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ.setdefault("RAY_worker_niceness", "0")  # of ours: at the same priority as the process that waits
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == LOCAL:
            # A short path, since it holds Unix sockets; our own, so that nothing is left behind.
            self._folder = tempfile.mkdtemp(prefix="kinecast-ray-", dir="/tmp" if Path("/tmp").is_dir() else None)
            own = {"num_cpus": workers, "include_dashboard": False, "object_store_memory": _STORE_BYTES}
            self._ray.init(address=LOCAL, _temp_dir=self._folder, **own, **quiet)
            return
        try:
            _check_reachable(address)
            self._ray.init(address=address, **quiet)
        except Exception as error:  # Ray raises many kinds of error, depending on address, network and version
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise KinecastError(
                f"ray {address!r}: expected the address HOST:PORT of a running cluster, found: {reason}: start one "
                "with `ray start --head`, or use --ray local"
            ) from error

    def _window(self) -> int:
        """Return how many tasks may be in flight; a cluster may grow while it works."""
        return self._limit or int(self._ray.cluster_resources().get("CPU", 1)) + QUEUED_AHEAD

    def _result(self, reference: Any) -> TaskResult:
        errors = self._ray.exceptions
        try:
            result: TaskResult = self._ray.get(reference)
        except errors.RayTaskError as error:
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, KinecastError):
                raise KinecastError(str(cause)) from None
            if isinstance(cause, ImportError):
                raise KinecastError(
                    f"ray: expected kinecast with its extras on every node, found {cause}: install the same there"
                ) from error
            raise cause from error
        except errors.RayError as error:
            raise KinecastError(
                f"a worker died {RETRIES + 1} times on one task ({type(error).__name__}): finished work is kept: run "
                "the same command again, perhaps with fewer --workers"
            ) from error
        return result


def _check_reachable(address: str) -> None:
    """Raise an OSError if nothing listens on HOST:PORT: Ray would try for five minutes and then kill the process."""
    host, _, port = address.rpartition(":")
    if "://" not in address and port.isdigit():
        socket.create_connection((host, int(port)), _PATIENCE_SECONDS).close()


def _import_ray() -> Any:
    return optional("--ray", "ray")


# --- in a process of the cluster --------------------------------------------------------------------------------------

_kept: Worker | None = None


def _run(worker: Worker, task: Task, folder: str, files: dict[Path, Any]) -> TaskResult:
    """Compute a task; relative paths start at `folder`, and `files` are the files it needs, by reference."""
    global _kept
    torch.set_num_threads(1)
    if _kept is None or (type(_kept), _kept.settings) != (type(worker), worker.settings):
        _kept = worker
    if os.path.isdir(folder):
        os.chdir(folder)
    for path in task.reads:
        if not path.exists():
            raise KinecastError(
                f"{path}: expected it on every node of the Ray cluster, found none on {socket.gethostname()} (from "
                f"{os.getcwd()}): use a shared folder with the same path on all nodes"
            )
    for path, reference in files.items():
        if path not in _kept.copies and not path.exists():
            _kept.copies[path] = _store(path, _import_ray().get(reference))
    return _kept.run(task)


def _store(path: Path, data: bytes) -> Path:
    here = _own_folder() / path.name
    here.write_bytes(data)
    return here


@lru_cache(1)
def _own_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="kinecast-copies-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
