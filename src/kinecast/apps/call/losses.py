"""The share of lost motion packets, reported to the other side, which then sends more key packets."""

import time
from collections.abc import Callable

from kinecast.apps.call.figures import Rate
from kinecast.apps.call.jitter import JitterBuffer
from kinecast.apps.call.messages import LossReport

_REPORT_S = 1.0  # between reports


class Losses:
    """The packets of the last seconds, over one connection after another.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._packets, self._lost = Rate(), Rate()
        self._reported = 0  # share last reported, of 255
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

    def due(self) -> LossReport | None:
        """Return a report if one is due; None while there are no losses."""
        share, now = min(round(255 * self.share), 255), self._clock()
        if not (share or self._reported) or now - self._reported_at <= _REPORT_S:
            return None
        self._reported, self._reported_at = share, now
        return LossReport(share)
