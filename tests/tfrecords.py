"""TFRecord files for tests, written by hand from the format's description and not with the code that reads them."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path


def crc32c_bitwise(data: bytes) -> int:
    """CRC-32C one bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = crc32c_bitwise(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    head = struct.pack("<Q", len(data))
    return head + masked(head) + data + masked(data)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(images: Mapping[str, bytes], floats: Mapping[str, Sequence[float]] | None = None) -> bytes:
    """A tf.train.Example of lists of bytes and of floats."""
    entries = b""
    for name, numbers in (floats or {}).items():
        packed = field(1, struct.pack(f"<{len(numbers)}f", *numbers))
        entries += field(1, field(1, name.encode()) + field(2, field(2, packed)))
    for name, data in images.items():
        entries += field(1, field(1, name.encode()) + field(2, field(1, field(1, data))))
    return field(1, entries)


def write_bair(path: Path, clips: Sequence[Sequence[bytes]]) -> Path:
    """A file of clips of 64x64 RGB pictures, with the other camera and the arm's position beside, as BAIR's."""
    records = b""
    for frames in clips:
        images = {f"{t}/image_aux1/encoded": frame for t, frame in enumerate(frames)}
        images |= {f"{t}/image_main/encoded": bytes(len(frame)) for t, frame in enumerate(frames)}
        floats = {f"{t}/endeffector_pos": (0.1, 0.2, 0.3) for t in range(len(frames))}
        records += record(example(images, floats))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(records)
    return path
