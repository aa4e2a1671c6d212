"""A simulated bad link: applies `LinkFaults` to outgoing motion messages."""

import asyncio
import random
from collections.abc import Callable

from kinecast.apps.call.config import LinkFaults

_MOST_HELD = 2000  # messages in flight: more are lost, as in a full router


class FaultyLink:
    """Drops, delays and reorders messages before passing them on.

    Losses follow Gilbert's model: in the bad state, which lasts `burst` messages on average, everything is lost.
    """

    def __init__(self, faults: LinkFaults, deliver: Callable[[bytes], object]) -> None:
        self._faults, self._deliver = faults, deliver
        self._random = random.Random(faults.seed)
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.time()
        self._last = 0.0  # when the latest message arrives
        self._bad = False
        self._held: dict[int, asyncio.TimerHandle] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._held)

    def send(self, data: bytes) -> None:
        """Take a message."""
        now = self._loop.time()
        elapsed = now - self._opened
        if self._loses() or any(start <= elapsed < end for start, end in self._faults.outages):
            return
        delay = (self._faults.delay_ms + self._random.random() * self._faults.jitter_ms) / 1000
        # A microsecond apart: timers set for the same moment have no order.
        arrives = now + delay if self._faults.reorder else max(now + delay, self._last + 1e-6)
        self._last = max(self._last, arrives)
        if not (self._faults.delay_ms or self._faults.jitter_ms):
            self._deliver(data)
        elif len(self._held) < _MOST_HELD:
            key = self._count = self._count + 1
            self._held[key] = self._loop.call_at(arrives, self._arrive, key, data)

    def close(self) -> None:
        """Drop all messages in flight."""
        for handle in self._held.values():
            handle.cancel()
        self._held.clear()

    def _arrive(self, key: int, data: bytes) -> None:
        del self._held[key]
        self._deliver(data)

    def _loses(self) -> bool:
        loss, burst = self._faults.loss, self._faults.burst
        if not loss:
            return False
        leave = 1 / burst
        enter = leave * loss / (1 - loss)  # so that the share of time in the bad state is `loss`
        if self._bad:
            self._bad = self._random.random() >= leave
        else:
            self._bad = self._random.random() < min(enter, 1)
        return self._bad
