"""The format's small parts: varints, strings, checksums. Readers refuse truncated or oversized data."""

import zlib
from binascii import crc_hqx

from kinecast.errors import KinecastError

_HALF = 1 << 15  # of the modulus of a packet's sequence and frame numbers


def cut_off(what: str, expected: int, found: int) -> KinecastError:
    """Return the error of a unit that ends too early, sizes in bytes."""
    return KinecastError(f"{what}: expected {expected} more bytes, found {found}: it is cut off; send or copy it again")


def take(data: bytes, size: int, what: str) -> tuple[bytes, bytes]:
    """Split `size` bytes off."""
    if len(data) < size:
        raise cut_off(what, size, len(data))
    return data[:size], data[size:]


def take_number(data: bytes, size: int, what: str) -> tuple[int, bytes]:
    """Read an unsigned big-endian number of `size` bytes."""
    head, rest = take(data, size, what)
    return int.from_bytes(head, "big"), rest


def take_mark(data: bytes, mark: int, what: str) -> bytes:
    """Split off the byte that identifies a kind of unit."""
    found, rest = take_number(data, 1, what)
    if found != mark:
        raise KinecastError(f"{what}: expected first byte 0x{mark:02x}, found 0x{found:02x}: it is damaged")
    return rest


def put_varint(value: int) -> bytes:
    """Write an unsigned number below 2**35, seven bits per byte, lowest first, the top bit set on all but the last."""
    if not 0 <= value < 1 << 35:
        raise KinecastError(f"varint: expected a number from 0 to 2**35 - 1, found {value}")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def take_varint(data: bytes, what: str, most: int) -> tuple[int, bytes]:
    """Read what `put_varint` wrote: at most five bytes, no padding, at most `most`."""
    value = 0
    for index in range(5):
        if index >= len(data):
            raise cut_off(what, 1, 0)
        value |= (data[index] & 127) << 7 * index
        if not data[index] & 128:
            if index and not data[index]:
                raise KinecastError(
                    f"{what}: expected a number in its shortest form, found a longer one: it is damaged"
                )
            if value > most:
                raise KinecastError(f"{what}: expected at most {most}, found {value}: it is damaged or foreign")
            return value, data[index + 1 :]
    raise KinecastError(f"{what}: expected a number of at most 5 bytes, found more: it is damaged")


def put_text(text: str) -> bytes:
    """Write a text of at most 64 printable ASCII characters."""
    if len(text) > 64 or not text.isascii() or not (text.isprintable() or not text):
        raise KinecastError(f"text: expected at most 64 printable ASCII characters, found {text[:80]!r}")
    return bytes([len(text)]) + text.encode("ascii")


def take_text(data: bytes, what: str) -> tuple[str, bytes]:
    """Read what `put_text` wrote."""
    size, data = take_number(data, 1, what)
    if size > 64:
        raise KinecastError(f"{what}: expected a text of at most 64 characters, found {size}: it is damaged")
    raw, rest = take(data, size, what)
    text = raw.decode("latin-1")
    if not text.isascii() or not (text.isprintable() or not text):
        raise KinecastError(f"{what}: expected printable ASCII characters, found others: it is damaged")
    return text, rest


def checksum(data: bytes, wide: bool = True) -> bytes:
    """Return CRC-32 (as in zip, 4 bytes), or CRC-16/CCITT with initial value 0xFFFF (2 bytes), big-endian."""
    return zlib.crc32(data).to_bytes(4, "big") if wide else crc_hqx(data, 0xFFFF).to_bytes(2, "big")


def take_checksum(covered: bytes, rest: bytes, what: str, wide: bool = True) -> bytes:
    """Check the checksum of `covered` at the start of `rest`, and return what follows."""
    found, rest = take(rest, 4 if wide else 2, what)
    expected = checksum(covered, wide)
    if found != expected:
        raise KinecastError(
            f"{what}: expected checksum {expected.hex()}, found {found.hex()}: it is damaged; send it again"
        )
    return rest


def unwrap(value: int, near: int) -> int:
    """Return the number closest to `near` that equals `value` modulo 2**16."""
    return near + (value - near + _HALF) % (2 * _HALF) - _HALF
