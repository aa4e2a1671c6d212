"""A minimal reader of TFRecord files of `tf.train.Example`, the format of BAIR robot pushing.

A file is a sequence of records: length (8 bytes, little-endian), masked CRC32C of the length, data, masked CRC32C of
the data. Each of BAIR's records is a protocol-buffer message of named features, of which the byte lists are read.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kinecast.errors import KinecastError

_HEAD = struct.Struct("<QI")
_FOOT = struct.Struct("<I")
_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
_MASK_DELTA = 0xA282EAD8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types


class Span(NamedTuple):
    """The position of one record's data in its file, in bytes."""

    offset: int
    length: int


def record_spans(path: Path) -> tuple[list[Span], str | None]:
    """Return the records of a file up to its end or first damage, and a description of the damage.

    Lengths are checked against their CRC here, data in `read_record`, so that listing does not read the data.
    """
    spans: list[Span] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        while (start := file.tell()) < size:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return spans, f"cut off in the head of record {len(spans)}"
            length, check = _HEAD.unpack(head)
            if check != masked_crc(head[:8]):
                return spans, f"record {len(spans)} has a length that does not match its CRC"
            if start + _HEAD.size + length + _FOOT.size > size:
                return spans, f"cut off in record {len(spans)}"
            spans.append(Span(start + _HEAD.size, length))
            file.seek(length + _FOOT.size, 1)
    return spans, None


def read_record(path: Path, span: Span) -> bytes:
    """Return the data of one record.

    Raises:
        KinecastError: it does not match its CRC.
    """
    with path.open("rb") as file:
        file.seek(span.offset)
        data, foot = file.read(span.length), file.read(_FOOT.size)
    if len(data) < span.length or len(foot) < _FOOT.size or _FOOT.unpack(foot)[0] != masked_crc(data):
        raise KinecastError(
            f"{path}: expected a whole record at byte {span.offset}, found data that does not match its CRC: "
            "copy or download the file again"
        )
    return data


def bytes_features(data: bytes) -> dict[str, bytes]:
    """Return the byte-list features of an Example: the first value of each, by name.

    Raises:
        KinecastError: the data is not such a message.
    """
    found: dict[str, bytes] = {}
    try:
        for features in _fields(data, 1):
            for entry in _fields(features, 1):
                name = next(_fields(entry, 1)).decode()
                for value in _fields(next(_fields(entry, 2)), 1):  # 1 is bytes_list, 2 float_list, 3 int64_list
                    found[name] = next(_fields(value, 1))
    except (StopIteration, IndexError, UnicodeDecodeError, ValueError) as error:
        raise KinecastError(f"TFRecord: expected a tf.train.Example, found {error or 'another message'}") from error
    return found


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of data, RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """Return the CRC rotated and offset, as TFRecord stores it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table.tolist()


_TABLE = _crc_table()


def _fields(message: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the length-delimited fields with a given number."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _BYTES:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field longer than its message")
            if tag >> 3 == wanted:
                yield message[at : at + length]
            at += length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
