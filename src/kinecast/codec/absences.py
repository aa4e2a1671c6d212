"""Frames in which the sender saw nothing to send, such as no face: a receiver holds what it showed last.

They are left out of the motion packets, but for the first and last of a stream and one in 64. See docs/protocol.md.
"""

from collections import deque
from dataclasses import dataclass
from typing import Self

from kinecast.codec.wire import checksum, put_varint, take_checksum, take_mark, take_varint
from kinecast.errors import KinecastError

ABSENCE = 0x41
_MOST = (1 << 35) - 1  # of a varint
_KEPT = 256  # absences that wait for their frames at most: bounds what a hostile stream can fill


@dataclass(frozen=True)
class AbsenceUnit:
    """`count` frames in a row, from number `first` on, in which there was nothing to see."""

    first: int
    count: int

    def __post_init__(self) -> None:
        if not (0 <= self.first <= _MOST and 1 <= self.count <= _MOST):
            raise KinecastError(f"absence: expected 1 frame or more from number 0 on, found {self.count}")

    def __bytes__(self) -> bytes:
        data = bytes([ABSENCE]) + put_varint(self.first) + put_varint(self.count)
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a unit.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "absence"
        first, rest = take_varint(take_mark(data, ABSENCE, what), what, _MOST)
        count, rest = take_varint(rest, what, _MOST)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        return cls(first, count), rest


class AbsenceWriter:
    """Notes for each frame in turn whether there was something to see, until it is asked for units."""

    def __init__(self) -> None:
        self.total = 0
        self._frame = 0  # the number of the next frame
        self._open: list[AbsenceUnit] = []

    def add(self, present: bool) -> None:
        """Take the next frame."""
        if not present:
            self.total += 1
            last = self._open[-1] if self._open else None
            if last is not None and last.first + last.count == self._frame:
                self._open[-1] = AbsenceUnit(last.first, last.count + 1)
            else:
                self._open.append(AbsenceUnit(self._frame, 1))
        self._frame += 1

    def units(self) -> list[AbsenceUnit]:
        """Return the absences of all frames so far that were in no unit."""
        found, self._open = self._open, []
        return found


class Absences:
    """Tells a receiver of which frames nothing was seen. Frames are asked for in order."""

    def __init__(self) -> None:
        self._waiting: deque[AbsenceUnit] = deque(maxlen=_KEPT)

    def take(self, unit: AbsenceUnit) -> None:
        """Take a unit, before the frames that it is about."""
        self._waiting.append(unit)

    def covers(self, number: int) -> bool:
        """Return whether nothing was seen in a frame; what ends before it is forgotten."""
        while self._waiting and self._waiting[0].first + self._waiting[0].count <= number:
            self._waiting.popleft()
        return bool(self._waiting) and self._waiting[0].first <= number
