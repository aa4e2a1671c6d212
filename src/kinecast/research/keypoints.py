"""The honest table of forecasts of keypoints, on people that no model was trained on.

Rows: the baselines, our models trained here on the other people, and the released VRNN read both ways. Columns are
means over people, each the mean over their windows: errors and scores in raw motion units, and one error in per-video
min-max units (a unit to report in, which honest models do not use). Who is kept out is named, or everybody in turn, in
folds of people; settings that are chosen are chosen on the training people of each fold.

Notation: S samples, W windows, H horizon, D numbers per frame.
"""

import multiprocessing
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from kinecast.data.video_folder import PERSON_PATTERN, person_of
from kinecast.data.windows import Horizon, Series, Windows, evaluation_windows, split_by_person
from kinecast.errors import KinecastError
from kinecast.files import make_folder
from kinecast.forecasting import FORECASTERS, Forecaster, build_forecaster
from kinecast.forecasting.families import differences, family_of
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.forecasting.vrnn_released import ReleasedVRNN
from kinecast.research.people import Difference, Estimate, People, groups_of
from kinecast.research.protocol import released_samples
from kinecast.research.scoring import COLUMNS, Scores, WindowScores, score_samples, window_scores
from kinecast.research.selection import CANDIDATES, Candidates, choose_settings
from kinecast.training.forecaster import GENERAL, ForecasterTrainingConfig, train_forecaster
from kinecast.zoo import load_forecaster

BASELINES = ("repeat", "velocity", "damped", "climatology", "ridge", "var")
MODELS = ("gru", "vae", "nf", "vrnn", "gru-nf", "gru-snf", "direct", "transformer")
ESTIMATED = ("mae", "crps", "energy_score", "spread", "coverage_80")  # with their people, worst and interval
COMPARED = {"mae": "damped", "crps": "climatology"}  # what each row is held against
_GENERAL = "general"  # the preset of models for every horizon: trained once, as `training.forecaster.GENERAL` says
_ONE_IN = 10
PAIRED = ("mae", "crps", "spread")  # of every two models


@dataclass(frozen=True)
class KeypointTableConfig:
    """What the table is made of. `training` holds values of `ForecasterTrainingConfig` for all trained models.

    `models` are names of the registry, `name` or `name:preset`, trained here, or of bundled weights, taken as they
    are: of a training that kept out the same people. Those of the preset `general` are trained once for all horizons,
    as the bundled ones are, whatever `training` says. With `folds` everybody is kept out once, in so many groups of
    people, and `validate` is not looked at. `candidates` are settings by model, of which one is chosen on the training
    people.
    """

    horizons: tuple[Horizon, ...] = (Horizon(6, 6), Horizon(12, 12))
    validate: str = "id10291"
    person: str = PERSON_PATTERN
    models: tuple[str, ...] = MODELS
    baselines: tuple[str, ...] = BASELINES  # with what rows are held against, at least
    samples: int = 100
    seeds: tuple[int, ...] = (0,)
    training: Mapping[str, Any] | None = None
    workers: int = 1  # processes that train, each on one thread; 1 trains in this process, on all threads
    folds: int | None = None
    every: int = 1  # windows are of every k-th frame
    candidates: Mapping[str, Candidates] = field(default_factory=lambda: dict(CANDIDATES))

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise KinecastError(f"keypoint table: expected at least 1 worker, found {self.workers}")
        needed = {*COMPARED.values()}
        if not needed <= {*self.baselines} <= {*BASELINES}:
            raise KinecastError(
                f"keypoint table: expected baselines of {', '.join(BASELINES)}, {' and '.join(sorted(needed))} among "
                f"them, found {', '.join(self.baselines)}"
            )
        if not self.horizons or not self.seeds or self.samples < 2:
            raise KinecastError(
                f"keypoint table: expected a horizon, a seed and at least 2 samples, found {len(self.horizons)}, "
                f"{len(self.seeds)} and {self.samples}"
            )


