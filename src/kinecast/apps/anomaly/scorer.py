"""Scores of frames from a forecaster's predictive distribution. All of them are causal.

Of the frame that has arrived, x_t:

    nll          -log p(x_t | x_{t-N..t-1}) / D, nats per number, for forecasters with a density
    distance     energy score of the last K frames, against S futures sampled K frames ago:
                 mean |f - x| - mean |f - f'| / 2, joint over K and D (Gneiting & Raftery 2007)

Of future frames, when x_t has arrived (early warning):

    dispersion   mean |f - f'| / 2 of S sampled futures of K frames: the model's uncertainty
    leaving      the share of futures that leave the range of normal motion

Motion is scored in whitened units, in which increments of normal clips have covariance 1, so that directions of little
normal motion (a joint that always follows another) count as much as the others.

Notation: T frames, N observed, K frames ahead, D numbers per frame, S samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from kinecast.data.windows import Series
from kinecast.errors import KinecastError
from kinecast.forecasting import Forecaster
from kinecast.forecasting.gru_nf import GRUNF

LATE = ("nll", "distance")  # of frames that have arrived
EARLY = ("dispersion", "leaving")  # of future frames
_FLOOR = 1e-4  # of the widest direction: rounding in normal motion is not amplified
_WIDER = 1.25  # than the range of the fitted normal clips, since new ones exceed it slightly
_SEED_STEP = 1_000_003


@dataclass(frozen=True)
class Whitening:
    """Transform of motion (…, D) to units in which increments of normal clips have covariance 1, and their range."""

    mean: Tensor
    matrix: Tensor  # (D, D)
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, series: Series) -> Self:
        """Estimate from normal clips."""
        frames = torch.cat([motion.double() for motion in series.values()])
        steps = torch.cat([motion.double().diff(dim=0) for motion in series.values()])
        values, vectors = torch.linalg.eigh(steps.T @ steps / max(1, len(steps)))
        values = values.clamp_min(max(_FLOOR**2 * float(values[-1]), 1e-18))
        mean, matrix = frames.mean(dim=0), vectors / values.sqrt()
        white = (frames - mean) @ matrix
        low, high = white.min(dim=0).values, white.max(dim=0).values
        middle, half = (low + high) / 2, _WIDER * (high - low) / 2
        return cls(mean, matrix, middle - half, middle + half)

    def __call__(self, motion: Tensor) -> Tensor:
        """Return motion (…, D) in these units, float32."""
        return ((motion.double() - self.mean) @ self.matrix).float()

    def back(self, white: Tensor) -> Tensor:
        """Return motion (…, D) of what is in these units, float32: the inverse."""
        return (white.double() @ torch.linalg.inv(self.matrix) + self.mean).float()

    @classmethod
    def from_dict(cls, values: Mapping[str, list]) -> Self:
        """Build from the output of `to_dict`."""
        return cls(**{name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()})

    def to_dict(self) -> dict[str, list]:
        """Return plain values, to store beside a model's weights."""
        return {name: getattr(self, name).tolist() for name in ("mean", "matrix", "low", "high")}

    def leaves(self, motion: Tensor) -> Tensor:
        """Return whether each trajectory (…, K, D), in these units, leaves the range."""
        return ((motion < self.low) | (motion > self.high)).flatten(-2).any(dim=-1)


@dataclass(frozen=True)
class ScorerConfig:
    """N frames observed, K ahead, S samples; with 0 samples there is only nll. `seed` is for sampling."""

    observed: int = 8
    ahead: int = 4
    samples: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.observed < 1 or self.ahead < 1 or self.samples < 0 or self.samples == 1:
            raise KinecastError(
                f"anomaly: expected 1 or more frames observed and ahead, and 2 or more samples (or 0); found "
                f"{self.observed}, {self.ahead} and {self.samples}"
            )


