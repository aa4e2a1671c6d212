"""When a frame is shown: packets wait here until their turn by the clock, in bounded number.

Frame n was captured n periods after the sender's start. The fastest of the last packets tells when that is by this
machine's clock, without knowing the other's; how much later the others came tells how long to wait.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from kinecast.codec.packets import MotionPacket, unwrap

MAX_WAITING = 128  # packets: 2 s at 60 frames per second
_SEEN = 256  # packets that the clock is fitted to
_SHARE = 0.95  # of the packets come in time
_SLACK = 0.003  # s: what the event loop may be late
_JUMP = 2.0  # s that a packet may be off the clock, before it is taken for a new beginning


@dataclass(frozen=True)
class Waiting:
    """A packet with its numbers unwrapped."""

    sequence: int
    number: int  # of its frame
    packet: MotionPacket


class JitterBuffer:
    """Puts packets in order and says which frame is due.

    A packet that is late is still given, for the packets after it start from it; its frame is not shown any more. The
    missing is waited for until a key packet, which needs no other, is due.

    Args:
        fps: frame periods a second.
        most_ms: the longest wait.
    """

    def __init__(self, fps: float, most_ms: float) -> None:
        self._period, self._most = 1 / fps, most_ms / 1000
        self._arrivals: deque[float] = deque(maxlen=_SEEN)  # when frame 0 came, by each packet
        self._waiting: dict[int, Waiting] = {}
        self._next: int | None = None  # sequence number whose turn it is
        self._base: float | None = None
        self._newest = 0  # unwrapped number of the newest frame
        self.delay = 0.0
        self.received = self.lost = self.late = 0
        self._counted = (0, 0)

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, packet: MotionPacket, now: float) -> bool:
        """Take a packet that came at `now`, seconds of any steady clock.

        Returns whether it was of use or comes too late: if not, nothing can begin before a key packet comes.
        """
        number = self._number(packet, now)
        came = now - number * self._period
        if self._base is not None and abs(came - self._base) > _JUMP:
            if not packet.key:
                self.late += 1
                return False
            self._arrivals.clear()
            self._waiting.clear()
            self._next = None
        sequence = packet.sequence if self._next is None else unwrap(packet.sequence, self._next)
        if self._next is None:
            if not packet.key:
                self.late += 1
                return False
            self._next = sequence
        if sequence < self._next or sequence in self._waiting:
            self.late += 1
            return True
        self._fit(came)
        self.received += 1
        self._newest = max(self._newest, number)
        self._waiting[sequence] = Waiting(sequence, number, packet)
        if len(self._waiting) > MAX_WAITING:
            del self._waiting[min(self._waiting)]
        return True

    def take_counts(self) -> tuple[int, int]:
        """Return packets received and lost since the last call."""
        before, self._counted = self._counted, (self.received, self.lost)
        return self.received - before[0], max(self.lost - before[1], 0)

    def due(self, now: float) -> int | None:
        """Return the number of the frame to show at `now`, None before the first packet."""
        if self._base is None:
            return None
        return int(np.floor((now - self._base - self.delay) / self._period))

    def time_of(self, number: int) -> float | None:
        """Return when a frame is due, by the clock of `push`."""
        return None if self._base is None else self._base + self.delay + number * self._period

    def take(self, number: int) -> list[Waiting]:
        """Return the packets of frames up to `number` whose predecessors were given, in order."""
        out: list[Waiting] = []
        while self._next is not None and self._waiting:
            one = self._waiting.get(self._next)
            if one is None:
                keys = [w.sequence for w in self._waiting.values() if w.packet.key and w.number <= number]
                if not keys:
                    break
                self._skip_to(max(keys))
                continue
            if one.number > number:
                break
            out.append(self._waiting.pop(self._next))
            self._next += 1
        return out

    def blocked(self, number: int) -> bool:
        """Return whether packets wait that are due, but cannot be given because one before them is missing."""
        return self._next not in self._waiting and any(w.number <= number for w in self._waiting.values())

    def _skip_to(self, sequence: int) -> None:
        assert self._next is not None
        useless = [s for s in self._waiting if s < sequence]
        self.lost += sequence - self._next - len(useless)
        for s in useless:
            del self._waiting[s]
        self._next = sequence

    def _number(self, packet: MotionPacket, now: float) -> int:
        if self._base is None:
            return packet.frame
        return unwrap(packet.frame, round((now - self._base) / self._period))

    def _fit(self, came: float) -> None:
        """Fit the clock and the delay. The delay rises at once and falls slowly, for a change of it is seen."""
        self._arrivals.append(came)
        rank = round(_SHARE * (len(self._arrivals) - 1))
        arrivals = np.partition(self._arrivals, (0, rank))  # in a quarter of the time that np.quantile takes
        self._base = float(arrivals[0])
        wanted = min(float(arrivals[rank]) - self._base + _SLACK, self._most)
        self.delay = wanted if wanted > self.delay else self.delay + 0.02 * (wanted - self.delay)
