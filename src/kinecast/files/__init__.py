"""Writing files so that a partial output never replaces a good one, and no output replaces what is read."""

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from kinecast.errors import KinecastError
from kinecast.files.pipes import from_pipe

CLIP_OUTPUTS = (".mp4", ".mov", ".mkv", ".webm", ".gif")  # what `VideoWriter` writes
PICTURE_OUTPUTS = (".png", ".jpg", ".jpeg")
MOTION_OUTPUTS = (".npz",)
STREAM_OUTPUTS = (".kcm",)
GFV_OUTPUTS = (".mp4", ".h264", ".h265")  # video with messages of motion
WEIGHTS_OUTPUTS = (".safetensors",)
REPORT_OUTPUTS = (".json",)
TABLE_OUTPUTS = (".csv",)

_STEM = 32  # characters of a temporary name's stem, within what file systems allow
_Identity = tuple[int, int]  # device and inode
_read: ContextVar[frozenset[_Identity]] = ContextVar("files that are read", default=frozenset())


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on any failure, Ctrl-C included.

    The temporary name keeps the suffix, since writers choose the format by it. A symbolic link is kept: its target is
    replaced.

    Raises:
        KinecastError: the folder does not exist, or is not writable, the disk is full, or `path` is a folder, a
            device, or a file that `kept` protects.
    """
    path = Path(path)
    target = _replaceable(path)
    with _beside(target, path) as temporary:
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers create private files
        temporary.replace(target)


def check_output(
    path: str | Path,
    suffixes: tuple[str, ...] = (),
    what: str = "file",
    inputs: Iterable[str | Path] = (),
    folder_is_made: bool = False,
) -> Path:
    """Return `path` if a file can be written there, which is tried; call it before long work. Existing files are kept.

    Args:
        path: the output.
        suffixes: allowed suffixes; empty allows any.
        what: the kind of file, for the message.
        inputs: files being read, which an output must not replace under any name.
        folder_is_made: the file's folder need not exist yet.

    Raises:
        KinecastError: a wrong suffix, a folder, a device, an input, a write-protected file, or a folder that does not
            exist or cannot be written to.
    """
    path = Path(path)
    check_distinct(path, inputs)
    target = _replaceable(path, _expected(suffixes, what))
    if suffixes:
        check_suffix(path, suffixes, what)
    if folder_is_made and not target.parent.exists():
        check_folder(target.parent)
        return path
    with _beside(target, path):
        return path


def check_suffix(path: str | Path, suffixes: tuple[str, ...], what: str = "file") -> Path:
    """Return `path` if its name ends in one of the suffixes, ignoring case.

    Raises:
        KinecastError: it does not.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        found = repr(path.suffix) if path.suffix else "none"
        raise KinecastError(f"{path}: expected {_expected(suffixes, what)}, found {found}: rename the output")
    return path


def check_folder(path: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Return `path` if it is a folder or can be created as one; call it before long work. Creates nothing.

    Raises:
        KinecastError: a file, an input, or a folder that is not writable.
    """
    path = Path(path)
    check_distinct(path, inputs)
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    if not there.is_dir():
        found = "a file" if there == path else f"a file, {there}"
        raise KinecastError(f"cannot write to {path}: expected a folder, found {found}: name a folder")
    with _beside(there / "output", path):
        return path


def check_distinct(path: str | Path, inputs: Iterable[str | Path]) -> None:
    """Check that an output is none of the inputs under any name: link, relative path, other case.

    Raises:
        KinecastError: it is one.
    """
    for given in inputs:
        if same_place(path, given):
            other = "" if str(path) == str(given) else f", {given}"
            raise KinecastError(
                f"cannot write {path}: expected an output that is not an input, found an input{other}: name another "
                "output"
            )


def same_place(one: str | Path, other: str | Path) -> bool:
    """Return whether two paths name the same file or folder, existing or not."""
    try:
        return os.path.samefile(one, other)
    except OSError:  # one does not exist yet
        return os.path.normcase(os.path.realpath(one)) == os.path.normcase(os.path.realpath(other))


@contextmanager
def kept(inputs: Iterable[str | Path]) -> Iterator[None]:
    """Protect inputs within the block: `atomic_path` refuses to replace them under any name.

    A second line of defence behind `check_distinct`, for names that a command generates.
    """
    identities = {identity for path in inputs if (identity := _identity(Path(path))) is not None}
    token = _read.set(_read.get() | identities)
    try:
        yield
    finally:
        _read.reset(token)


def make_folder(path: str | Path) -> Path:
    """Create a folder with its parents and return it.

    Raises:
        KinecastError: it cannot be created.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def existing_file(path: str | Path, what: str = "file") -> Path:
    """Return `path` if it is a file with content; for a pipe or "-" (standard input), the file that buffers it.

    Raises:
        KinecastError: it is missing, a folder or empty, or the pipe delivers nothing.
    """
    path = from_pipe(path, what)
    if not path.exists():
        is_address = re.match(r"[a-z]+:/", str(path)) is not None  # pathlib collapses // to /
        found = "a URL: download it, and name the file" if is_address else "nothing there: check the path"
        raise KinecastError(f"{path}: expected a {what}, found {found}")
    if path.is_dir():
        raise KinecastError(f"{path}: expected a {what}, found a folder: name a file")
    if path.stat().st_size == 0:
        raise KinecastError(f"{path}: expected a {what}, found an empty file (0 bytes): copy or download it again")
    return path


@contextmanager
def _beside(target: Path, asked: Path) -> Iterator[Path]:
    """Yield an empty temporary file in the folder of `target`, removed at the end; errors name `asked`."""
    # The name is known before the file exists, so that an interrupt at any moment can remove it.
    temporary = target.with_name(f".{target.stem[:_STEM]}.{secrets.token_hex(4)}{target.suffix}")
    try:
        temporary.open("xb").close()
        yield temporary
    except OSError as error:
        raise _unwritable(asked, error) from error
    finally:
        with suppress(OSError):  # already removed, or never created because its folder does not exist
            temporary.unlink()


def _expected(suffixes: tuple[str, ...], what: str) -> str:
    return f"a {what} name" + (f" ending in {', '.join(suffixes)}" if suffixes else "")


def _replaceable(path: Path, expected: str = "a file name") -> Path:
    """Return the file to write for an output, following a symbolic link.

    Raises:
        KinecastError: the existing path may not be replaced.
    """
    try:
        if path.is_dir():
            raise KinecastError(f"cannot write {path}: expected {expected}, found a folder: name a file in it")
        if path.exists() and not path.is_file():  # renaming would replace the device with a file
            raise KinecastError(f"cannot write {path}: expected {expected}, found a device or pipe: name a file")
        if path.exists() and not os.access(path, os.W_OK):  # renaming would replace it nevertheless
            raise KinecastError(f"cannot write {path}: it exists and is write-protected: name another output")
    except OSError as error:  # a name that is too long
        raise _unwritable(path, error) from error
    if _identity(path) in _read.get():
        raise KinecastError(f"cannot write {path}: expected an output that is not an input, found an input: rename it")
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _unwritable(path: Path, error: OSError) -> KinecastError:
    return KinecastError(
        f"cannot write {path}: {error.strerror or error}: choose a folder that exists, is writable and has free space"
    )
