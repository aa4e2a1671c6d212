"""A rate-distortion run in units: a part of one curve on one clip, in a file named by everything it depends on.

An interrupted run resumes, and units may be done by any worker anywhere.
"""

import io
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.backbone_worker import BackboneWorker, model_files
from kinecast.apps.stream.clips import profile_named
from kinecast.apps.stream.fillers import load_fillers
from kinecast.codec.filling import FILLERS
from kinecast.data.datasets import Clip
from kinecast.errors import KinecastError
from kinecast.forecasting.storage import WEIGHTLESS
from kinecast.jobs.pool import WorkerPool
from kinecast.jobs.tasks import Task, TaskResult, digest
from kinecast.media.video import READING
from kinecast.research.distortions import Distortions
from kinecast.research.predictors import file_digest
from kinecast.research.rate_clips import RateClip, load_rate_clip
from kinecast.research.rate_settings import Measured, Stream
from kinecast.research.workers import packed, unit_path
from kinecast.zoo import TABLE

RATE_VERSION = 2  # part of every key: increase it when the content of units changes its meaning


@dataclass(frozen=True)
class RateSettings:
    """Settings of a rate-distortion worker."""

    model: str
    weights: str  # digest of the backbone
    device: str
    engine: str
    precision: str
    profile: str
    fingerprint: str  # of the profile's numbers
    fillers: tuple[str, ...]
    seed: int
    measures: tuple[str, ...]  # those that must be there: a table has them of every clip
    face_api: Path | None
    face_every: int
    crop: str
    fps: float | None
    limit: int | None
    units: Path


class RateWorker(BackboneWorker):
    """Measures settings on clips. Models are loaded at the first task; the last clip is cached."""

    settings: RateSettings

    def __init__(self, settings: RateSettings) -> None:
        super().__init__(settings)
        self._tools: tuple[Stream, Distortions] | None = None
        self._clip: tuple[Path, RateClip] | None = None

    def measure(self, path: Path, key: str, group: Sequence[Any]) -> TaskResult:
        """Make the unit of a group of settings on a clip."""
        clip, stream = self._loaded(path), self._ready()[0]
        measured = [setting.measure(clip, stream) for setting in group]
        return TaskResult(files={unit_path(self.settings.units, key): to_bytes(measured)})

    def _ready(self) -> tuple[Stream, Distortions]:
        if self._tools is None:
            how = self.settings
            named = [name for name in how.fillers if name != "hold"]
            fillers = load_fillers(named, self.backbone.motion_dim, how.seed)
            model = Path(how.model).name
            stream = Stream.of(self.backbone, lambda layout: profile_named(how.profile, model, layout), fillers)
            measures = Distortions(how.face_api, how.face_every)
            if tuple(measures.names) != how.measures:
                found = "; ".join(dict.fromkeys(measures.missing.values())) or ", ".join(measures.names)
                raise KinecastError(
                    f"a worker: expected the measures {', '.join(how.measures)}, found otherwise: {found}: install "
                    "the same packages on every node"
                )
            self._tools = stream, measures
        return self._tools

    def _loaded(self, path: Path) -> RateClip:
        if self._clip is None or self._clip[0] != path:
            how, measures = self.settings, self._ready()[1]
            self._clip = path, load_rate_clip(self.backbone, path, measures, how.crop, how.fps, how.limit)
        return self._clip[1]


def measure_rates(
    pool: WorkerPool,
    settings: RateSettings,
    clips: Sequence[Path],
    asked: Sequence[Hashable],
    log: Callable[[str], None] = lambda line: None,
    progress: Callable[[str, int], None] = lambda stage, count: None,
) -> dict[Hashable, list[Measured]]:
    """Measure every setting on every clip, unless already done; return the results clip by clip."""
    common = _common(settings)
    groups = [tuple(group) for _, group in groupby(dict.fromkeys(asked), key=lambda setting: setting.curve)]  # type: ignore[attr-defined]
    contents = [Clip(path.stem, "", path).hashed().content for path in clips]
    keys = {
        (i, group): digest(common, content, [[type(s).__name__, asdict(s)] for s in group])  # type: ignore[call-overload]
        for i, content in enumerate(contents)
        for group in groups
    }
    left = {where: key for where, key in keys.items() if not unit_path(settings.units, key).exists()}
    log(f"{len(left)} of {len(keys)} units to do")
    given = (*model_files(settings.model), *([settings.face_api] if settings.face_api else []))
    given += tuple(Path(name) for name in settings.fillers if not _filler_digest(name)[0])
    tasks = [Task("measure", (clips[i], key, group), (clips[i], *given)) for (i, group), key in left.items()]
    # One of every clip comes first, so that unreadable clips are found early.
    tasks.sort(key=lambda task: task.arguments[2] != groups[0])
    for _ in pool.run(tasks):
        progress("measure", 1)
    found: dict[Hashable, list[Measured]] = {setting: [] for setting in asked}
    for (_, group), key in keys.items():
        for setting, measured in zip(group, from_bytes(unit_path(settings.units, key).read_bytes()), strict=True):
            found[setting].append(measured)
    return found


def to_bytes(measured: Sequence[Measured]) -> bytes:
    """Return what was measured as the bytes of a unit."""
    arrays: dict[str, np.ndarray] = {}
    for i, one in enumerate(measured):
        arrays |= {f"{i} {name}": values for name, values in one.distortions.items()}
        arrays |= {f"{i}/{name}": np.array(float(value)) for name, value in one.facts.items()}
    return packed(arrays)


def from_bytes(data: bytes) -> list[Measured]:
    """Undo `to_bytes`."""
    found: dict[int, Measured] = {}
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for key in archive.files:
            index, _, name = key.replace("/", " /").partition(" ")
            one = found.setdefault(int(index), Measured({}, {}))
            if name.startswith("/"):
                one.facts[name[1:]] = float(archive[key])
            else:
                one.distortions[name] = archive[key]
    return [found[i] for i in range(len(found))]


def _common(settings: RateSettings) -> list[Any]:
    """Return what all units of a run depend on."""
    how = replace(settings, model=Path(settings.model).name, device="", fillers=(), face_api=None, units=Path())
    weights = sorted(path for path in settings.face_api.iterdir() if path.is_file()) if settings.face_api else []
    files = [file_digest(path) for path in weights]
    return [
        RATE_VERSION,
        READING,
        asdict(how),
        files,
        [_filler_digest(name) for name in settings.fillers],
        version("av"),
    ]


def _filler_digest(name: str) -> tuple[bool, str]:
    """Return whether a filler is bundled, and the digest of its weights."""
    if name in FILLERS or name in WEIGHTLESS:
        return True, name
    bundled = next((entry.sha256 for entry in TABLE if (entry.name, entry.kind) == (name, "forecaster")), None)
    return (True, bundled) if bundled else (False, file_digest(Path(name)))
