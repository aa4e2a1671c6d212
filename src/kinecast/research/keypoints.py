"""The honest table of forecasts of keypoints, on people that no model was trained on.

Rows: the baselines, our models trained here on the other people, and the released VRNN read both ways. Columns are
means over windows: errors and scores in raw motion units, and one error in per-video min-max units (a unit to report
in, which no honest model is told).

Notation: S samples, W windows, H horizon, D numbers per frame.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from kinecast.data.video_folder import PERSON_PATTERN
from kinecast.data.windows import Horizon, Series, Windows, evaluation_windows, split_by_person
from kinecast.errors import KinecastError
from kinecast.files import make_folder
from kinecast.forecasting import FORECASTERS, Forecaster, build_forecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.forecasting.vrnn_released import ReleasedVRNN
from kinecast.metrics.scores import coverage, crps, energy_score, median_error, spread
from kinecast.research.protocol import VideoScale, released_samples
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster
from kinecast.zoo import load_forecaster

BASELINES = ("repeat", "velocity", "damped", "climatology")
MODELS = ("gru", "vae", "nf", "vrnn", "gru-nf", "gru-snf", "direct")
_WINDOWS = 32  # forecast at a time


@dataclass(frozen=True)
class KeypointTableConfig:
    """What the table is made of. `training` holds values of `ForecasterTrainingConfig` for all trained models.

    `models` are names of the registry, trained here, or of bundled weights, taken as they are: of a training that kept
    out the same people.
    """

    horizons: tuple[Horizon, ...] = (Horizon(6, 6), Horizon(12, 12))
    validate: str = "id10291"
    person: str = PERSON_PATTERN
    models: tuple[str, ...] = MODELS
    samples: int = 100
    seeds: tuple[int, ...] = (0,)
    training: Mapping[str, Any] | None = None
    workers: int = 1  # processes that train, each on one thread; 1 trains in this process, on all threads

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise KinecastError(f"keypoint table: expected at least 1 worker, found {self.workers}")
        if not self.horizons or not self.seeds or self.samples < 2:
            raise KinecastError(
                f"keypoint table: expected a horizon, a seed and at least 2 samples, found {len(self.horizons)}, "
                f"{len(self.seeds)} and {self.samples}"
            )


@dataclass(frozen=True)
class Scores:
    """The columns, each a mean over windows (and over H and D where the score is of single numbers)."""

    mae: float  # of the samples' median, raw units
    mae_normalised: float  # the same in per-video min-max units
    crps: float
    energy_score: float
    spread: float  # standard deviation over samples
    coverage_50: float
    coverage_80: float
    coverage_95: float
    seconds_per_window: float


@dataclass(frozen=True)
class Row:
    """One model at one horizon: means over seeds, and their standard deviations where there are several."""

    name: str
    reads_future: bool
    scores: Scores
    deviation: Scores | None
    crps_to_climatology: float


def keypoint_table(
    series: Series,
    released: Mapping[Horizon, ReleasedVRNN],
    config: KeypointTableConfig,
    cache: Path,
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, dict[str, Any]]:
    """Return for each horizon, by its name, the number of windows and the rows (as plain values).

    Models are trained on the people that `validate` does not match, and kept in the folder `cache`; the same call
    after a stop goes on from there.

    Raises:
        KinecastError: `validate` matches nobody or everybody, or clips are shorter than a horizon.
    """
    training, validation = split_by_person(series, config.validate, config.person)
    make_folder(cache)
    models = _Models(training, config, cache)
    models.train(log)
    tables: dict[str, dict[str, Any]] = {}
    for horizon in config.horizons:
        windows = evaluation_windows(validation, horizon)
        collected: dict[str, list[Scores]] = {}
        for seed in config.seeds:
            for name in (*BASELINES, *config.models):
                label = name if name in BASELINES else f"{name} ({'ours' if name in FORECASTERS else 'bundled'})"
                collected.setdefault(label, []).append(
                    score_forecaster(models.load(name, horizon, seed), windows, config.samples, seed)
                )
            if horizon in released:
                collected.setdefault("vrnn released, free-running", []).append(
                    score_forecaster(released[horizon], windows, config.samples, seed)
                )
                collected.setdefault("vrnn released, as released", []).append(
                    _score_released(released[horizon], windows, config.samples, seed)
                )
        rows = _rows(collected)
        for row in rows:
            log(f"{horizon}  {row.name:28s} MAE {row.scores.mae:.5f}  CRPS {row.scores.crps:.5f}")
        tables[str(horizon)] = {"windows": len(windows.frames), "rows": [asdict(row) for row in rows]}
    return tables


def score_forecaster(model: Forecaster, windows: Windows, samples: int, seed: int) -> Scores:
    """Forecast windows honestly, S samples each, and score them. A model without randomness is drawn twice."""
    count = 2 if model.deterministic else samples
    started = time.perf_counter()
    drawn = [
        model.forecast(part, windows.horizon.forecast, count, seed=seed + i).cpu()
        for i, part in enumerate(windows.observed.split(_WINDOWS))
    ]
    seconds = time.perf_counter() - started
    return score_samples(torch.cat(drawn, dim=1), windows, seconds)


def score_samples(samples: Tensor, windows: Windows, seconds: float) -> Scores:
    """Score samples (S, W, H, D), which took so many seconds to draw."""
    truth = windows.truth
    error = median_error(samples, truth)
    covered = coverage(samples, truth)
    return Scores(
        mae=float(error.mean()),
        mae_normalised=float((error / VideoScale.of(windows).extent).mean()),
        crps=float(crps(samples, truth).mean()),
        energy_score=float(energy_score(samples, truth).mean()),
        spread=float(spread(samples).mean()),
        coverage_50=covered[0.5],
        coverage_80=covered[0.8],
        coverage_95=covered[0.95],
        seconds_per_window=seconds / len(truth),
    )


def _score_released(model: ReleasedVRNN, windows: Windows, samples: int, seed: int) -> Scores:
    started = time.perf_counter()
    drawn = released_samples(model, windows, samples, seed)
    return score_samples(drawn, windows, time.perf_counter() - started)


class _Models:
    """The trained models of a table, in a folder; a file there is used if it is of the same training and config."""

    def __init__(self, series: Series, config: KeypointTableConfig, cache: Path) -> None:
        self.series, self.config, self.cache = series, config, cache

    def train(self, log: Callable[[str], None]) -> None:
        """Train what is missing."""
        jobs = [(path, training) for path, training in self._jobs() if not _is_trained(path, training, self.series)]
        if self.config.workers == 1:
            for path, training in jobs:
                _train(path, training, self.series, log)
            return
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        with ProcessPoolExecutor(self.config.workers, context, torch.set_num_threads, (1,)) as pool:
            waiting = {pool.submit(_train, path, training, self.series): path for path, training in jobs}
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
        if name not in FORECASTERS:
            return self._bundled(name)
        shared = name == "gru-snf" and "gru-nf" in self.config.models
        path, _ = self._job("gru-nf" if shared else name, horizon, seed)
        model = load_forecaster_file(path)
        return GRUSNF.from_gru_nf(model) if shared and isinstance(model, GRUNF) else model

    def _bundled(self, name: str) -> Forecaster:
        model = load_forecaster(name, "cpu")
        kept_out = model.about.get("kept_out")
        if kept_out != self.config.validate:
            raise KinecastError(
                f"{name}: expected weights of a training that kept {self.config.validate} out, found {kept_out!r}: "
                "evaluate on those people, or train the model here"
            )
        return model

    def _jobs(self) -> Iterator[tuple[Path, ForecasterTrainingConfig]]:
        for horizon in self.config.horizons:
            for name in (*BASELINES, *self.config.models):
                for seed in self.config.seeds:
                    if name in FORECASTERS and not (name == "gru-snf" and "gru-nf" in self.config.models):
                        yield self._job(name, horizon, seed)

    def _job(self, name: str, horizon: Horizon, seed: int) -> tuple[Path, ForecasterTrainingConfig]:
        training = ForecasterTrainingConfig(
            model=name,
            observed=horizon.observed,
            forecast=horizon.forecast,
            seed=seed,
            **(self.config.training or {}),
        )
        return self.cache / f"{name}_{horizon}_seed{seed}.safetensors", training


def _is_trained(path: Path, training: ForecasterTrainingConfig, series: Series) -> bool:
    if not path.exists():
        return False
    model = load_forecaster_file(path)
    expected = build_forecaster(training.model, model.motion_dim, training.preset, **training.overrides)
    return model.about == _about(training, series) and model.config == expected.config


def _train(
    path: Path, training: ForecasterTrainingConfig, series: Series, log: Callable[[str], None] = lambda line: None
) -> None:
    save_forecaster(train_forecaster(series, training, None, log).model, path, _about(training, series))


def _about(training: ForecasterTrainingConfig, series: Series) -> dict[str, Any]:
    return {"training": asdict(training), "clips": sorted(series)}


def _rows(collected: Mapping[str, list[Scores]]) -> list[Row]:
    rows = []
    climatology = mean(scores.crps for scores in collected["climatology"])
    for name, runs in collected.items():
        columns = {field.name: [getattr(scores, field.name) for scores in runs] for field in fields(Scores)}
        average = Scores(**{column: mean(values) for column, values in columns.items()})
        deviation = Scores(**{column: stdev(values) for column, values in columns.items()}) if len(runs) > 1 else None
        rows.append(Row(name, name.endswith("as released"), average, deviation, average.crps / climatology))
    return rows
