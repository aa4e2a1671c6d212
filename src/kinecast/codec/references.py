"""Reference pictures after the first, and from which frame on each is drawn from. See docs/protocol.md.

A sender chooses; a receiver keeps the last pictures, and goes on with the one it has where a chosen one did not come.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Self

from kinecast.codec.wire import checksum, put_varint, take_checksum, take_mark, take_number, take_varint
from kinecast.errors import KinecastError

CHOICE, PICTURE_LAYER = 0x50, 0x4C
MAX_NUMBER = 255  # of a picture: numbers are used again from 0 on
RECENT = 16  # pictures: a sender chooses among the last of them,
KEPT = 64  # of which a receiver keeps more, since in a file they come before the frames that they are for,
ROOM = 16 << 20  # but no more bytes than this
_MOST = (1 << 35) - 1  # of a varint
_WAITING = 256  # choices that wait for their frames at most: bounds what a hostile stream can fill


@dataclass(frozen=True)
class ChoiceUnit:
    """From frame number `first` on, frames are drawn from picture number `picture`."""

    first: int
    picture: int

    def __post_init__(self) -> None:
        if not (0 <= self.first <= _MOST and 0 <= self.picture <= MAX_NUMBER):
            raise KinecastError(
                f"choice of a picture: expected a frame from 0 on and a picture from 0 to {MAX_NUMBER}, "
                f"found {self.first} and {self.picture}"
            )

    def __bytes__(self) -> bytes:
        data = bytes([CHOICE]) + put_varint(self.first) + bytes([self.picture])
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a unit.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "choice of a picture"
        first, rest = take_varint(take_mark(data, CHOICE, what), what, _MOST)
        picture, rest = take_number(rest, 1, what)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        return cls(first, picture), rest


@dataclass(frozen=True)
class PictureLayerUnit:
    """Picture number `picture`, whose chunks follow, belongs to layer `layer`, with the choices of it."""

    picture: int
    layer: int

    def __post_init__(self) -> None:
        if not (0 <= self.picture <= MAX_NUMBER and 1 <= self.layer <= MAX_NUMBER):
            raise KinecastError(
                f"layer of a picture: expected a picture from 0 to {MAX_NUMBER} and a layer from 1 on, found "
                f"{self.picture} and {self.layer}"
            )

    def __bytes__(self) -> bytes:
        data = bytes([PICTURE_LAYER, self.picture, self.layer])
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a unit.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "layer of a picture"
        picture, rest = take_number(take_mark(data, PICTURE_LAYER, what), 1, what)
        layer, rest = take_number(rest, 1, what)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        return cls(picture, layer), rest


class Gallery:
    """What a receiver has of pictures, coded, and which of them a frame is drawn from. Frames are asked for in order.

    >>> gallery = Gallery()
    >>> gallery.came(0, first); gallery.came(1, second); gallery.choose(ChoiceUnit(25, 1))
    >>> [gallery.of(frame) for frame in (0, 24, 25, 26)]
    [0, 0, 1, 1]
    """

    def __init__(self) -> None:
        self._pictures: OrderedDict[int, bytes] = OrderedDict()
        self._waiting: deque[ChoiceUnit] = deque(maxlen=_WAITING)
        self._chosen: int | None = None
        self.missed = 0  # choices of pictures that are not there

    def came(self, number: int, data: bytes) -> None:
        """Take a whole picture; the first of all is the one in use until another is chosen."""
        self._pictures.pop(number, None)
        self._pictures[number] = data
        if self._chosen is None:
            self._chosen = number
        while len(self._pictures) > KEPT or (len(self._pictures) > 2 and sum(map(len, self._pictures.values())) > ROOM):
            oldest = next(each for each in self._pictures if each != self._chosen)
            del self._pictures[oldest]

    def choose(self, unit: ChoiceUnit) -> None:
        """Take a choice, before the frames that it is about."""
        self._waiting.append(unit)

    def of(self, frame: int) -> int | None:
        """Return the number of the picture that a frame is drawn from; None if there is none at all."""
        while self._waiting and self._waiting[0].first <= frame:
            number = self._waiting.popleft().picture
            if number in self._pictures:
                self._chosen = number
            else:
                self.missed += 1
        return self._chosen

    def data(self, number: int) -> bytes | None:
        """Return a picture as it is coded, None if it is not there."""
        return self._pictures.get(number)
