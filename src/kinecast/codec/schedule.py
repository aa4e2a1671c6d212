"""Which frames a sender sends, decided frame by frame: every k-th, N of N+H, or those its receiver predicts badly.

Notation: N observed frames, H horizon, D numbers per frame.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from kinecast.codec.entropy import MAX_SKIP
from kinecast.codec.filling import Expectation, Forecast
from kinecast.codec.quantizer import FINE, Layout
from kinecast.errors import KinecastError

Distance = Callable[[np.ndarray, np.ndarray], float]  # of a vector (D,) from the one that would be shown
# Renders motion vectors (N, D) as pictures (N, H, W, 3), 0 to 255.
Render = Callable[[np.ndarray], np.ndarray]
_SMALL = 4  # pictures are compared at a quarter of their size, where an edge shifted by a pixel hardly counts
_SECONDS = 1.0  # of budget history in the rate control
_FINEST, _COARSEST = 2.0**-4, 2.0**7  # tolerances, in steps or grey levels


class Schedule(Protocol):
    """Queried for each frame in turn."""

    def wants(self, vector: np.ndarray, bits: int) -> bool:
        """Return whether to send the frame with decoded vector (D,), after `bits` bits of the stream."""

    def absent(self) -> None:
        """Take a frame without a detection, in its turn; it is not queried."""


class EveryKth:
    """One frame in k: a lower frame rate."""

    def __init__(self, k: int) -> None:
        if not 1 <= k <= MAX_SKIP + 1:
            raise KinecastError(f"frame rate: expected one frame in 1 to {MAX_SKIP + 1}, found one in {k}")
        self._k, self._index = k, -1

    def wants(self, vector: np.ndarray, bits: int) -> bool:
        """See `Schedule`."""
        self._index += 1
        return self._index % self._k == 0

    def absent(self) -> None:
        """See `Schedule`."""
        self._index += 1


class Blocks:
    """N frames sent and H skipped alternately: how arXiv 2504.05537 halves the rate."""

    def __init__(self, observed: int, horizon: int) -> None:
        if observed < 1 or not 1 <= horizon <= MAX_SKIP:
            raise KinecastError(
                f"blocks: expected N of at least 1 and H of 1 to {MAX_SKIP}, found {observed}-{horizon}"
            )
        self._observed, self._window, self._index = observed, observed + horizon, -1

    def wants(self, vector: np.ndarray, bits: int) -> bool:
        """See `Schedule`."""
        self._index += 1
        return self._index % self._window < self._observed

    def absent(self) -> None:
        """See `Schedule`."""
        self._index += 1


def in_steps(layout: Layout) -> Distance:
    """Return a distance in keypoints: the mean absolute error of the D numbers, each in steps."""
    steps = (layout.steps / FINE).astype(np.float32)
    return lambda vector, shown: float((np.abs(vector - shown) / steps).mean())


def in_pictures(render: Render) -> Distance:
    """Return a distance in renders: the mean absolute difference of both downscaled pictures, in grey levels."""

    def distance(vector: np.ndarray, shown: np.ndarray) -> float:
        pictures = np.asarray(render(np.stack([vector, shown])), np.float32)
        _, height, width, channels = pictures.shape
        cut = pictures[:, : height - height % _SMALL, : width - width % _SMALL]
        small = cut.reshape(2, height // _SMALL, _SMALL, width // _SMALL, _SMALL, channels).mean(axis=(2, 4))
        return float(np.abs(small[0] - small[1]).mean())

    return distance


class ClosedLoop:
    """Runs the receiver's forecast, and sends a frame only if its error exceeds `tolerance`.

    The tolerance is in units of the distance: steps (`in_steps`) or grey levels (`in_pictures`).
    """

    def __init__(self, forecast: Forecast, distance: Distance, tolerance: float) -> None:
        if not tolerance >= 0:
            raise KinecastError(f"closed loop: expected a tolerance of at least 0, found {tolerance}")
        self.tolerance = tolerance
        self._distance, self._expectation = distance, Expectation(forecast)
        self._skipped = 0

    def wants(self, vector: np.ndarray, bits: int) -> bool:
        """See `Schedule`."""
        expected = self._expectation.expected()
        far = expected is None or self._distance(vector, expected) > self.tolerance
        if far or self._skipped == MAX_SKIP:
            self._expectation.came(vector)
            self._skipped = 0
            return True
        self._expectation.missed()
        self._skipped += 1
        return False

    def absent(self) -> None:
        """See `Schedule`: the next frame with a detection is sent."""
        self._expectation.absent()
        self._skipped = 0


class RateControl:
    """A closed loop whose tolerance follows a bit budget, sending up to every frame.

    Header and reference picture are not counted: they are sent once. The budget may be overdrawn by one second, as by
    the first frame; beyond that, nothing is sent.
    """

    def __init__(self, loop: ClosedLoop, rate_kbps: float, fps: float) -> None:
        if not rate_kbps > 0:
            raise KinecastError(f"rate: expected a budget above 0 kbps, found {rate_kbps}")
        self._loop, self._per_frame = loop, 1000 * rate_kbps / fps
        self._second = 1000 * rate_kbps * _SECONDS
        self._frames, self._base = 0, 0.0  # log2 of the tolerance at which the budget is just met

    def wants(self, vector: np.ndarray, bits: int) -> bool:
        """See `Schedule`."""
        over = (bits - self._frames * self._per_frame) / self._second  # overdrawn budget in seconds
        self._frames += 1
        spent, over = over >= 1, float(np.clip(over, -1, 1))
        self._base = float(np.clip(self._base + 0.05 * over, np.log2(_FINEST), np.log2(_COARSEST)))
        self._loop.tolerance = np.inf if spent else 2.0 ** (self._base + 3 * over)
        return self._loop.wants(vector, bits)

    def absent(self) -> None:
        """See `Schedule`: its bits are saved."""
        self._frames += 1
        self._loop.absent()


class Present:
    """Skips frames without a detection, and queries another schedule, if given, for all others.

    The first frame of a stream and one in 64 are sent anyway: a receiver must have something to hold.
    """

    def __init__(self, seen: Callable[[], bool], schedule: Schedule | None = None) -> None:
        self._seen, self._schedule = seen, schedule
        self._skipped: int | None = None  # frames since the last sent one

    def wants(self, vector: np.ndarray, bits: int) -> bool:
        """See `Schedule`; `seen` is queried for the same frame."""
        if self._seen():
            sent = self._schedule is None or self._schedule.wants(vector, bits)
        else:
            self.absent()
            sent = self._skipped in (None, MAX_SKIP)
        self._skipped = 0 if sent else (self._skipped or 0) + 1
        return sent

    def absent(self) -> None:
        """See `Schedule`."""
        if self._schedule is not None:
            self._schedule.absent()
