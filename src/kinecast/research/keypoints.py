"""The honest table of forecasts of keypoints, on people that no model was trained on.

Rows: the baselines, our models trained here on the other people, and the released VRNN read both ways. Columns are
means over people, each the mean over their windows: errors and scores in raw motion units, and one error in per-video
min-max units (a unit to report in, which honest models do not use). Who is kept out is named, or everybody in turn, in
folds of people; settings that are chosen are chosen on the training people of each fold.

Notation: S samples, W windows, H horizon, D numbers per frame.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from kinecast.data.video_folder import person_of
from kinecast.data.windows import Horizon, Series, Windows, evaluation_windows, split_by_person
from kinecast.files import make_folder
from kinecast.forecasting import FORECASTERS, Forecaster
from kinecast.forecasting.families import differences, family_of
from kinecast.forecasting.vrnn_released import ReleasedVRNN
from kinecast.research.keypoint_models import (
    BASELINES,
    COMPARED,
    GENERAL_PRESET,
    MODELS,
    KeypointTableConfig,
    Models,
)
from kinecast.research.people import Difference, Estimate, People, groups_of
from kinecast.research.protocol import released_samples
from kinecast.research.scoring import COLUMNS, Scores, WindowScores, score_samples, window_scores

__all__ = ["BASELINES", "MODELS", "KeypointTableConfig", "Row", "keypoint_table", "score_forecaster"]

# With their people, worst and interval.
ESTIMATED = ("mae", "crps", "energy_score", "spread", "coverage_80", "apd", "mae_samples", "apd_kept", "mae_kept")
PAIRED = ("mae", "crps", "energy_score", "spread", "apd", "mae_samples", "apd_kept", "mae_kept")  # of every two models


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
    trained: tuple[dict[str, Any], ...] = ()  # each training: steps, seconds, weights and its curve


@dataclass(frozen=True)
class _Scored:
    """What was measured of one row: window scores by seed, and a model that stands for it."""

    family: str
    differences: tuple[str, ...]
    runs: list[WindowScores]
    trained: tuple[dict[str, Any], ...] = ()


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
    models = [Models(training, config, cache, tag) for training, _, tag in folds]
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
    name: str, horizon: Horizon, config: KeypointTableConfig, models: list[Models], windows: list[Windows]
) -> tuple[str, _Scored]:
    """Score one model on the windows of all folds, with every seed: its label and what was measured."""
    runs: list[WindowScores] = []
    trained: list[dict[str, Any]] = []
    for seed in config.seeds:
        parts = []
        for of_fold, part in zip(models, windows, strict=True):
            model = of_fold.load(name, horizon, seed)
            trained += [record for record in (model.about.get("trained"),) if record and record["steps"]]
            parts.append(score_forecaster(model, part, config.samples, seed))
        runs.append(WindowScores.joined(parts))
    family = family_of(model)
    kind, _, preset = name.partition(":")
    told = name if preset == GENERAL_PRESET else kind
    label = name if name in BASELINES else f"{told} ({family})" if kind in FORECASTERS else f"{name} (bundled)"
    return label, _Scored(family, differences(model), runs, tuple(trained))


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
                trained=of.trained,
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
