"""A .kcm stream as a file: header, reference pictures, motion packets back to back, read and written in one pass."""

import io
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image

from kinecast.codec.absences import AbsenceUnit
from kinecast.codec.packets import (
    DATAGRAM,
    MAGIC,
    MAX_HEADER,
    MAX_PICTURE,
    Header,
    MotionPacket,
    ReferenceChunk,
    SoundUnit,
    parse_unit,
    split_picture,
)
from kinecast.codec.references import ChoiceUnit, PictureLayerUnit
from kinecast.codec.times import TimesUnit
from kinecast.errors import KinecastError

# What follows a header.
BodyUnit = ReferenceChunk | ChoiceUnit | PictureLayerUnit | TimesUnit | AbsenceUnit | SoundUnit | MotionPacket
_KINDS = {  # of what is not motion, in the sizes
    ReferenceChunk: "picture",
    ChoiceUnit: "picture",
    PictureLayerUnit: "picture",
    AbsenceUnit: "overhead",
    TimesUnit: "times",
    SoundUnit: "sound",
}
SHRINKS = (1, 2, 4)  # of a picture's sides beside the frame's
_PIXELS = 1 << 24  # of a reference picture, at most: a few hostile bytes may promise any size


class PictureAssembler:
    """Assembles the chunks of reference pictures, in any order."""

    def __init__(self) -> None:
        self._parts: dict[int, dict[int, ReferenceChunk]] = {}

    def push(self, chunk: ReferenceChunk) -> tuple[int, str, bytes] | None:
        """Take a chunk; returns number, mime type and bytes of a picture once it is complete.

        Raises:
            KinecastError: the chunks of a picture contradict each other.
        """
        parts = self._parts.setdefault(chunk.picture, {})
        if parts and (next(iter(parts.values())).size, next(iter(parts.values())).mime) != (chunk.size, chunk.mime):
            del self._parts[chunk.picture]
            raise KinecastError(
                f"reference picture {chunk.picture}: expected chunks of one picture, found {chunk.size} bytes of "
                f"{chunk.mime} among others: it is damaged or its number was used twice"
            )
        if sum(len(other) for other in self._parts.values()) * len(chunk.data) > 2 * MAX_PICTURE:
            self._parts.clear()
            raise KinecastError(f"reference pictures: expected at most {2 * MAX_PICTURE} unfinished bytes, found more")
        parts[chunk.index] = chunk
        if len(parts) < chunk.count:
            return None
        del self._parts[chunk.picture]
        return chunk.picture, chunk.mime, b"".join(parts[index].data for index in range(chunk.count))


class StreamReader:
    """Reads a stream without keeping it; damage is skipped up to the next valid unit and counted in `skipped` bytes.

    Args:
        file: open for reading bytes, positioned at the header.

    Raises:
        KinecastError: the header is missing, damaged, or of a later version.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.skipped = file, 0
        self._buffer = b""
        self._fill(MAX_HEADER + 16)
        try:
            self.header, self._buffer = Header.parse(self._buffer)
        except KinecastError as error:
            name = getattr(file, "name", None)  # of a file on disk
            raise KinecastError(f"{name}: {error}" if isinstance(name, str) else str(error)) from error

    def units(self) -> Iterator[BodyUnit]:
        """Yield all units after the header to the end of the file."""
        while self._fill(2 * DATAGRAM):
            try:
                unit, self._buffer = parse_unit(self._buffer)
            except KinecastError:
                self._skip()
                continue
            if not isinstance(unit, Header):
                yield unit

    def _fill(self, size: int) -> bool:
        if len(self._buffer) < size:
            self._buffer += self._file.read(size - len(self._buffer))
        return bool(self._buffer)

    def _skip(self) -> None:
        """Drop bytes up to one that may start a unit."""
        step = 1
        while (
            step < len(self._buffer)
            and self._buffer[step] & 0xC0 != 0x80
            and self._buffer[step] not in b"ALPRST" + MAGIC[:1]
        ):
            step += 1
        self._buffer = self._buffer[step:]
        self.skipped += step


def write_stream(
    file: BinaryIO, header: Header, picture: bytes, mime: str, units: Iterable[BodyUnit]
) -> dict[str, int]:
    """Write a stream as its units come; returns the bytes of header, pictures, times, sound, and of motion packets.

    Of these, payload and overhead are counted apart; what says that frames were absent is overhead. What says which
    picture is drawn from counts as the pictures'.
    """
    kinds = ("header", "picture", "times", "sound", "payload", "overhead")
    sizes = dict.fromkeys((f"{kind}_bytes" for kind in kinds), 0)
    sizes["header_bytes"] = file.write(bytes(header))
    for chunk in split_picture(picture, mime):
        sizes["picture_bytes"] += file.write(bytes(chunk))
    for unit in units:
        size = file.write(bytes(unit))
        if isinstance(unit, MotionPacket):
            sizes["payload_bytes"] += len(unit.payload)
            sizes["overhead_bytes"] += size - len(unit.payload)
        else:
            sizes[f"{_KINDS[type(unit)]}_bytes"] += size
    return sizes


def code_picture(picture: np.ndarray, quality: int = 60) -> tuple[bytes, str]:
    """Code a picture, uint8 (H, W, 3), as WebP, or JPEG where Pillow lacks WebP; returns bytes and mime type."""
    out = io.BytesIO()
    image = Image.fromarray(picture)
    try:
        image.save(out, "WEBP", quality=quality, method=6)
        return out.getvalue(), "image/webp"
    except (KeyError, OSError):
        image.save(out, "JPEG", quality=quality, optimize=True)
        return out.getvalue(), "image/jpeg"


def open_picture(data: bytes, size: tuple[int, int], smaller: bool = False) -> np.ndarray:
    """Decode a reference picture to uint8 (H, W, 3); with `smaller` also one of half or a quarter, which is enlarged.

    Raises:
        KinecastError: it cannot be decoded, or is not of `size` (height, width).
    """
    sizes = [(size[1] // by, size[0] // by) for by in (SHRINKS if smaller else SHRINKS[:1])]
    try:
        with Image.open(io.BytesIO(data), formats=("WEBP", "JPEG", "PNG", "AVIF")) as image:
            if image.size not in sizes or size[0] * size[1] > _PIXELS:
                raise KinecastError(
                    f"reference picture: expected {size[1]}x{size[0]} as in the header, at most {_PIXELS} pixels, "
                    f"found {image.size[0]}x{image.size[1]}: it is of another stream"
                )
            picture = image.convert("RGB")
            if picture.size != sizes[0]:
                picture = picture.resize(sizes[0], Image.Resampling.BICUBIC)
            return np.array(picture)  # a copy: torch wants to be able to write
    except KinecastError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of error for damaged data
        raise KinecastError(
            f"reference picture: expected a whole WebP, JPEG, PNG or AVIF, found {type(error).__name__}: send it again"
        ) from error
