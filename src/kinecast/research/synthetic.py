"""Forecasters against the truth, on processes whose conditional distribution is known (`data.synthetic`).

Every model is trained on independent series of a process and forecasts other windows of it. The row `truth` draws from
the true conditional distribution: its scores are the floor, and their distance from perfection is the sampling error.

Notation: S samples, R reference samples, W windows, H horizon, D numbers per frame.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinecast.data.windows import Horizon, Windows
from kinecast.errors import KinecastError
from kinecast.files import atomic_path, make_folder
from kinecast.forecasting import FORECASTERS, Forecaster, forecaster_class
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.metrics.distances import conditional_energy_distance
from kinecast.metrics.scores import branch_coverage, coverage, crps, energy_score, pit_deviation, pit_histogram
from kinecast.research.data.synthetic import PROCESSES, BranchingPath, Process, build_process, synthetic_series
from kinecast.research.data.synthetic import synthetic_windows as windows_of
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster

TRUTH = "truth"
_FOREIGN = "vrnn-released"  # of one backbone's motion and fixed weights: nothing to train here
MODELS = tuple(name for name in FORECASTERS if name != _FOREIGN)
_REFERENCE = 200  # futures of each window that stand for the true distribution
# Of generators: test windows, reference and the row `truth` are the same for all models and seeds.
_WINDOW_SEED, _REFERENCE_SEED, _TRUTH_SEED, _SERIES_SEED = 11, 12, 13, 10_000
_TOGETHER = 32  # windows forecast at a time


@dataclass(frozen=True)
class SyntheticTableConfig:
    """Training and evaluation settings; `series` is the number of training series."""

    processes: tuple[str, ...] = tuple(PROCESSES)
    models: tuple[str, ...] = MODELS
    horizon: Horizon = Horizon(12, 12)
    series: int = 512
    windows: int = 64
    samples: int = 100
    steps: int = 300
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name in self.processes:
            build_process(name)
        for name in self.models:
            if forecaster_class(name) is FORECASTERS[_FOREIGN]:
                raise KinecastError(f"synthetic table: expected models to train, found {name}: choose others")
        for what in ("processes", "models", "seeds"):
            if not getattr(self, what):
                raise KinecastError(f"synthetic table: expected at least one of {what}, found none")
        least = {"series": 2, "windows": 2, "samples": 39, "steps": 1}  # 39 samples: the interval of 95 %
        for what, count in least.items():
            if getattr(self, what) < count:
                raise KinecastError(
                    f"synthetic table: expected {what} of at least {count}, found {getattr(self, what)}"
                )


@dataclass(frozen=True)
class SyntheticScores:
    """The figures of one forecaster on one process. Branch figures are NaN where there are no branches."""

    energy_distance: float  # to the true conditional distribution, unbiased, mean over windows
    crps: float
    energy_score: float
    pit_deviation: float
    coverage_50: float
    coverage_80: float
    coverage_95: float
    right_share: float  # of samples on the right branch
    share_error: float
    both_reached: float  # share of windows where both branches have at least a tenth of the samples
    astray: float  # share of samples on neither branch
    seconds_per_window: float


_COLUMNS = tuple(field.name for field in fields(SyntheticScores))


@dataclass(frozen=True)
class SyntheticRow:
    """Means over seeds, standard deviations where there are several, and the mean PIT histogram."""

    name: str
    scores: SyntheticScores
    deviation: SyntheticScores | None
    pit: tuple[float, ...]


def process_of(name: str, horizon: Horizon) -> Process:
    """Return a process as the table uses it: of the path, the fork is reached soon after the observed frames."""
    return BranchingPath(fork=horizon.observed + 1.0) if name == BranchingPath.name else build_process(name)


def synthetic_table(
    config: SyntheticTableConfig, cache: Path, log: Callable[[str], None] = lambda line: None
) -> dict[str, list[SyntheticRow]]:
    """Return the rows of each process, `truth` first. Trained models are kept in the folder `cache` and used again.

    Raises:
        KinecastError: the cache cannot be written.
    """
    make_folder(cache)
    tables = {}
    for name in config.processes:
        process = process_of(name, config.horizon)
        scorer = _Scorer(process, windows_of(process, config.windows, config.horizon, _WINDOW_SEED))
        rows = [_row(TRUTH, [scorer.score(*scorer.truth(config.samples))])]
        for model in config.models:
            runs = []
            for seed in config.seeds:
                trained = _trained(model, process, config, seed, cache)
                runs.append(scorer.score(*_forecast(trained, scorer.windows, config.samples, seed)))
            rows.append(_row(model, runs))
            scores = rows[-1].scores
            log(f"{name:10s} {model:12s} energy distance {scores.energy_distance:.4f}  CRPS {scores.crps:.4f}")
        tables[name] = rows
    return tables


class _Scorer:
    """What is known of a process's test windows: their truth, and samples of what the truth could have been."""

    def __init__(self, process: Process, windows: Windows) -> None:
        self.process = process
        self.windows = windows
        horizon = windows.horizon.forecast
        generator = torch.Generator().manual_seed(_REFERENCE_SEED)
        self.reference = process.futures(windows.observed, horizon, _REFERENCE, generator)

    def truth(self, samples: int) -> tuple[Tensor, float]:
        """Draw other samples of the true distribution, (S, W, H, D), and return the seconds that it took."""
        started = time.perf_counter()
        generator = torch.Generator().manual_seed(_TRUTH_SEED)
        drawn = self.process.futures(self.windows.observed, self.windows.horizon.forecast, samples, generator)
        return drawn, time.perf_counter() - started

    def score(self, samples: Tensor, seconds: float) -> tuple[SyntheticScores, Tensor]:
        """Score samples (S, W, H, D); return their PIT histogram too."""
        truth = self.windows.truth
        pit, covered = pit_histogram(samples, truth), coverage(samples, truth)
        scores = SyntheticScores(
            energy_distance=float(conditional_energy_distance(samples, self.reference).mean()),
            crps=float(crps(samples, truth).mean()),
            energy_score=float(energy_score(samples, truth).mean()),
            pit_deviation=pit_deviation(pit),
            coverage_50=covered[0.5],
            coverage_80=covered[0.8],
            coverage_95=covered[0.95],
            **self._branches(samples),
            seconds_per_window=seconds / len(truth),
        )
        return scores, pit

    def _branches(self, samples: Tensor) -> dict[str, float]:
        if not isinstance(self.process, BranchingPath):
            return dict.fromkeys(("right_share", "share_error", "both_reached", "astray"), math.nan)
        right = (self.process.branches(self.reference) == 1).double().mean(dim=0)
        found = branch_coverage(self.process.branches(samples), torch.stack([1 - right, right], dim=1))
        return {
            "right_share": found.shares[1],
            "share_error": found.share_error,
            "both_reached": found.all_reached,
            "astray": found.astray,
        }


