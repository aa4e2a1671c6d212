"""Configuration of an evaluation of video: one run has one or more studies of a data set with one backbone.

Notation: N observed, H horizon, S samples, C samples kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinecast.data.datasets import LAYOUTS, Clip
from kinecast.data.windows import Horizon
from kinecast.errors import KinecastError
from kinecast.jobs.tasks import digest
from kinecast.media.framing import check_reading
from kinecast.research.protocol import PROTOCOLS

ENGINES = ("eager", "fast")  # not auto: its choice may change between runs, and figures with it
KINDS = ("single", "diverse")
MODES = ("reconstruction", "transfer")
BASELINES = ("repeat", "velocity", "damped", "climatology")
BLOCK = {"single": 8, "diverse": 1}  # windows of a clip per job
UNIT_VERSION = 1  # part of every key: increase it when the content of units changes its meaning


@dataclass(frozen=True)
class Study:
    """One kind of table in one mode: "single" (one trajectory per window) or "diverse" (S per window, C kept).

    `windows` limits how many windows of a clip are measured, evenly spaced; None is all of them. Windows use every k-th
    frame, k = `every`.
    """

    kind: Literal["single", "diverse"]
    mode: Literal["reconstruction", "transfer"]
    horizons: tuple[Horizon, ...]
    models: tuple[str, ...]
    windows: int | None = None
    samples: int = 100
    keep: int = 20
    every: int = 1
    about: str = ""  # part of the title, to distinguish studies that differ only in horizons or models

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.mode not in MODES:
            raise KinecastError(f"mode: expected one of {', '.join(MODES)}; found {self.mode!r}")
        if not self.horizons:
            raise KinecastError("horizon: expected at least one, such as 12-12; found none")
        if self.every < 1:
            raise KinecastError(f"every: expected every frame (1), or one in several, found one in {self.every}")
        if self.windows is not None and self.windows < 1:
            raise KinecastError(f"windows per clip: expected at least 1, found {self.windows}")
        if self.samples < 2 or not 1 <= self.keep <= self.samples:
            raise KinecastError(
                f"samples and keep: expected at least 2 samples and to keep 1 to all of them, found {self.samples} "
                f"and {self.keep}"
            )
        labels = [label_of(model) for model in self.models]
        twice = sorted({label for label in labels if labels.count(label) > 1})
        if twice:
            raise KinecastError(f"models: expected names that differ, found {', '.join(twice)} twice: rename a file")

    @property
    def title(self) -> str:
        """`single, reconstruction`, and what else tells it from other studies of a run."""
        thinned = f"one frame in {self.every}" if self.every > 1 else ""
        return ", ".join(part for part in (self.kind, self.mode, self.about, thinned) if part)


@dataclass(frozen=True)
class RunConfig:
    """A run: the data set, who is tested, with which backbone, and what is measured."""

    dataset: Path
    layout: str
    studies: tuple[Study, ...]
    protocol: str = "honest"
    validate: str | None = None
    person: str | None = None
    backbone: str = "face-128"
    crop: str = "center"
    relative: bool = False
    sources: Path | None = None  # of transfer; None takes the clips of other persons
    released: Path | None = None  # folder of vrnn_vox_N-H.safetensors
    seeds: tuple[int, ...] = (0,)
    training: Mapping[str, Any] = field(default_factory=dict)  # values of ForecasterTrainingConfig
    jedi_weights: Path | None = None
    device: str = "auto"
    engine: str = "eager"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise KinecastError(f"engine: expected one of {', '.join(ENGINES)}; found {self.engine!r}")
        check_reading(self.crop)
        if self.layout not in LAYOUTS:
            raise KinecastError(f"layout: expected one of {', '.join(LAYOUTS)}; found {self.layout!r}")
        if self.protocol not in PROTOCOLS:
            raise KinecastError(f"protocol: expected one of {', '.join(PROTOCOLS)}; found {self.protocol!r}")
        if not self.studies or not self.seeds:
            raise KinecastError("evaluation: expected at least one study and one seed, found none")
        if self.protocol == "as-released" and self.released is None:
            raise KinecastError(
                "as-released: expected the released weights, the only ones with this reading, found none named: add "
                "--released FOLDER with vrnn_vox_N-H.safetensors"
            )
        if self.relative and all(study.mode == "reconstruction" for study in self.studies):
            raise KinecastError("relative motion is of transfer mode: drop --relative, or use --mode transfer")


@dataclass(frozen=True)
class Row:
    """One forecaster at one horizon, in a file that any worker can load.

    `digest` is that of the weights. `seeded` rows differ from seed to seed. `reads_future` marks readings that see
    the truth: they are not forecasts.
    """

    label: str
    kind: Literal["forecaster", "as-released", "previous"]
    path: Path | None
    digest: str
    seeded: bool
    reads_future: bool = False
    family: str = ""  # of `forecasters.families`
    differences: tuple[str, ...] = ()  # from the printed model of its name


@dataclass(frozen=True)
class Unit:
    """One result file: a row (None: what needs no forecast) on some windows of a clip, with one seed."""

    row: Row | None
    seed: int
    key: str


@dataclass(frozen=True)
class Job:
    """Windows of one clip, and the units of them that are not there yet."""

    study: Study
    horizon: Horizon
    clip: Clip
    source: Clip | None
    windows: tuple[int, ...]
    units: tuple[Unit, ...]


def label_of(model: str) -> str:
    """Return the name that a model of a study has in tables: a file's is marked, for it was trained elsewhere."""
    return f"{Path(model).stem} (file)" if model.endswith(".safetensors") else model


def picked_windows(count: int, limit: int | None) -> tuple[int, ...]:
    """Return which of `count` windows are measured: all, or `limit` evenly spaced, from the middle of equal parts."""
    if limit is None or limit >= count:
        return tuple(range(count))
    return tuple(int((i + 0.5) * count / limit) for i in range(limit))


def unit_seed(seed: int, clip: Clip, horizon: Horizon, windows: tuple[int, ...]) -> int:
    """Return the seed of a unit's samples: no two units share their noise, whatever the order they are done in."""
    return int(digest(seed, clip.content, horizon, windows)[:12], 16)