@dataclass(frozen=True)
class Row:
    """One model at one horizon: means over people and seeds, and standard deviations of seeds where several.

    `people` has the columns of `ESTIMATED` over people; `against` the differences of `COMPARED`; `by_person` each
    person's own mean, the seeds averaged.
    """

    name: str
    family: str
    reads_future: bool
    scores: Scores
    deviation: Scores | None
    crps_to_climatology: float
    people: dict[str, Estimate]
    against: dict[str, Difference | None]
    by_person: dict[str, dict[str, float]]
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Scored:
    """What was measured of one row: window scores by seed, and a model that stands for it."""

    family: str
    differences: tuple[str, ...]
    runs: list[WindowScores]


def keypoint_table(
    series: Series,
    released: Mapping[Horizon, ReleasedVRNN],
    config: KeypointTableConfig,
    cache: Path,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, Any]]:
    """Return for each horizon, by its name: windows, people, the rows and paired differences (as plain values).

    Models are trained on the people that are not evaluated on, and kept in the folder `cache`; the same call after a
    stop goes on from there.

    Raises:
        KinecastError: `validate` matches nobody or everybody, more folds than people, or clips are shorter than a
            horizon.
    """
    folds = _folds(series, config)
    make_folder(cache)
    models = [_Models(training, config, cache, tag) for training, _, tag in folds]
    for of_fold in models:
        of_fold.train(log)
    tables: dict[str, dict[str, Any]] = {}
    for horizon in config.horizons:
        windows = [evaluation_windows(kept_out, horizon, config.every) for _, kept_out, _ in folds]
        scored: dict[str, _Scored] = {}
        for name in (*config.baselines, *config.models):
            label, of = _scored(name, horizon, config, models, windows)
            scored[label] = of
        if horizon in released:
            scored |= _released(released[horizon], windows, config)
        people = People([clip for part in windows for clip in part.clips], config.person)
        rows = _rows(scored, people)
        for row in rows:
            log(f"{horizon}  {row.name:28s} MAE {row.scores.mae:.5f}  CRPS {row.scores.crps:.5f}")
        tables[str(horizon)] = {
            "windows": sum(len(part.frames) for part in windows),
            "people": len(people.names),
            "unit": people.unit,
            "rows": [asdict(row) for row in rows],
            "paired": _paired(scored, people),
        }
    return tables


def _folds(series: Series, config: KeypointTableConfig) -> list[tuple[Series, Series, str]]:
    """Return the clips to train on, those kept out, and a tag for files, of each fold."""
    if config.folds is None:
        return [(*split_by_person(series, config.validate, config.person), "")]
    people = {clip: person_of(clip, config.person) for clip in series}
    found: list[tuple[Series, Series, str]] = []
    for i, group in enumerate(groups_of(list(people.values()), config.folds)):
        kept_out = {clip: motion for clip, motion in series.items() if people[clip] in group}
        training = {clip: motion for clip, motion in series.items() if clip not in kept_out}
        found.append((training, kept_out, f"_fold{i + 1}of{config.folds}"))
    return found


def _scored(
    name: str, horizon: Horizon, config: KeypointTableConfig, models: "list[_Models]", windows: list[Windows]
) -> tuple[str, _Scored]:
    """Score one model on the windows of all folds, with every seed: its label and what was measured."""
    runs: list[WindowScores] = []
    for seed in config.seeds:
        parts = []
        for of_fold, part in zip(models, windows, strict=True):
            model = of_fold.load(name, horizon, seed)
            parts.append(score_forecaster(model, part, config.samples, seed))
        runs.append(WindowScores.joined(parts))
    family = family_of(model)
    kind, _, preset = name.partition(":")
    told = name if preset == _GENERAL else kind
    label = name if name in BASELINES else f"{told} ({family})" if kind in FORECASTERS else f"{name} (bundled)"
    return label, _Scored(family, differences(model), runs)


def score_forecaster(model: Forecaster, windows: Windows, samples: int, seed: int) -> WindowScores:
    """Forecast windows honestly, S samples each, and score them (`scoring.window_scores`)."""
    return window_scores(model, windows, samples, seed)


