"""Concealment: what a receiver shows for frames that were lost or skipped.

Nothing here affects a bit of the stream. A sender that runs the same `Expectation` as its receiver knows what is shown
while it sends nothing, up to float rounding, which differs between machines.

Notation: N observed frames, H horizon, D numbers per frame.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from kinecast.codec.decoder import DecodedFrame

Forecast = Callable[[np.ndarray, int], np.ndarray]  # (N, D) float32, H -> (H, D)
OBSERVED = 12  # frames a forecast observes, at most
AHEAD = 12  # frames forecast at once; longer gaps continue from forecasts
_PHI = 0.43  # least squares on published keypoints of other people (horizon 12-12)


def hold(observed: np.ndarray, horizon: int) -> np.ndarray:
    """Repeat the last frame."""
    return np.repeat(observed[-1:], horizon, axis=0)


def damped(observed: np.ndarray, horizon: int) -> np.ndarray:
    """Continue the last change, each step 0.43 times the one before."""
    change = observed[-1] - observed[-2] if len(observed) > 1 else np.zeros_like(observed[-1])
    reach = np.cumsum(_PHI ** np.arange(1, horizon + 1, dtype=np.float32)).astype(np.float32)
    return observed[-1] + reach[:, None] * change


FILLERS: dict[str, Forecast] = {"hold": hold, "damped": damped}  # those without weights
DEFAULT_FILLER = "damped"  # if the one that a stream suggests is unavailable
INTERPOLATE = "interpolate"  # not a forecast: it waits for the next frame


class Expectation:
    """Predicts the next frame from those so far: received ones and, in gaps, its own predictions.

    When a frame arrives after a gap, the gap's frames are replaced by linear interpolation, so that a jump from a wrong
    prediction to the truth is not mistaken for velocity.
    """

    def __init__(self, forecast: Forecast, observed: int = OBSERVED) -> None:
        self._forecast, self._observed = forecast, observed
        self._history: deque[np.ndarray] = deque(maxlen=max(observed, 2))
        self._missing = 0  # frames since the last received one
        self._ahead: list[np.ndarray] = []

    def expected(self) -> np.ndarray | None:
        """(D,) the next frame, None before the first."""
        if not self._ahead and self._history:
            history = np.stack(list(self._history)[-self._observed :]).astype(np.float32)
            self._ahead = list(np.asarray(self._forecast(history, AHEAD), np.float32))
        return self._ahead[0] if self._ahead else None

    def came(self, vector: np.ndarray) -> None:
        """Take a received frame (D,)."""
        if self._missing and self._missing < len(self._history):
            start = self._history[-self._missing - 1]
            for k in range(1, self._missing + 1):
                share = np.float32(k / (self._missing + 1))
                self._history[k - self._missing - 1] = start + share * (vector - start)
        self._history.append(np.asarray(vector, np.float32))
        self._missing, self._ahead = 0, []

    def absent(self) -> None:
        """Take a frame without a detection: the history restarts after it."""
        self._history.clear()
        self._missing, self._ahead = 0, []

    def missed(self) -> np.ndarray:
        """Return what is shown (D,) for a missing frame. One must have been received before."""
        vector = self.expected()
        assert vector is not None
        self._history.append(vector)
        self._ahead.pop(0)
        self._missing += 1
        return vector


def fill(frames: Iterable[DecodedFrame], forecast: Forecast, observed: int = OBSERVED) -> Iterator[DecodedFrame]:
    """Replace concealed frames by forecasts from the frames before them, with no delay. Absent ones are held."""
    expectation = Expectation(forecast, observed)
    for frame in frames:
        if frame.absent:
            expectation.absent()
            yield frame
        elif frame.concealed and expectation.expected() is not None:
            yield replace(frame, vector=expectation.missed())
        else:
            expectation.came(frame.vector)
            yield frame


def interpolate(frames: Iterable[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Replace concealed frames by linear interpolation to the next received frame, delayed by the gap's length.

    Absent frames, and skipped ones just before them, are held.
    """
    last: DecodedFrame | None = None
    gap: list[DecodedFrame] = []
    for frame in frames:
        if frame.absent:
            yield from (*gap, frame)
            gap, last = [], None
            continue
        if frame.concealed:
            gap.append(frame)
            continue
        for k, one in enumerate(gap, start=1):
            start = last.vector if last is not None else frame.vector
            yield replace(one, vector=start + np.float32(k / (len(gap) + 1)) * (frame.vector - start))
        gap, last = [], frame
        yield frame
    yield from gap
