"""Display times of frames in a stream of variable rate, in whole milliseconds. See docs/protocol.md, Times.

A stream of constant rate has none of this. Notation: T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

import numpy as np

from kinecast.codec.entropy import CountModel, Decoder, Encoder
from kinecast.codec.wire import checksum, put_varint, take, take_checksum, take_mark, take_number, take_varint
from kinecast.errors import KinecastError

TIMES = 0x54
TICKS = 1000  # a second
MAX_TIMES = 128  # frames of one unit: bounds the work that a few hostile bytes can cause
MAX_DURATION = (1 << 24) - 1  # longest display time of a frame, in ticks: over four hours
_MOST = (1 << 35) - 1  # of a varint
_CLASSES = 26  # bit lengths of the difference of two durations, sign included
_PIECE = 12  # bits coded at once
_KEPT = 1 << 16  # frames whose times may wait for them


@dataclass(frozen=True)
class TimesUnit:
    """Display times of frames from `first` on: the first starts at tick `begin`, each lasts its `durations`, (T,)."""

    first: int
    begin: int
    durations: tuple[int, ...]

    def __post_init__(self) -> None:
        if not (0 <= self.first <= _MOST and 0 <= self.begin <= _MOST and 1 <= len(self.durations) <= MAX_TIMES):
            raise KinecastError(f"times: expected those of 1 to {MAX_TIMES} frames, found {len(self.durations)}")
        if not all(0 <= duration <= MAX_DURATION for duration in self.durations):
            raise KinecastError(
                f"times: expected frames shown for at most {MAX_DURATION // TICKS} s, found "
                f"{max(self.durations) / TICKS:.0f} s: cut the clip, or use --fps"
            )

    def __bytes__(self) -> bytes:
        payload = _code(self.durations)
        data = bytes([TIMES]) + put_varint(self.first) + put_varint(self.begin) + bytes([len(self.durations)])
        data += put_varint(len(payload)) + payload
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a unit.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "times of frames"
        first, rest = take_varint(take_mark(data, TIMES, what), what, _MOST)
        begin, rest = take_varint(rest, what, _MOST)
        count, rest = take_number(rest, 1, what)
        size, rest = take_varint(rest, what, 8 * MAX_TIMES)
        payload, rest = take(rest, size, what)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        if not 1 <= count <= MAX_TIMES:
            raise KinecastError(f"{what}: expected 1 to {MAX_TIMES} frames, found {count}: it is damaged")
        return cls(first, begin, _decode(payload, count)), rest


class TimesWriter:
    """Collects display times until units are requested."""

    def __init__(self) -> None:
        self._first = 0  # the number of the first waiting frame
        self._edges = [0]  # ticks: starts of the waiting frames, and the end of the last

    def add(self, edges: np.ndarray) -> None:
        """Take the edges of further frames, (T + 1,) seconds since the first frame."""
        self._edges += [round(float(edge) * TICKS) for edge in edges[1:]]

    def units(self) -> list[TimesUnit]:
        """Return the units of the frames not yet in one.

        Raises:
            KinecastError: a frame is shown for too long.
        """
        found = []
        durations = np.diff(self._edges).tolist()
        for start in range(0, len(durations), MAX_TIMES):
            some = tuple(durations[start : start + MAX_TIMES])
            found.append(TimesUnit(self._first + start, self._edges[start], some))
        self._first += len(durations)
        self._edges = self._edges[-1:]
        return found


class FrameClock:
    """The receiver's display times: from the units, or at the stream's mean rate if those are lost."""

    def __init__(self, rate: tuple[int, int]) -> None:
        self.used = False  # whether a unit was received
        self._period = float(TICKS / Fraction(*rate))
        self._ends: dict[int, int] = {}  # by number of frame
        self._now: float | None = None  # when the last frame ended
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """Total display time of the frames so far."""
        return ((self._now or 0.0) - self._started) / TICKS

    def take(self, unit: TimesUnit) -> None:
        """Take a unit, before the frames it describes; those beyond the limit are dropped."""
        self.used = True
        time = unit.begin
        if len(self._ends) < _KEPT:
            self._ends.setdefault(unit.first - 1, time)  # latest start of the first displayed frame
        for number, duration in enumerate(unit.durations, unit.first):
            time += duration
            if len(self._ends) < _KEPT:
                self._ends[number] = time

    def start(self, number: int) -> float:
        """Return when the first displayed frame starts, in seconds since frame 0 did."""
        if self._now is None:
            self._now = self._started = float(self._ends.get(number - 1, number * self._period))
        return self._now / TICKS

    def edges(self, numbers: Sequence[int]) -> np.ndarray:
        """Return the display times of frames in seconds, (T + 1,), increasing. Earlier ones are dropped."""
        found = [self.start(numbers[0])]
        assert self._now is not None
        for number in numbers:
            end = self._ends.pop(number, None)
            self._now = max(self._now + 1, end) if end is not None else self._now + self._period
            found.append(self._now / TICKS)
        self._ends = {number: end for number, end in self._ends.items() if number > numbers[-1]}
        return np.array(found)


class _Expected:
    """The integer mean of recent durations, from which the next one is predicted."""

    def __init__(self) -> None:
        self._mean = 0  # in 1/256 ticks

    @property
    def ticks(self) -> int:
        """The predicted duration."""
        return self._mean + 128 >> 8

    def note(self, duration: int) -> None:
        """Take a duration."""
        self._mean = duration << 8 if not self._mean else self._mean + ((duration << 8) - self._mean >> 2)


def _code(durations: Sequence[int]) -> bytes:
    """Code each duration as its difference from the prediction: the difference's bit length, then its other bits."""
    coder, model, expected = Encoder(), _model(), _Expected()
    for duration in durations:
        folded = _folded(duration - expected.ticks)
        size = folded.bit_length()
        coder.gap(model.frequencies(), size)
        model.note(size)
        for shift, bits in _pieces(size):
            coder.raw(bits, folded >> shift & (1 << bits) - 1)
        expected.note(duration)
    return coder.finish()


def _decode(payload: bytes, count: int) -> tuple[int, ...]:
    coder, model, expected = Decoder(payload), _model(), _Expected()
    durations = []
    for _ in range(count):
        size = coder.gap(model.frequencies())
        model.note(size)
        folded = 1 << size >> 1
        for shift, bits in _pieces(size):
            folded |= coder.raw(bits) << shift
        duration = expected.ticks + ((folded >> 1) ^ -(folded & 1))
        if not 0 <= duration <= MAX_DURATION:
            raise KinecastError(f"times of frames: expected 0 to {MAX_DURATION} ms, found {duration}: it is damaged")
        expected.note(duration)
        durations.append(duration)
    return tuple(durations)


def _model() -> CountModel:
    return CountModel(np.maximum(32 >> np.arange(_CLASSES), 1))


def _folded(difference: int) -> int:
    """Return 0, -1, 1, -2, 2, ... as 0, 1, 2, 3, 4, ..."""
    return 2 * difference if difference >= 0 else -2 * difference - 1


def _pieces(size: int) -> list[tuple[int, int]]:
    """Return shift and number of bits of the pieces, from above, of the bits below the leading one."""
    left, found = max(size - 1, 0), []
    while left:
        bits = min(left, _PIECE)
        left -= bits
        found.append((left, bits))
    return found
