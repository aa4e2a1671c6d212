"""Input through a pipe, buffered in a temporary file, since clips and weights are read more than once."""

import atexit
import os
import shutil
import stat
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from kinecast.errors import KinecastError

STDIN = "-"
MOST_BYTES = 8 << 30  # limit of a pipe, about an hour of 4K: an endless stream must not fill the disk

_BLOCK = 1 << 20
_kept: dict[tuple[int, int], Path] = {}  # by device and inode of the pipe, which can be read once
_names: dict[Path, str] = {}  # the user's names for them


def from_pipe(path: str | Path, what: str = "clip") -> Path:
    """Return `path` itself, or, for "-" (standard input) and pipes, a file with their content.

    The file is created at the first call and removed when the process ends; each pipe has one. `what` describes the
    expected content in messages.

    Raises:
        KinecastError: no data, more than MOST_BYTES, or a full temporary folder.
    """
    standard = str(path) == STDIN
    try:
        about = os.fstat(sys.stdin.fileno()) if standard else os.stat(path)
    except (OSError, ValueError, AttributeError):  # missing; or no standard input, as in a service
        if not standard:
            return Path(path)
        raise KinecastError(f"-: expected a {what} on standard input, found none: pipe it in, or name a file") from None
    if not standard and not stat.S_ISFIFO(about.st_mode) and not stat.S_ISCHR(about.st_mode):
        return Path(path)
    if stat.S_ISCHR(about.st_mode):
        raise KinecastError(f"{path}: expected a {what}, found a terminal or device: pipe it in, or name a file")
    key = about.st_dev, about.st_ino
    if key not in _kept:
        with nullcontext(sys.stdin.buffer) if standard else open(path, "rb") as pipe:
            _kept[key] = _spooled(pipe, str(path), what)
        _names[_kept[key]] = str(path)
    return _kept[key]


def as_given(text: str) -> str:
    """Return a message that names pipes as the user did, not by their buffer files."""
    for kept, name in _names.items():
        text = text.replace(str(kept), name)
    return text


def _spooled(pipe: BinaryIO, name: str, what: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kinecast-pipe-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    kept = folder / f"clip{Path(name).suffix}"
    size = 0
    try:
        with kept.open("wb") as file:
            while block := pipe.read(_BLOCK):
                size += file.write(block)
                if size > MOST_BYTES:
                    raise KinecastError(
                        f"{name}: expected a {what} of at most {MOST_BYTES >> 30} GB through a pipe, found more: save "
                        "it to a file and use that"
                    )
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise KinecastError(
                f"{name}: the pipe cannot be buffered in {folder.parent}: {error.strerror or error}: save it to a file "
                "and use that"
            ) from error
        raise
    if not size:
        raise KinecastError(f"{name}: expected a {what} through the pipe, found nothing: check the command before it")
    return kept
