"""Baseline scores of single steps, which a forecaster must beat.

    damped         |x_t - x_{t-1} - phi (x_{t-1} - x_{t-2})|, in root mean square residuals of normal clips, mean over D
    mahalanobis    (d_t - m)' C^{-1} (d_t - m) of d_t = x_t - x_{t-1}, the mean and covariance those of normal clips
    linear         the same for the residuals of a linear forecast from the last three frames and a constant (ridge)

Notation: T frames, D numbers per frame.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from kinecast.data.windows import Series

_RIDGE = 1e-6  # of the mean variance: faults show in directions of little normal motion


class StepScorer(ABC):
    """A score of frame t from frames t - `memory` to t."""

    name: ClassVar[str]
    memory: ClassVar[int]

    @classmethod
    @abstractmethod
    def fit(cls, series: Series) -> Self:
        """Fit to normal series (T, D)."""

    @abstractmethod
    def _scores(self, frames: np.ndarray) -> np.ndarray:
        """Return the scores of frames `memory` to T-1 of frames (T, D), in double precision."""

    def score_series(self, series: Tensor) -> dict[str, np.ndarray]:
        """Return the score of each frame of a series (T, D), (T,), by name: NaN where too few frames were seen."""
        scores = np.full(len(series), np.nan)
        if len(series) > self.memory:
            scores[self.memory :] = self._scores(series.double().numpy())
        return {self.name: scores}

    def watch(self, frames: Iterable[Tensor]) -> Iterator[Mapping[str, float]]:
        """Yield the score of each frame (D,) as it comes."""
        kept: list[Tensor] = []
        for frame in frames:
            kept = [*kept[-self.memory :], frame]
            yield {self.name: float(self.score_series(torch.stack(kept))[self.name][-1])}


class DampedResidual(StepScorer):
    """Residual of damped velocity, the damping by least squares."""

    name = "damped"
    memory = 2

    def __init__(self, damping: float, scale: np.ndarray) -> None:
        self.damping, self.scale = damping, scale

    @classmethod
    def fit(cls, series: Series) -> Self:
        """Fit damping and scales."""
        steps = [np.diff(motion.double().numpy(), axis=0) for motion in series.values()]
        before, after = (np.concatenate([s[part] for s in steps]) for part in (slice(None, -1), slice(1, None)))
        scale = _floored(np.sqrt((after**2).mean(axis=0)))
        damping = float(((before / scale) * (after / scale)).sum() / ((before / scale) ** 2).sum())
        return cls(damping, _floored(np.sqrt(((after - damping * before) ** 2).mean(axis=0))))

    def _scores(self, frames: np.ndarray) -> np.ndarray:
        steps = np.diff(frames, axis=0)
        return np.abs((steps[1:] - self.damping * steps[:-1]) / self.scale).mean(axis=1)


class MahalanobisStep(StepScorer):
    """Mahalanobis distance of increments, squared."""

    name = "mahalanobis"
    memory = 1

    def __init__(self, spread: "Spread") -> None:
        self.spread = spread

    @classmethod
    def fit(cls, series: Series) -> Self:
        """Fit mean and covariance."""
        return cls(Spread.of(np.concatenate([np.diff(m.double().numpy(), axis=0) for m in series.values()])))

    def _scores(self, frames: np.ndarray) -> np.ndarray:
        return self.spread.distance(np.diff(frames, axis=0))


class LinearResidual(StepScorer):
    """Mahalanobis distance, squared, of the residuals of a linear forecast."""

    name = "linear"
    memory = 3

    def __init__(self, weights: np.ndarray, spread: "Spread") -> None:
        self.weights, self.spread = weights, spread

    @classmethod
    def fit(cls, series: Series) -> Self:
        """Fit the forecast by ridge regression, then the residuals' covariance."""
        all_frames = [m.double().numpy() for m in series.values() if len(m) > cls.memory]
        history = np.concatenate([_history(frames) for frames in all_frames])
        steps = np.concatenate([np.diff(frames, axis=0)[cls.memory - 1 :] for frames in all_frames])
        power = history.T @ history
        weights = np.linalg.solve(power + 1e-6 * np.trace(power) / len(power) * np.eye(len(power)), history.T @ steps)
        return cls(weights, Spread.of(steps - history @ weights))

    def _scores(self, frames: np.ndarray) -> np.ndarray:
        steps = np.diff(frames, axis=0)[self.memory - 1 :]
        return self.spread.distance(steps - _history(frames) @ self.weights)


class Spread:
    """Mean and covariance of rows (R, D), and distances from them."""

    def __init__(self, mean: np.ndarray, precision: np.ndarray) -> None:
        self.mean, self.precision = mean, precision

    @classmethod
    def of(cls, rows: np.ndarray) -> Self:
        """Estimate; a small ridge keeps the inverse bounded."""
        covariance = np.atleast_2d(np.cov(rows, rowvar=False))
        ridge = _RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-12)
        return cls(rows.mean(axis=0), np.linalg.inv(covariance + ridge * np.eye(len(covariance))))

    def distance(self, rows: np.ndarray) -> np.ndarray:
        """Return the squared Mahalanobis distance of rows (..., D)."""
        off = rows - self.mean
        return np.einsum("...i,ij,...j->...", off, self.precision, off)


BASELINES: dict[str, type[StepScorer]] = {kind.name: kind for kind in (DampedResidual, MahalanobisStep, LinearResidual)}


def _history(frames: np.ndarray) -> np.ndarray:
    """Return for each frame t >= 3 the previous frame, the two increments before that one, and 1: (T-3, 3 D + 1)."""
    steps = np.diff(frames, axis=0)
    return np.concatenate([frames[2:-1], steps[1:-1], steps[:-2], np.ones((len(frames) - 3, 1))], axis=1)


def _floored(scale: np.ndarray) -> np.ndarray:
    """Raise near-zero values to a share of the mean, or to 1 if nothing moved."""
    return np.maximum(scale, 1e-3 * scale.mean()) if scale.mean() > 0 else np.ones_like(scale)
