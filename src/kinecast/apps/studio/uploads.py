"""Uploads of a page: streamed to disk, bounded, and identified by content alone."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from kinecast.errors import KinecastError

_LEFT_FREE = 256 << 20  # bytes of the disk that uploads do not take
_HEAD = 192  # bytes by which a file's kind is known
_MPEG_TS = 188  # bytes of a packet, each of which begins with the same one

# What a file may begin with: kinds whose readers open no other file. Playlists, which name files and addresses, are not
# among them, whatever libav would make of them.
_BEGINNINGS = (
    *((0, mark) for mark in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")),
    *((0, mark) for mark in (b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"\0\0\x01\xba", b"\0\0\0\x0cjP  ")),
    *((4, mark) for mark in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    *((8, mark) for mark in (b"WEBP", b"AVI ")),
)


class TooLarge(KinecastError):
    """An upload is larger than allowed."""


def megabytes(count: int) -> str:
    """Return a size in readable form."""
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def check_length(length: int | None, limit: int, folder: Path) -> None:
    """Check the length a request declares, before reading it.

    Raises:
        TooLarge: more than `limit`, or than the free space.
    """
    if length is not None and length > limit:
        raise TooLarge(
            f"file: expected at most {megabytes(limit)}, found {megabytes(length)}: cut the clip, or start kinecast "
            "studio with a larger --upload-mb"
        )
    room = shutil.disk_usage(folder).free - _LEFT_FREE
    if room < (length or 0):
        raise TooLarge(
            f"file: expected free space for {megabytes(length or 0)} in the folder for temporary files, found "
            f"{megabytes(max(room, 0))}: free some, or set TMPDIR"
        )


async def receive(content: AsyncIterator[bytes], path: Path, limit: int) -> Path:
    """Write an upload to a file, which is removed if it is incomplete, too large, or of no known kind.

    Args:
        content: pieces of the file.
        path: where to; nothing that the page says is part of it.
        limit: bytes.

    Raises:
        TooLarge: more than `limit` arrives, whatever was said of its length.
        KinecastError: it is empty, or no picture or clip.
    """
    size, head = 0, b""
    try:
        with path.open("wb") as file:
            async for piece in content:
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"file: expected at most {megabytes(limit)}, found more: cut the clip")
                head = head if len(head) >= _HEAD else head + piece[:_HEAD]
                await asyncio.to_thread(file.write, piece)
        if not size:
            raise KinecastError("file: expected a picture or a clip, found an empty file: choose another")
        if not _is_known(head):
            raise KinecastError(
                "file: expected a picture (jpg, png, webp, heic) or a clip (mp4, mov, webm, mkv, avi, gif), found "
                "another kind of file: choose another"
            )
    except BaseException as error:
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            raise TooLarge(
                f"file: expected to write it to the folder for temporary files, found {error.strerror}: free some room"
            ) from error
        raise
    return path


async def bounded(content: AsyncIterator[bytes], length: int | None, limit: int) -> bytes:
    """Return what arrives, if it is no more than `limit` bytes.

    Raises:
        TooLarge: more is announced, or arrives.
    """
    data = bytearray()
    too_large = TooLarge(f"file: expected at most {megabytes(limit)}, found more: choose a smaller one")
    if length is not None and length > limit:
        raise too_large
    async for piece in content:
        data += piece
        if len(data) > limit:
            raise too_large
    return bytes(data)


def _is_known(head: bytes) -> bool:
    stream = head[:1] == b"G" and head[_MPEG_TS : _MPEG_TS + 1] == b"G"
    return stream or any(head[place : place + len(mark)] == mark for place, mark in _BEGINNINGS)
