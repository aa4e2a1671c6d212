"""Writing files so that a partial output never replaces a good one."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinecast.errors import KinecastError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, renamed to it on success and removed on any failure, Ctrl-C included.

    The temporary name keeps the suffix, since writers choose the format by it.

    Raises:
        KinecastError: the folder does not exist, or is not writable, or the disk is full.
    """
    path = Path(path)
    if path.is_dir():
        raise KinecastError(f"cannot write {path}: expected a file name, found a folder: name a file in it")
    if path.exists() and not path.is_file():  # renaming would replace a device by a file
        raise KinecastError(f"cannot write {path}: expected a file name, found a device or pipe: name a file")
    # The name is known before the file exists, so that an interrupt at any moment finds it to remove.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.open("xb").close()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make their files private
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        with suppress(OSError):  # gone already, or never there because its folder is none
            temporary.unlink()


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
    """Return `path` if it is a file with content.

    Raises:
        KinecastError: it is missing, a folder, or empty.
    """
    path = Path(path)
    if not path.exists():
        raise KinecastError(f"{path}: expected a {what}, found nothing there: check the path")
    if path.is_dir():
        raise KinecastError(f"{path}: expected a {what}, found a folder: name a file")
    if path.stat().st_size == 0:
        raise KinecastError(f"{path}: expected a {what}, found an empty file (0 bytes): copy or download it again")
    return path


def _unwritable(path: Path, error: OSError) -> KinecastError:
    return KinecastError(
        f"cannot write {path}: {error.strerror or error}: choose a folder that exists, is writable and has room"
    )
