"""The worker of a video evaluation, and its tasks with their inputs and outputs.

Files are named by everything they depend on, so that they are never recomputed and never out of date.
"""

import io
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from kinecast.apps.backbone_worker import model_files
from kinecast.data.datasets import Clip
from kinecast.data.keypoint_store import valid_series
from kinecast.data.windows import evaluation_windows
from kinecast.errors import KinecastError
from kinecast.jobs.tasks import Task, TaskResult, Worker, as_bytes, digest
from kinecast.media.video import READING
from kinecast.metrics.jedi import VJEPA, open_vjepa
from kinecast.models.base import Backbone
from kinecast.motion import Motion, concatenate
from kinecast.research.diverse import measure_diverse
from kinecast.research.predictors import train_to
from kinecast.research.rendering import Stage
from kinecast.research.single import measure_single
from kinecast.research.study import Job
from kinecast.training.forecaster import ForecasterTrainingConfig
from kinecast.zoo import load_backbone

BATCH = 8  # frames detected at a time


@dataclass(frozen=True)
class Settings:
    """What a worker needs besides its tasks, and where what they make is kept."""

    backbone: str
    weights: str  # digest of the backbone
    device: str
    engine: str
    crop: str
    relative: bool
    motions: Path
    models: Path
    units: Path
    jedi_weights: Path | None = None


class VideoWorker(Worker):
    """Detects, trains and measures. The backbone is loaded at the first task that needs it."""

    settings: Settings

    def __init__(self, settings: Settings, backbone: Backbone | None = None) -> None:
        super().__init__(settings)
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

    def detect(self, clip: Clip) -> TaskResult:
        """Make the motion of a clip; the value is what made it unusable, if something did, and remarks."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                motion = self._detected(clip)
            except KinecastError as error:
                return TaskResult((str(error), []))
        remarks = [str(warning.message) for warning in caught]
        return TaskResult((None, remarks), {motion_path(self.settings, clip): as_bytes(motion.save, ".npz")})

    def train(self, path: Path, config: ForecasterTrainingConfig, clips: Sequence[Clip]) -> TaskResult:
        """Make a forecaster of the motion of clips."""
        series: dict[str, torch.Tensor] = {}
        for clip in clips:
            series |= valid_series(clip.name, self._motion(clip))
        about = {"backbone": self.settings.weights, "crop": self.settings.crop}
        data = as_bytes(lambda made: train_to(made, config, series, about), path.suffix)
        return TaskResult(files={path: in_order(data)})

    def measure(self, job: Job) -> TaskResult:
        """Make the unit files of a job."""
        motion = self._motion(job.clip)
        windows = evaluation_windows({job.clip.name: motion.vectors()}, job.horizon, job.study.every)
        stage = Stage(self.backbone, job.clip, motion, job.source, self.settings.crop, self.settings.relative)
        rows = [unit.row and replace(unit.row, path=unit.row.path and self.at(unit.row.path)) for unit in job.units]
        job = replace(job, units=tuple(replace(u, row=row) for u, row in zip(job.units, rows, strict=True)))
        with torch.inference_mode():
            if job.study.kind == "single":
                results = measure_single(stage, windows, job, self.jedi)
            else:
                results = measure_diverse(stage, windows, job)
        return TaskResult(
            files={unit_path(self.settings.units, key): packed(arrays) for key, arrays in results.items()}
        )

    def _motion(self, clip: Clip) -> Motion:
        return Motion.load(self.at(motion_path(self.settings, clip)))

    def _detected(self, clip: Clip) -> Motion:
        detect = self.backbone.follow()
        rows = [
            detect(frames.to(self.backbone.device)).to("cpu")
            for frames in clip.batches(self.backbone.frame_size, self.settings.crop, BATCH)
        ]
        return replace(concatenate(rows).held(), frame_size=self.backbone.frame_size, clip=clip.name)


def detect_task(settings: Settings, clip: Clip) -> Task:
    """Return the detection of a clip's motion."""
    return Task("detect", (clip,), reads=(clip.path, *model_files(settings.backbone)))


def train_task(settings: Settings, path: Path, config: ForecasterTrainingConfig, clips: Sequence[Clip]) -> Task:
    """Return the training of a forecaster, to a path, on the motion of clips."""
    return Task("train", (path, config, tuple(clips)), needs=tuple({motion_path(settings, clip): 0 for clip in clips}))


def measure_task(settings: Settings, job: Job) -> Task:
    """Return the measurement of a job."""
    rows = [unit.row.path for unit in job.units if unit.row is not None and unit.row.path is not None]
    made = [path for path in rows if path.parent == settings.models]
    given = [path for path in rows if path.parent != settings.models]
    given += [clip.path for clip in (job.clip, job.source) if clip is not None]
    given += [*model_files(settings.backbone), *([settings.jedi_weights] if settings.jedi_weights else [])]
    return Task("measure", (job,), tuple(dict.fromkeys(given)), (motion_path(settings, job.clip), *dict.fromkeys(made)))


def in_order(data: bytes) -> bytes:
    """Return the bytes of a safetensors file with its header sorted: the library writes metadata in random order.

    Units are named by their model's bytes, so that the same training must give the same bytes.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors are aligned, as the library has them
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of an .npz, which are the same whenever it is made."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unit_path(units: Path, key: str) -> Path:
    """Return a unit's file in the folder of units."""
    return units / f"{key}.npz"


def motion_path(settings: Settings, clip: Clip) -> Path:
    """Return where the motion of a clip is cached: named by its bytes, how they are read, and the weights."""
    key = digest(READING, clip.content, settings.weights, settings.engine, settings.crop)
    return settings.motions / f"{key}.npz"


def load_motion(settings: Settings, clip: Clip) -> Motion:
    """Return the cached motion of a clip."""
    return Motion.load(motion_path(settings, clip))
