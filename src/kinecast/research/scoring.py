"""Scores of keypoint forecasts, per window first.

Notation: S samples, C kept, W windows, H horizon, D numbers per frame.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from kinecast.data.windows import Windows
from kinecast.forecasting import Forecaster
from kinecast.metrics.diversity import DRAWN, KEPT, keep_closest_to_truth
from kinecast.metrics.scores import covered, crps, energy_score, median_error, spread
from kinecast.research.protocol import VideoScale

WINDOWS = 32  # forecast at a time


@dataclass(frozen=True)
class Scores:
    """The columns, each a mean (over H and D where the score is of single numbers)."""

    mae: float  # of the model's median if it knows it, else of the samples', raw units
    mae_normalised: float  # the same in per-video min-max units
    crps: float
    energy_score: float
    spread: float  # standard deviation over samples
    coverage_50: float
    coverage_80: float
    coverage_95: float
    apd: float  # average pairwise distance of the samples, as `metrics.pixel.apd`, of numbers of motion
    mae_samples: float  # of each sample, not of their median
    apd_kept: float  # of the fifth of the samples nearest to the truth, window by window: an oracle's choice
    mae_kept: float
    seconds_per_window: float


COLUMNS = tuple(field.name for field in fields(Scores))


@dataclass(frozen=True)
class WindowScores:
    """The same of each window: columns by name, each (W,)."""

    columns: dict[str, np.ndarray]

    def mean(self) -> Scores:
        """Return means over all windows."""
        return Scores(**{name: float(values.mean()) for name, values in self.columns.items()})

    @staticmethod
    def joined(parts: Sequence["WindowScores"]) -> "WindowScores":
        """Put the windows of several one after the other."""
        return WindowScores({name: np.concatenate([part.columns[name] for part in parts]) for name in COLUMNS})


def window_scores(model: Forecaster, windows: Windows, samples: int, seed: int) -> WindowScores:
    """Forecast windows honestly, S samples each, and score them. A model without randomness is drawn twice."""
    count = 2 if model.deterministic else samples
    started = time.perf_counter()
    drawn = [
        model.forecast(part, windows.horizon.forecast, count, seed=seed + i).cpu()
        for i, part in enumerate(windows.observed.split(WINDOWS))
    ]
    seconds = time.perf_counter() - started
    median = None
    if model.exact_median:
        parts = windows.observed.split(WINDOWS)
        median = torch.cat([model.median(part, windows.horizon.forecast, seed=seed).cpu() for part in parts])
    return score_samples(torch.cat(drawn, dim=1), windows, seconds, median)


def score_samples(samples: Tensor, windows: Windows, seconds: float, median: Tensor | None = None) -> WindowScores:
    """Score samples (S, W, H, D), which took so many seconds to draw, and their median (W, H, D), or another one."""
    truth = windows.truth
    error = median_error(samples, truth) if median is None else (median - truth).abs()
    inside = {level: array.mean(axis=(1, 2)) for level, array in covered(samples, truth).items()}
    tensors = {
        "mae": error,
        "mae_normalised": error / VideoScale.of(windows).extent,
        "crps": crps(samples, truth),
        "spread": spread(samples),
    }
    return WindowScores(
        {name: tensor.mean(dim=(1, 2)).double().numpy() for name, tensor in tensors.items()}
        | {
            "energy_score": energy_score(samples, truth).numpy(),
            "coverage_50": inside[0.5],
            "coverage_80": inside[0.8],
            "coverage_95": inside[0.95],
            **_diversity(samples, truth),
            "seconds_per_window": np.full(len(truth), seconds / len(truth)),
        }
    )


def _diversity(samples: Tensor, truth: Tensor) -> dict[str, np.ndarray]:
    """Return APD and MAE, each (W,), of all samples (S, W, H, D), and of those that [A], section 5.3, would keep."""
    errors = (samples - truth).abs().mean(dim=(2, 3))
    count = max(1, len(samples) * KEPT // DRAWN)
    nearest = [keep_closest_to_truth(errors[:, window], count) for window in range(len(truth))]
    kept = [samples[of, window] for window, of in enumerate(nearest)]
    return {
        "apd": np.array([_pairwise(samples[:, window]) for window in range(len(truth))]),
        "mae_samples": errors.mean(dim=0).double().numpy(),
        "apd_kept": np.array([_pairwise(of) for of in kept]),
        "mae_kept": np.array([float(errors[of, window].mean()) for window, of in enumerate(nearest)]),
    }


def _pairwise(samples: Tensor) -> float:
    """Return the average pairwise distance of samples (S, H, D): [A], eq. 37, a sample with itself included."""
    count = len(samples)
    weights = 2 * torch.arange(1, count + 1, dtype=torch.float64) - count - 1
    return float(2 * weights @ samples.double().sort(dim=0).values.mean(dim=(1, 2)) / count**2)
