"""Counters of a call: rates over the last seconds in constant memory, and totals."""

import time
from collections import deque
from collections.abc import Callable

import numpy as np

_SECONDS = 4.0  # averaging window of a rate
_BINS = 16


class Rate:
    """A sum over the last four seconds, in bins of a quarter of a second, and its total."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = 0.0
        self._clock, self._started = clock, clock()
        self._bins: deque[tuple[int, float]] = deque(maxlen=_BINS + 1)

    def add(self, amount: float = 1.0) -> None:
        """Count."""
        now = int(self._clock() * _BINS / _SECONDS)
        if self._bins and self._bins[-1][0] == now:
            amount_so_far = self._bins.pop()[1]
            self._bins.append((now, amount_so_far + amount))
        else:
            self._bins.append((now, amount))
        self.total += amount

    def per_second(self) -> float:
        """Return the rate per second over the last four seconds, or since the start if that is later."""
        now = self._clock()
        seen = (_BINS - 1 + now * _BINS / _SECONDS % 1) * _SECONDS / _BINS  # the current bin is incomplete
        return self.recent() / min(max(now - self._started, _SECONDS / _BINS), seen)

    def recent(self) -> float:
        """Return the sum of the last four seconds."""
        first = int(self._clock() * _BINS / _SECONDS) - _BINS
        bins = tuple(self._bins)  # in one step: a camera's thread may count meanwhile
        return sum(amount for bin_, amount in bins if bin_ > first)


class Quantiles:
    """Quantiles of the last values."""

    def __init__(self, kept: int = 500) -> None:
        self._values: deque[float] = deque(maxlen=kept)

    def add(self, value: float) -> None:
        """Take a value."""
        self._values.append(value)

    def __call__(self, share: float) -> float | None:
        """Return the value below which `share` of the last values lie, None if there are none."""
        return float(np.quantile(np.array(self._values), share)) if self._values else None


class Allowance:
    """A token bucket: `burst` at once and `per_second` in the long run."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left, self._last = burst, clock()

    def left(self) -> float:
        """Return how much is allowed now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._last) * self._per_second)
        self._last = now
        return self._left

    def take(self, amount: float = 1.0) -> bool:
        """Return whether `amount` is allowed, and if so count it."""
        if amount > self.left():
            return False
        self._left -= amount
        return True
