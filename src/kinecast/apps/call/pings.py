"""Pings: the round-trip time, and the offset of the other side's clock."""

import time
from collections.abc import Callable

from kinecast.apps.call.messages import Ping, Pong

_PING_S = 2.0  # between pings,
_PING_THIN_S = 8.0  # where two packets each cost a second of the line
_PING_SOON_S = 0.3  # and while nothing comes
_KEPT = 8  # pings without an answer


class Pings:
    """The pings of one connection after another; the clock offset is kept across them.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent: dict[int, float] = {}  # by their content, the time of day in microseconds
        self._last = 0.0
        self._round_trips: list[tuple[float, float]] = []  # round trip, offset of the other clock
        self.offset: float | None = None  # s to add to this clock for theirs

    def __len__(self) -> int:
        return len(self._sent)

    def begin(self) -> None:
        """Reset for a new connection."""
        self._sent = {}

    def due(self, silent_s: float, thin: bool = False) -> Ping | None:
        """Return a ping if one is due; more often while the other side is silent, and seldom on a thin line."""
        now = self._clock()
        soon, usual = (_PING_S, _PING_THIN_S) if thin else (_PING_SOON_S, _PING_S)
        hurry = self.offset is None or (silent_s > _PING_SOON_S and not thin)
        if now - self._last < (soon if hurry else usual):
            return None
        self._last, ping = now, Ping(microseconds())
        self._sent = {**dict(list(self._sent.items())[1 - _KEPT :]), ping.sent: now}
        return ping

    def answered(self, pong: Pong) -> None:
        """Take an answer; unsolicited ones are ignored."""
        sent = self._sent.pop(pong.sent, None)
        if sent is None:
            return
        trip = self._clock() - sent
        offset = pong.answered / 1e6 - (time.time() - trip / 2)
        # The fastest of the last pings is least delayed, and so most symmetrical (as in RFC 5905).
        self._round_trips = [*self._round_trips[-15:], (trip, offset)]
        self.offset = min(self._round_trips)[1]

    @property
    def round_trip_ms(self) -> float | None:
        """The last ping's round-trip time."""
        return 1000 * self._round_trips[-1][0] if self._round_trips else None


def microseconds() -> int:
    """Return the time of day."""
    return int(time.time() * 1e6)
