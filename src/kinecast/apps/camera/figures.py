"""What a run took: frames and how late they were, in memory that does not grow."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

_MOST_MS = 10_000
_RECENT_S = 2.0


class Figures:
    """Counts frames and how long each took, from its arrival to its being sent.

    Args:
        clock: seconds, steady.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._counts = np.zeros(_MOST_MS + 1, np.int64)  # of latencies, by the millisecond
        self._sum, self._worst, self.sent, self.held = 0.0, 0.0, 0, 0
        self._recent: deque[tuple[float, float]] = deque()

    def add(self, latency: float, held: bool = False) -> None:
        """Count a frame that was sent `latency` seconds after it arrived; `held` if no face was seen in it."""
        now = self._clock()
        self._counts[min(round(latency * 1000), _MOST_MS)] += 1
        self._sum, self._worst = self._sum + latency, max(self._worst, latency)
        self.sent, self.held = self.sent + 1, self.held + held
        self._recent.append((now, latency))
        while self._recent and self._recent[0][0] < now - _RECENT_S:
            self._recent.popleft()

    def now(self) -> dict[str, float]:
        """Return frames per second and the mean latency in milliseconds, of the last two seconds."""
        now = self._clock()
        recent = [latency for when, latency in list(self._recent) if when >= now - _RECENT_S]
        span = min(max(now - self._began, 1e-3), _RECENT_S)
        mean = sum(recent) / len(recent) if recent else 0.0
        return {"fps": round(len(recent) / span, 1), "latency_ms": round(1000 * mean)}

    def total(self, arrived: int) -> dict[str, Any]:
        """Return all that is known at the end, for `arrived` frames of the camera."""
        seconds = max(self._clock() - self._began, 1e-9)
        mean = self._sum / self.sent if self.sent else 0.0
        return {
            "seconds": round(seconds, 2),
            "arrived": arrived,
            "sent": self.sent,
            "without_a_face": self.held,
            "fps": round(self.sent / seconds, 2),
            "latency_ms": {
                "mean": round(1000 * mean, 1),
                "p50": self._share(0.5),
                "p95": self._share(0.95),
                "max": round(1000 * self._worst, 1),
            },
        }

    def _share(self, share: float) -> int:
        """Return the latency in milliseconds that a share of the frames did not exceed."""
        if not self.sent:
            return 0
        return int(np.searchsorted(self._counts.cumsum(), share * self.sent))
