"""The jitter buffer: a bounded number of packets wait for their play-out time.

Frame n was captured n periods after the sender's start. The fastest of the last packets maps that to this machine's
clock, without knowing the other's; the delay of the others determines how long to wait.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from kinecast.codec.packets import MotionPacket
from kinecast.codec.wire import unwrap

MAX_WAITING = 128  # packets: 2 s at 60 frames per second
_SEEN = 256  # packets used to fit the clock
_LONGEST = 64  # frame periods that a packet may be of
_BEHIND = 4  # packets in a row, later than may be waited for, after which the clock is fitted anew
_SHARE = 0.95  # of the packets arrive in time
_SLACK = 0.003  # s: margin for a late event loop
_JUMP = 2.0  # s off the clock beyond which a packet counts as a restart


@dataclass(frozen=True)
class Waiting:
    """A packet with its numbers unwrapped."""

    sequence: int
    number: int  # of its frame
    packet: MotionPacket


class JitterBuffer:
    """Orders packets and determines which frame is due.

    A late packet is still returned, since the packets after it depend on it; its frame is no longer shown. A missing
    packet is awaited until a key packet, which needs no other, is due.

    Args:
        fps: frame periods per second.
        most_ms: the longest wait.
    """

    def __init__(self, fps: float, most_ms: float) -> None:
        self._period, self._most = 1 / fps, most_ms / 1000
        self._arrivals: deque[float] = deque(maxlen=_SEEN)  # time of frame 0, by each packet
        self._span = self._behind = 1  # frame periods from packet to packet; packets in a row that came too late
        self._waiting: dict[int, Waiting] = {}
        self._next: int | None = None  # next sequence number
        self._base: float | None = None
        self._newest = 0  # unwrapped number of the newest frame
        self.delay = 0.0
        self.received = self.lost = self.late = 0
        self._counted = (0, 0)

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, packet: MotionPacket, now: float) -> bool:
        """Take a packet that arrived at `now`, seconds of any monotonic clock.

        Returns whether it was used or only late: if not, decoding can start only with a key packet.
        """
        number = self._number(packet, now)
        came = now - number * self._period
        if self._base is not None and abs(came - self._base) > _JUMP:
            if not packet.key:
                self.late += 1
                return False
            self._forget(0)
            self.delay = 0.0  # it was of another beginning
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
        self._span = min(max(number - self._newest, 1), _LONGEST) if self._base is not None else 1
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
        """Return when a frame is due, on the clock of `push`."""
        return None if self._base is None else self._base + self.delay + number * self._period

    def take(self, number: int) -> list[Waiting]:
        """Return the packets of frames up to `number` whose predecessors were returned, in order."""
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
        """Return whether due packets wait for a missing one before them."""
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

    @property
    def interval(self) -> float:
        """Seconds from packet to packet, as the last ones came."""
        return self._span * self._period

    def _forget(self, kept: int) -> None:
        while len(self._arrivals) > kept:
            self._arrivals.popleft()
        self._behind = 0

    def _fit(self, came: float) -> None:
        """Fit the clock and the delay. The delay rises at once and falls slowly, since changes are visible."""
        self._arrivals.append(came)
        most = self._most + (self._span - 1) * self._period  # a packet of several frames waits for its last one
        late = self._base is not None and came > self._base + most + self._period
        self._behind = self._behind + 1 if late else 0
        last = list(self._arrivals)[-_BEHIND:]
        if (
            self._behind >= _BEHIND and max(last) - min(last) < most
        ):  # the line has become slower: wait as long as it takes now
            self._forget(_BEHIND)
        rank = round(_SHARE * (len(self._arrivals) - 1))
        arrivals = np.partition(self._arrivals, (0, rank))  # four times as fast as np.quantile
        self._base = float(arrivals[0])
        wanted = min(float(arrivals[rank]) - self._base + _SLACK, most)
        self.delay = wanted if wanted > self.delay else self.delay + 0.02 * (wanted - self.delay)
