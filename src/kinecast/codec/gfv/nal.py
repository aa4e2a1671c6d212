"""NAL units of H.264 and H.265 as far as SEI messages need: start codes, emulation prevention, SEI payloads.

An *access unit* is here the bytes of one coded picture with start codes (Annex B of either standard).

>>> codec = CODECS["h264"]
>>> sei_unit(codec, 223, b"abc").hex()
'06df0361626380'
>>> list(sei_messages(codec, bytes.fromhex("00000106df0361626380")))
[(223, b'abc')]
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kinecast.errors import KinecastError

START = b"\0\0\0\1"
_STOP = b"\x80"  # the stop bit of a unit's content, then zeros
_FORBIDDEN = re.compile(b"\0\0(?=[\0-\3])")
MOST_UNIT = 1 << 24  # bytes of an access unit that are searched


@dataclass(frozen=True)
class Codec:
    """What distinguishes a codec's NAL units.

    Attributes:
        name: the codec's name in libav.
        header: bytes of a unit header.
        shift: position of the unit type in the first byte.
        mask: mask of the type after shifting.
        sei: types of units with SEI messages, the first of which is written.
        head: the header of a unit with SEI messages that comes before the picture.
        slices: types of units that are slices.
        key: the slice types of pictures that need no other.
    """

    name: str
    header: int
    shift: int
    mask: int
    sei: tuple[int, ...]
    head: bytes
    slices: range
    key: range

    def kind(self, unit: bytes) -> int:
        """Return the type of a unit, -1 if it is empty."""
        return unit[0] >> self.shift & self.mask if len(unit) >= self.header else -1


CODECS = {
    # H.264, table 7-1: 1 to 5 are slices, 5 of an IDR picture, 6 SEI.
    "h264": Codec("h264", 1, 0, 31, (6,), b"\x06", range(1, 6), range(5, 6)),
    # H.265, table 7-1: below 32 are slices, 16 to 23 of intra random access pictures, 39 and 40 SEI before and after.
    "hevc": Codec("hevc", 2, 1, 63, (39, 40), b"\x4e\x01", range(0, 32), range(16, 24)),
}


def escape(content: bytes) -> bytes:
    """Return a unit's content with emulation prevention: a 3 before any byte up to 3 that follows two zeros."""
    escaped = _FORBIDDEN.sub(b"\0\0\3", content)
    return escaped + b"\3" if escaped.endswith(b"\0") else escaped


def unescape(unit: bytes) -> bytes:
    """Undo `escape`."""
    return unit.replace(b"\0\0\3", b"\0\0")


def units(data: bytes) -> Iterator[bytes]:
    """Yield the NAL units of an access unit without their start codes; nothing if there is no start code."""
    pieces = data[:MOST_UNIT].split(START[1:])[1:]
    yield from (piece for each in pieces if (piece := each.rstrip(b"\0")))


def sei_unit(codec: Codec, kind: int, payload: bytes) -> bytes:
    """Return the NAL unit of one SEI message, without a start code."""
    return codec.head + escape(_number(kind) + _number(len(payload)) + payload + _STOP)


def sei_messages(codec: Codec, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and payload of the SEI messages of an access unit.

    Raises:
        KinecastError: a message is cut off.
    """
    for unit in units(data):
        if codec.kind(unit) not in codec.sei:
            continue
        content = unescape(unit[codec.header :]).rstrip(b"\0")
        at = 0
        while at < len(content) - 1:  # the last byte is the end of the unit
            kind, at = _take_number(content, at)
            size, at = _take_number(content, at)
            if at + size > len(content):
                raise KinecastError(f"SEI message: expected {size} bytes, found {len(content) - at}: it is cut off")
            yield kind, content[at : at + size]
            at += size


def with_sei(codec: Codec, data: bytes, kind: int, payload: bytes) -> bytes:
    """Return an access unit with an SEI message before its first slice; its other SEI messages are dropped."""
    out, written = bytearray(), False
    for unit in units(data):
        if codec.kind(unit) in codec.sei:
            continue
        if codec.kind(unit) in codec.slices and not written:
            out += START + sei_unit(codec, kind, payload)
            written = True
        out += START + unit
    if not written:
        raise KinecastError("access unit: expected a slice to insert a message before, found none")
    return bytes(out)


def _number(value: int) -> bytes:
    """Return a type or size in SEI coding: a byte of 255 for each 255, and the remainder."""
    return b"\xff" * (value // 255) + bytes([value % 255])


def _take_number(content: bytes, at: int) -> tuple[int, int]:
    start = at
    while at < len(content) and content[at] == 255:
        at += 1
    if at >= len(content):
        raise KinecastError("SEI message: expected its type and size, found the end: it is cut off")
    return 255 * (at - start) + content[at], at + 1
