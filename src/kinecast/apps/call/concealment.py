"""Concealment of missing frames: forecasts for a second, then the last frame or an idle avatar.

Notation: N observed frames, H horizon, D numbers per frame.
"""

from collections import deque

import numpy as np
import torch

from kinecast.codec.filling import OBSERVED, Expectation, Forecast
from kinecast.forecasting.base import Forecaster

FORECAST_S = 1.0  # limit of forecasts; after that a head may be anywhere
_AHEAD = 64  # frames that are kept: a packet of several comes before they are due
_IDLE_FRAMES = 12  # are sampled at once
_REACH = 1.5  # range of an idle avatar, relative to the observed motion's
_PULL = 0.04  # of the distance to rest, per frame


class Concealment:
    """Predicts frames after the received ones by number; frames may arrive late.

    Frames lost between two received ones are interpolated linearly.
    """

    def __init__(self, forecast: Forecast, observed: int = OBSERVED) -> None:
        self._forecast = forecast
        self._observed = observed
        self._came: deque[tuple[int, np.ndarray]] = deque(maxlen=max(observed, _AHEAD))
        self._expectation: Expectation | None = None
        self._expected = (0, np.zeros(0, np.float32))

    @property
    def last(self) -> int | None:
        """The number of the last received frame."""
        return self._came[-1][0] if self._came else None

    def came(self, number: int, vector: np.ndarray) -> None:
        """Take a frame's vector (D,). Numbers increase."""
        if self._came and not 0 < number - self._came[-1][0] <= self._observed:
            self._came.clear()  # a restart, or a face that was away for longer than forecasts look back
        self._came.append((number, np.asarray(vector, np.float32)))
        self._expectation = None

    def observed(self) -> np.ndarray:
        """Return the last frames (N, D), one per frame period."""
        numbers = [number for number, _ in self._came]
        vectors = np.stack([vector for _, vector in self._came])
        wanted = np.arange(max(numbers[0], numbers[-1] - self._observed + 1), numbers[-1] + 1)
        return self._between(numbers, vectors, wanted)

    @staticmethod
    def _between(numbers: list[int], vectors: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Return the vectors (N, D) of numbers that are wanted, on straight lines between those that came."""
        after = np.searchsorted(numbers, wanted)
        before = np.maximum(after - 1, 0)
        near = np.array(numbers)
        width = np.maximum(near[after] - near[before], 1)
        share = ((wanted - near[before]) / width)[:, None].astype(np.float32)
        return vectors[before] + share * (vectors[after] - vectors[before])

    def at(self, number: int) -> np.ndarray:
        """Return the vector (D,) of a frame: as received, between two that were, or predicted."""
        assert self._came
        last, vector = self._came[-1]
        if number <= last:
            if number == last or number < self._came[0][0]:
                return vector
            numbers, vectors = [number for number, _ in self._came], np.stack([vector for _, vector in self._came])
            return self._between(numbers, vectors, np.array([number]))[0].astype(np.float32)
        if self._expectation is None or number < self._expected[0]:
            self._expectation = Expectation(self._forecast)
            for one in self.observed():
                self._expectation.came(one)
            self._expected = last, vector
        while self._expected[0] < number:
            self._expected = self._expected[0] + 1, self._expectation.missed()
        return self._expected[1]


class Idle:
    """An idle avatar: one sampled future after another, each starting from the end of the previous one.

    A free-running model drifts. Each frame is pulled slightly towards rest, the mean of the observed motion, and no
    number goes much further from it than observed, so that hours of it look like its first second.
    """

    def __init__(self, forecaster: Forecaster | None, observed: np.ndarray, seed: int = 0) -> None:
        self._forecaster, self._seed = forecaster, seed
        self._rest = observed.mean(axis=0)
        spread = np.abs(observed - self._rest).max(axis=0)
        self._reach = _REACH * np.maximum(spread, spread.mean()) + 1e-4
        self._history: deque[np.ndarray] = deque(observed, maxlen=max(len(observed), 2))
        self._ahead: deque[np.ndarray] = deque()

    def next(self) -> np.ndarray:
        """Return the next frame (D,)."""
        if not self._ahead:
            self._ahead.extend(self._sample(np.stack(self._history)))
        wanted = self._ahead.popleft()
        pulled = wanted + _PULL * (self._rest - wanted)
        frame = np.clip(pulled, self._rest - self._reach, self._rest + self._reach).astype(np.float32)
        self._history.append(frame)
        return frame

    def _sample(self, observed: np.ndarray) -> np.ndarray:
        """Return a sampled future (H, D); without a suitable forecaster, a random walk of the observed changes."""
        self._seed += 1
        if self._forecaster is not None and len(observed) >= self._forecaster.min_observed:
            futures = self._forecaster.forecast(torch.from_numpy(observed)[None], _IDLE_FRAMES, 1, self._seed)
            return futures[0, 0].numpy()
        random = np.random.default_rng(self._seed)
        steps = np.diff(observed, axis=0) if len(observed) > 1 else np.zeros_like(observed)
        drawn = steps[random.integers(len(steps), size=_IDLE_FRAMES)] * random.choice([-1, 1], (_IDLE_FRAMES, 1))
        return observed[-1] + np.cumsum(drawn, axis=0).astype(np.float32)
