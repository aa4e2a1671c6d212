"""Frames without a detection at the sender, such as no face: a receiver holds what it showed last.

They are omitted from the motion packets, except the first and last of a stream and one in 64. See docs/protocol.md.
"""

from collections import deque
from dataclasses import dataclass
from typing import Self

from kinecast.codec.wire import checksum, put_varint, take_checksum, take_mark, take_varint
from kinecast.errors import KinecastError

ABSENCE = 0x41
_MOST = (1 << 35) - 1  # of a varint
_KEPT = 256  # absences that wait for their frames at most: bounds the memory a hostile stream can use


@dataclass(frozen=True)
class AbsenceUnit:
    """`count` consecutive frames from number `first` on without a detection."""

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
    """Records for each frame in turn whether there was a detection, until units are requested."""

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
        """Return the absences not yet in a unit."""
        found, self._open = self._open, []
        return found


class Absences:
    """The receiver's record of frames without a detection. Frames are queried in order."""

    def __init__(self) -> None:
        self._waiting: deque[AbsenceUnit] = deque(maxlen=_KEPT)

    def take(self, unit: AbsenceUnit) -> None:
        """Take a unit, before the frames it describes."""
        self._waiting.append(unit)

    def covers(self, number: int) -> bool:
        """Return whether a frame had no detection; earlier absences are dropped."""
        while self._waiting and self._waiting[0].first + self._waiting[0].count <= number:
            self._waiting.popleft()
        return bool(self._waiting) and self._waiting[0].first <= number
