"""The processes that do the work of a run. Each computes on one thread, so that one worker and many give equal bits.

Jobs are pure functions of their arguments and of files that are named by what is in them; a worker that dies takes
its unfinished jobs with it and nothing else.
"""

import hashlib
import json
import multiprocessing
import signal
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.backbones.base import Backbone
from kinecast.data.datasets import Clip
from kinecast.data.windows import evaluation_windows
from kinecast.errors import KinecastError
from kinecast.evaluation.diverse import measure_diverse
from kinecast.evaluation.predictors import train_to
from kinecast.evaluation.rendering import Stage
from kinecast.evaluation.single import measure_single
from kinecast.evaluation.study import Job, digest
from kinecast.files import atomic_path, make_folder
from kinecast.metrics.jedi import VJEPA, open_vjepa
from kinecast.motion import Motion
from kinecast.training.forecaster import ForecasterTrainingConfig
from kinecast.zoo import load_backbone

BATCH = 8  # frames detected at a time
_AHEAD = 2  # jobs handed out beyond those that are being done


@dataclass(frozen=True)
class Settings:
    """What a worker needs besides its jobs."""

    backbone: str
    weights: str  # digest of the backbone
    device: str
    engine: str
    crop: str
    relative: bool
    motions: Path
    units: Path
    jedi_weights: Path | None = None


class Worker:
    """Does jobs. The backbone is loaded at the first that needs it."""

    def __init__(self, settings: Settings, backbone: Backbone | None = None) -> None:
        self.settings = settings
        self._backbone = backbone
        self._jedi: VJEPA | None = None

    @property
    def jedi(self) -> VJEPA | None:
        """The network of JEDi's features, if the user has its weights."""
        if self._jedi is None:
            self._jedi = open_vjepa(self.settings.jedi_weights)
        return self._jedi

    @property
    def backbone(self) -> Backbone:
        """The backbone of the run."""
        if self._backbone is None:
            self._backbone = load_backbone(self.settings.backbone, self.settings.device, self.settings.engine)
        return self._backbone

    def detect(self, clip: Clip) -> tuple[str | None, list[str]]:
        """Put the motion of a clip into the cache; return what made it unusable, if something did, and remarks."""
        path = motion_path(self.settings, clip)
        if path.exists():
            return None, []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                motion = self._detected(clip)
            except KinecastError as error:
                return str(error), []
        make_folder(path.parent)
        motion.save(path)
        return None, [str(warning.message) for warning in caught]

    def train(self, path: Path, config: ForecasterTrainingConfig, clips: Sequence[Clip]) -> None:
        """Train a forecaster on the cached motion of clips."""
        series = {clip.name: load_motion(self.settings, clip).vectors() for clip in clips}
        train_to(path, config, series, {"backbone": self.settings.weights, "crop": self.settings.crop})

    def measure(self, job: Job) -> None:
        """Write the unit files of a job."""
        motion = load_motion(self.settings, job.clip)
        windows = evaluation_windows({job.clip.name: motion.vectors()}, job.horizon)
        stage = Stage(self.backbone, job.clip, motion, job.source, self.settings.crop, self.settings.relative)
        with torch.inference_mode():
            if job.study.kind == "single":
                results = measure_single(stage, windows, job, self.jedi)
            else:
                results = measure_diverse(stage, windows, job)
        for key, arrays in results.items():
            with atomic_path(self.settings.units / f"{key}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]

    def _detected(self, clip: Clip) -> Motion:
        rows = [
            self.backbone.detect(frames.to(self.backbone.device)).to("cpu")
            for frames in clip.batches(self.backbone.frame_size, self.settings.crop, BATCH)
        ]
        motion = rows[0].with_vectors(torch.cat([row.vectors() for row in rows]))
        return replace(motion, frame_size=self.backbone.frame_size, clip=clip.name)


class Crew:
    """A number of workers behind one call; one worker is this process."""

    def __init__(self, settings: Settings, workers: int, backbone: Backbone) -> None:
        if workers < 1:
            raise KinecastError(f"workers: expected at least 1, found {workers}")
        self._pool: ProcessPoolExecutor | None = None
        self._threads = torch.get_num_threads()
        self._workers = workers
        self._others = set(multiprocessing.active_children())
        if workers > 1:
            context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
            self._pool = ProcessPoolExecutor(workers, context, _start, (settings,))
        else:
            self._worker = Worker(settings, backbone)

    def __enter__(self) -> "Crew":
        if self._pool is None:
            torch.set_num_threads(1)
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is None:
            torch.set_num_threads(self._threads)
            return
        if error[0] is not None:  # a stop is a stop: what is finished is on disk, the rest is done another time
            for child in set(multiprocessing.active_children()) - self._others:
                child.terminate()
        self._pool.shutdown(cancel_futures=True)

    def do(self, method: str, jobs: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Do jobs, argument tuples of a method of `Worker`; yield each one's place and result as it is done.

        Raises:
            KinecastError: a worker died.
        """
        if self._pool is None:
            yield from ((i, getattr(self._worker, method)(*job)) for i, job in enumerate(jobs))
            return
        waiting = list(enumerate(jobs))[::-1]
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self._workers + _AHEAD:
                    i, job = waiting.pop()
                    running[self._pool.submit(_call, method, job)] = i
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise KinecastError(
                "a worker died (killed, or out of memory): what is finished is kept: run the same command again, "
                "perhaps with fewer --workers"
            ) from error


_worker: Worker | None = None


def _start(settings: Settings) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits, which ends this one
    torch.set_num_threads(1)
    _worker = Worker(settings)


def _call(method: str, job: tuple[Any, ...]) -> Any:
    return getattr(_worker, method)(*job)


def motion_path(settings: Settings, clip: Clip) -> Path:
    """Return where the motion of a clip is cached: named by its bytes, the backbone's weights, and the framing."""
    return settings.motions / f"{digest(clip.content, settings.weights, settings.engine, settings.crop)}.npz"


def load_motion(settings: Settings, clip: Clip) -> Motion:
    """Return the cached motion of a clip."""
    return Motion.load(motion_path(settings, clip))


def backbone_digest(backbone: Backbone) -> str:
    """Return a digest of a backbone's tensors and of what its config adds to them (frame size, temperature, ...)."""
    sha = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        sha.update(f"{name}{tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    config = getattr(backbone, "config", None)
    values = asdict(config) if is_dataclass(config) and not isinstance(config, type) else {}
    sha.update(json.dumps([backbone.name, backbone.frame_size, values], default=str).encode())
    return sha.hexdigest()