class ForecastScorer:
    """The scores above from a forecaster of motion, in units of `whitening` if given, otherwise raw."""

    def __init__(self, model: Forecaster, whitening: Whitening, config: ScorerConfig, whitened: bool) -> None:
        if config.observed < model.min_observed:
            raise KinecastError(
                f"{model.name}: expected at least {model.min_observed} observed frames, found {config.observed}"
            )
        if not config.samples and not isinstance(model, GRUNF):
            raise KinecastError(f"{model.name}: expected samples, since it has no density; found 0: use 32")
        self.model, self.whitening, self.config, self.whitened = model.eval(), whitening, config, whitened

    @property
    def names(self) -> tuple[str, ...]:
        """The scores that this forecaster has."""
        dense = ("nll",) if isinstance(self.model, GRUNF) else ()
        return dense + (("distance", *EARLY) if self.config.samples else ())

    def score_series(self, series: Tensor) -> dict[str, np.ndarray]:
        """Return the scores of each frame of a series (T, D), each (T,): NaN where too few frames were seen.

        The same as `watch`, for all frames at once; only the samples differ.
        """
        observed, ahead = self.config.observed, self.config.ahead
        found = {name: np.full(len(series), np.nan) for name in self.names}
        if len(series) < observed + 1:
            return found
        windows = self._own_units(series).unfold(0, observed, 1).transpose(1, 2)  # (T-N+1, N, D), ends N-1 .. T-1
        if "nll" in found:
            following = self._own_units(series)[observed:]
            found["nll"][observed:] = self._nll(windows[:-1], following)
        if self.config.samples:
            futures = self._futures(windows, self.config.seed)  # (S, T-N+1, K, D)
            found["dispersion"][observed - 1 :] = _dispersion(futures)
            found["leaving"][observed - 1 :] = self.whitening.leaves(futures).double().mean(dim=0)
            count = len(series) - observed - ahead + 1  # of forecasts whose K frames have all arrived
            if count > 0:
                white = self.whitening(series)[observed:].unfold(0, ahead, 1).transpose(1, 2)
                found["distance"][observed + ahead - 1 :] = _distance(futures[:, :count], white)
        return found

    def watch(self, frames: Iterable[Tensor]) -> Iterator[Mapping[str, float]]:
        """Yield the scores of each frame (D,) as it comes, in constant memory. A score is included once it is known."""
        observed, ahead = self.config.observed, self.config.ahead
        seen: deque[Tensor] = deque(maxlen=max(observed, ahead) + 1)
        issued: deque[Tensor] = deque(maxlen=ahead)  # futures (S, 1, K, D), oldest first
        for number, frame in enumerate(frames):
            seen.append(frame)
            row: dict[str, float] = {}
            kept = torch.stack(list(seen))
            own = self._own_units(kept)
            if "nll" in self.names and number >= observed:
                row["nll"] = float(self._nll(own[None, -observed - 1 : -1], own[-1:])[0])
            if self.config.samples and len(issued) == ahead:
                row["distance"] = float(_distance(issued[0], self.whitening(kept[-ahead:])[None])[0])
            if self.config.samples and number >= observed - 1:
                futures = self._futures(own[None, -observed:], self.config.seed * _SEED_STEP + number)
                row["dispersion"] = float(_dispersion(futures)[0])
                row["leaving"] = float(self.whitening.leaves(futures).double().mean())
                issued.append(futures)
            yield row

    def futures(self, observed: Tensor, horizon: int, samples: int, seed: int) -> Tensor:
        """Sample how motion (R, N, D) goes on: (S, R, H, D), raw motion in and out; H may be larger than K.

        Only the last N of the config are looked at. Where the forecaster is deterministic, all samples are equal.
        """
        own = self._own_units(observed[:, -self.config.observed :])
        drawn = self.model.forecast(own, horizon, samples, seed=seed).cpu()
        return self.whitening.back(drawn) if self.whitened else drawn

    def _own_units(self, motion: Tensor) -> Tensor:
        """Return motion in the model's units."""
        return self.whitening(motion) if self.whitened else motion.float()

    @torch.inference_mode()
    def _nll(self, observed: Tensor, following: Tensor) -> np.ndarray:
        """Return -log p / D of frames (R, D) given observed frames (R, N, D)."""
        assert isinstance(self.model, GRUNF)
        windows = torch.cat([observed, following[:, None]], dim=1).to(self.model.device)
        return (-self.model.log_prob(windows, self.config.observed) / windows.shape[2]).double().cpu().numpy()

    def _futures(self, observed: Tensor, seed: int) -> Tensor:
        """Sample (S, R, K, D) in whitened units."""
        count = 2 if self.model.deterministic else self.config.samples
        drawn = self.model.forecast(observed, self.config.ahead, count, seed=seed).cpu()
        return drawn if self.whitened else self.whitening(drawn)


def _dispersion(futures: Tensor) -> np.ndarray:
    """Return mean |f - f'| / 2 over pairs of different samples (S, R, K, D), (R,)."""
    rows = futures.transpose(0, 1).flatten(2).double()
    samples = rows.shape[1]
    return (torch.cdist(rows, rows).sum(dim=(1, 2)) / (2 * samples * (samples - 1))).numpy()


def _distance(futures: Tensor, truth: Tensor) -> np.ndarray:
    """Return the fair energy score of samples (S, R, K, D) against truth (R, K, D), (R,)."""
    to_truth = (futures - truth).flatten(2).double().norm(dim=2).mean(dim=0)
    return to_truth.numpy() - _dispersion(futures)