def _forecast(model: Forecaster, windows: Windows, samples: int, seed: int) -> tuple[Tensor, float]:
    """Return S samples of each window, (S, W, H, D), and the seconds that they took."""
    started = time.perf_counter()
    drawn = [
        model.forecast(part, windows.horizon.forecast, samples, seed=seed + i)
        for i, part in enumerate(windows.observed.split(_TOGETHER))
    ]
    return torch.cat(drawn, dim=1), time.perf_counter() - started


def _trained(name: str, process: Process, config: SyntheticTableConfig, seed: int, cache: Path) -> Forecaster:
    """Return the cached model if it is of this training, otherwise train it. GRU-SNF refines the GRU-NF beside it."""
    if name == GRUSNF.name:
        flow = _trained(GRUNF.name, process, config, seed, cache)
        assert isinstance(flow, GRUNF)
        return GRUSNF.from_gru_nf(flow).eval()
    training = ForecasterTrainingConfig(
        model=name,
        observed=config.horizon.observed,
        forecast=config.horizon.forecast,
        steps=config.steps,
        amplitude=0.0,  # scaled motion would be of another process
        seed=seed,
    )
    about: dict[str, Any] = {"training": training.to_json(), "process": repr(process), "series": config.series}
    path = cache / f"{process.name}_{name}_{config.horizon}_seed{seed}.safetensors"
    if path.exists():
        model = load_forecaster_file(path)
        if model.about == about:
            return model
    series = synthetic_series(process, config.series, config.horizon.frames, _SERIES_SEED + seed)
    model = train_forecaster(series, training).model
    save_forecaster(model, path, about)
    return model


def _row(name: str, runs: Sequence[tuple[SyntheticScores, Tensor]]) -> SyntheticRow:
    columns = {key: torch.tensor([asdict(scores)[key] for scores, _ in runs], dtype=torch.float64) for key in _COLUMNS}
    average = SyntheticScores(**{key: float(values.mean()) for key, values in columns.items()})
    deviation = (
        SyntheticScores(**{key: float(values.std()) for key, values in columns.items()}) if len(runs) > 1 else None
    )
    pit = torch.stack([histogram for _, histogram in runs]).mean(dim=0)
    return SyntheticRow(name, average, deviation, tuple(pit.tolist()))


def pit_figure(path: Path, tables: dict[str, list[SyntheticRow]]) -> None:
    """Draw the PIT histograms: one row per forecaster, one column per process; flat is calibrated."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [row.name for row in next(iter(tables.values()))]
    figure = Figure(figsize=(2.1 * len(tables) + 0.6, 0.95 * len(names) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), len(tables), sharex=True, squeeze=False)
    for column, (process, rows) in enumerate(tables.items()):
        for line, row in enumerate(rows):
            axis, bins = axes[line, column], len(row.pit)
            axis.bar([(i + 0.5) / bins for i in range(bins)], row.pit, width=0.92 / bins, color="#5b7fa6")
            axis.axhline(1 / bins, color="black", linewidth=0.8, linestyle="--")
            axis.set(ylim=(0, 5 / bins), yticks=[], xticks=[0, 1])
            if max(row.pit) > 5 / bins:  # cut off: say how high
                axis.text(0.5, 0.82, f"to {max(row.pit):.2f}", transform=axis.transAxes, fontsize=7, ha="center")
            if line == 0:
                axis.set_title(process, fontsize=9)
            if column == 0:
                axis.set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