def _released(model: ReleasedVRNN, windows: list[Windows], config: KeypointTableConfig) -> dict[str, _Scored]:
    """Score the released VRNN read both ways."""
    free, future = [], []
    for seed in config.seeds:
        free.append(WindowScores.joined([score_forecaster(model, part, config.samples, seed) for part in windows]))
        future.append(WindowScores.joined([_read_as_released(model, part, config.samples, seed) for part in windows]))
    return {
        "vrnn released, free-running": _Scored("released", (), free),
        "vrnn released, as released": _Scored("released", (), future),
    }


def _read_as_released(model: ReleasedVRNN, windows: Windows, samples: int, seed: int) -> WindowScores:
    started = time.perf_counter()
    drawn = released_samples(model, windows, samples, seed)
    return score_samples(drawn, windows, time.perf_counter() - started)


def _rows(scored: Mapping[str, _Scored], people: People) -> list[Row]:
    over_seeds = {name: _over_seeds(of) for name, of in scored.items()}
    climatology = float(people.means(over_seeds["climatology"]["crps"]).mean())
    rows = []
    for name, of in scored.items():
        mine = over_seeds[name]
        runs = [{column: float(people.means(run.columns[column]).mean()) for column in COLUMNS} for run in of.runs]
        average = Scores(**{column: mean(run[column] for run in runs) for column in COLUMNS})
        spreads = {column: stdev(run[column] for run in runs) for column in COLUMNS} if len(runs) > 1 else None
        persons = {column: people.means(mine[column]) for column in ESTIMATED}
        against = {
            column: people.difference(mine[column], over_seeds[other][column]) for column, other in COMPARED.items()
        }
        rows.append(
            Row(
                name=name,
                family=of.family,
                reads_future=name.endswith("as released"),
                scores=average,
                deviation=Scores(**spreads) if spreads else None,
                crps_to_climatology=average.crps / climatology,
                people={column: people.estimate(mine[column]) for column in ESTIMATED},
                against=against,
                by_person={
                    person: {column: round(float(persons[column][i]), 6) for column in ESTIMATED}
                    for i, person in enumerate(people.names)
                },
                differences=of.differences,
            )
        )
    return rows


def _over_seeds(of: _Scored) -> dict[str, np.ndarray]:
    return {column: np.mean([run.columns[column] for run in of.runs], axis=0) for column in COLUMNS}


def _paired(scored: Mapping[str, _Scored], people: People) -> list[dict[str, Any]]:
    """Return the differences of every two rows that are forecasts, the first against the second."""
    over_seeds = {name: _over_seeds(of) for name, of in scored.items() if not name.endswith("as released")}
    found: list[dict[str, Any]] = []
    for second, first in combinations(over_seeds, 2):
        for column in PAIRED:
            difference = people.difference(over_seeds[first][column], over_seeds[second][column])
            if difference is not None:
                found.append({"first": first, "second": second, "column": column, **asdict(difference)})
    return found


