"""Scores of keypoint forecasts, per window first.

Notation: S samples, W windows, H horizon, D numbers per frame.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from kinecast.data.windows import Windows
from kinecast.forecasting import Forecaster
from kinecast.metrics.scores import covered, crps, energy_score, median_error, spread
from kinecast.research.protocol import VideoScale

WINDOWS = 32  # forecast at a time


@dataclass(frozen=True)
class Scores:
    """The columns, each a mean (over H and D where the score is of single numbers)."""

    mae: float  # of the samples' median, raw units
    mae_normalised: float  # the same in per-video min-max units
    crps: float
    energy_score: float
    spread: float  # standard deviation over samples
    coverage_50: float
    coverage_80: float
    coverage_95: float
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
    return score_samples(torch.cat(drawn, dim=1), windows, seconds)


def score_samples(samples: Tensor, windows: Windows, seconds: float) -> WindowScores:
    """Score samples (S, W, H, D), which took so many seconds to draw."""
    truth = windows.truth
    error = median_error(samples, truth)
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
            "seconds_per_window": np.full(len(truth), seconds / len(truth)),
        }
    )
