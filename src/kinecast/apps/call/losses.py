"""How the line is, reported to the other side, which then sends more key packets, or less."""

import time
from collections.abc import Callable

from kinecast.apps.call.figures import Rate
from kinecast.apps.call.jitter import JitterBuffer
from kinecast.apps.call.line import Transit
from kinecast.apps.call.messages import LineReport

_REPORT_S = 1.0  # between reports


class Losses:
    """The packets of the last seconds, over one connection after another.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._packets, self._lost = Rate(), Rate()
        self.transit = Transit(clock)
        self._reported_at = 0.0

    def count(self, jitter: JitterBuffer) -> None:
        """Take the packets that a jitter buffer received and missed since the last call."""
        received, lost = jitter.take_counts()
        self._packets.add(received + lost)
        self._lost.add(lost)

    @property
    def share(self) -> float:
        """The share of motion packets lost in the last seconds."""
        expected = self._packets.recent()
        return self._lost.recent() / expected if expected else 0.0

    def due(self) -> LineReport | None:
        """Return a report if one is due; None while nothing comes."""
        now, came = self._clock(), self.transit.received.per_second()
        if not came or now - self._reported_at <= _REPORT_S:
            return None
        self._reported_at = now
        delay, tenths = round(1000 * self.transit.delay), round(8 * came / 100)
        return LineReport(min(round(255 * self.share), 255), min(max(delay, 0), 0xFFFF), min(tenths, 0xFFFF))