class _Models:
    """The trained models of a fold, in a folder; a file there is used if it is of the same training and config."""

    def __init__(self, series: Series, config: KeypointTableConfig, cache: Path, tag: str) -> None:
        self.series, self.config, self.cache, self.tag = series, config, cache, tag

    def train(self, log: Callable[[str], None]) -> None:
        """Train what is missing."""
        jobs = list({job.path: job for job in self._jobs() if not _is_trained(job, self.series)}.values())
        if self.config.workers == 1:
            for job in jobs:
                _train(job, self.series, log)
            return
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        with ProcessPoolExecutor(self.config.workers, context, torch.set_num_threads, (1,)) as pool:
            waiting = {pool.submit(_train, job, self.series): job.path for job in jobs}
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    future.result()
                    log(f"trained {waiting[future].stem} ({done} of {len(jobs)})")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def load(self, name: str, horizon: Horizon, seed: int) -> Forecaster:
        """Return a trained model. A GRU-SNF is the GRU-NF of the table, refined: the same weights.

        Raises:
            KinecastError: bundled weights of a training that saw the people evaluated on.
        """
        if name.partition(":")[0] not in FORECASTERS:
            return self._bundled(name)
        shared = self._shared(name)
        model = load_forecaster_file(self._job(shared or name, horizon, seed).path)
        return GRUSNF.from_gru_nf(model) if shared and isinstance(model, GRUNF) else model

    def _shared(self, name: str) -> str | None:
        """Return the GRU-NF of the table whose weights a GRU-SNF has, if it is there."""
        kind, colon, preset = name.partition(":")
        plain = f"gru-nf{colon}{preset}"
        return plain if kind == "gru-snf" and plain in self.config.models else None

    def _bundled(self, name: str) -> Forecaster:
        model = load_forecaster(name, "cpu")
        kept_out = model.about.get("kept_out")
        if self.config.folds is not None or kept_out != self.config.validate:
            wanted = "each fold's people" if self.config.folds is not None else self.config.validate
            raise KinecastError(
                f"{name}: expected weights of a training that kept {wanted} out, found {kept_out!r}: "
                "evaluate on those people, or train the model here"
            )
        return model

    def _jobs(self) -> "Iterator[_Job]":
        for horizon in self.config.horizons:
            for name in (*self.config.baselines, *self.config.models):
                for seed in self.config.seeds:
                    if name.partition(":")[0] in FORECASTERS and self._shared(name) is None:
                        yield self._job(name, horizon, seed)

    def _one_in_ten(self) -> str | None:
        """Return a pattern of every tenth training person, who say when a general model stops, and how wide it is."""
        people = sorted({person_of(clip, self.config.person) for clip in self.series})
        chosen = people[::_ONE_IN] if len(people) >= 2 * _ONE_IN else []
        return f"^({'|'.join(map(re.escape, chosen))})$" if chosen else None

    def _job(self, name: str, horizon: Horizon, seed: int) -> "_Job":
        kind, _, preset = name.partition(":")
        values: dict[str, Any] = {
            "observed": horizon.observed,
            "forecast": horizon.forecast,
            "every": self.config.every,
        }
        values |= self.config.training or {}
        if preset == _GENERAL:
            values |= {**GENERAL[kind], "person": self.config.person, "early_stop": self._one_in_ten()}
        training = ForecasterTrainingConfig(model=kind, preset=preset or None, seed=seed, **values)
        file = f"{name.replace(':', '-')}_{training.horizon}_seed{seed}{self.tag}.safetensors"
        candidates = tuple(self.config.candidates.get(name, ()))
        return _Job(self.cache / file, training, candidates, self.config.person)


@dataclass(frozen=True)
class _Job:
    """A model to train, and the settings that one is chosen of."""

    path: Path
    training: ForecasterTrainingConfig
    candidates: Candidates
    person: str

    def about(self, series: Series) -> dict[str, Any]:
        """Return what tells this training from others."""
        told = {"candidates": [dict(c) for c in self.candidates]} if self.candidates else {}
        return {"training": self.training.to_json(), "clips": sorted(series), **told}


def _is_trained(job: _Job, series: Series) -> bool:
    if not job.path.exists():
        return False
    model = load_forecaster_file(job.path)
    about = {key: value for key, value in model.about.items() if key != "chosen"}
    overrides = {**job.training.overrides, **model.about.get("chosen", {})}
    expected = build_forecaster(job.training.model, model.motion_dim, job.training.preset, **overrides)
    return about == job.about(series) and model.config == expected.config


def _train(job: _Job, series: Series, log: Callable[[str], None] = lambda line: None) -> None:
    training, about = job.training, job.about(series)
    if job.candidates:
        about["chosen"] = choose_settings(series, training, job.candidates, job.person, log)
        training = replace(training, overrides={**training.overrides, **about["chosen"]})
    save_forecaster(train_forecaster(series, training, None, log).model, job.path, about)
