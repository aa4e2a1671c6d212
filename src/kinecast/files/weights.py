"""Weight files, torch's and safetensors: written atomically, read without running code; other kinds are identified.

Training checkpoints often hold numpy scalars and arrays beside the tensors (epoch, losses). They are not needed here,
and unpickling them is not safe: `numpy.ndarray` over bytes from the file can be an array of pointers. They are read as
`_NumpyValue`, which keeps nothing. Anything else that is not a tensor or a plain value is refused.
"""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.serialization import safe_globals

from kinecast.errors import KinecastError, one_line
from kinecast.files import atomic_path

_HEAD = 4096  # bytes inspected
_WRAPPERS = {"module", "_orig_mod"}  # of DataParallel and of torch.compile
_AGAIN = "download it again, and compare the size"
_UNPACK = "unpack it, and name the weights file in it"
_AS_CHECKPOINT = "checkpoints end in .pth.tar and are read by `kinecast zoo import`"
_OTHER = "name the weights file"
_SIGNATURES = (  # offset, bytes, kind of file, advice
    (0, b"\x1f\x8b", "a gzip archive", _UNPACK),
    (0, b"BZh", "a bzip2 archive", _UNPACK),
    (0, b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x89HDF", "an HDF5 file", _OTHER),
    (0, b"%PDF", "a PDF", _OTHER),
    (0, b"\x89PNG", "a picture (PNG)", _OTHER),
    (0, b"\xff\xd8\xff", "a picture (JPEG)", _OTHER),
    (4, b"ftyp", "a video or picture (MP4, HEIC)", _OTHER),
)


@dataclass(frozen=True)
class _Kind:
    """The kind of a file: "torch", "safetensors", "pickle", "unknown" or "other"; a description, and advice."""

    name: str
    words: str
    advice: str


class _NumpyValue:
    """Placeholder for a numpy scalar, array or dtype; arguments and state are dropped."""

    def __init__(self, *arguments: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY: Any = [  # globals in numpy pickles; two of them moved in numpy 2
    (_NumpyValue, f"numpy.{name}")
    for name in (
        "dtype",
        "ndarray",
        *(f"{home}.multiarray.{name}" for home in ("core", "_core") for name in ("scalar", "_reconstruct")),
    )
]


def read_torch(
    path: Path,
    what: str = "a torch checkpoint",
    advice: str | None = None,
    mmap: bool = False,
) -> Any:
    """Read a torch file as tensors and plain values only; numpy scalars and arrays become placeholders.

    Args:
        path: an existing file.
        what: what was expected, for the message.
        advice: what to do about another kind of file, if the caller knows better.
        mmap: memory-map the tensors if the format allows it.

    Raises:
        KinecastError: a pickle that would run code, or another kind of file, which the message names.
    """
    kind = _check_kind(path, what, ("torch", "pickle"), advice)
    try:
        with warnings.catch_warnings(), safe_globals(_NUMPY):
            warnings.simplefilter("ignore")  # torch's advice to developers on unusual pickles
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and kind == "torch")
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        found = f"would run code ({asked.group(1)})" if asked else "is damaged or of another kind"
        advice = advice or "get the file from its authors"
        raise KinecastError(f"{path}: refused: expected tensors only, found a pickle that {found}: {advice}") from error
    except Exception as error:  # torch raises many kinds of error for a damaged file
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise KinecastError(
            f"{path}: expected {what}, found a damaged or foreign file ({reason}): {advice or 'copy it again'}"
        ) from error


def read_tensors(path: Path, what: str = "safetensors") -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read the metadata and tensors of a safetensors file, unchanged.

    Args:
        path: an existing file.
        what: what was expected, for the message.

    Raises:
        KinecastError: a damaged file, or another kind of file, which the message names.
    """
    _check_kind(path, what, ("safetensors",))
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:  # the latter two from names that are not text
        found = f"a damaged or foreign file ({one_line(error)})"
        raise KinecastError(f"{path}: expected {what}, found {found}: copy it again") from error


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata as a safetensors file, atomically.

    Raises:
        KinecastError: it cannot be written there.
    """
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(held, dict(metadata)))  # `save_file` reports a full disk by its own error


def write_torch(path: str | Path, state: Any) -> None:
    """Write tensors and plain values as torch does, atomically.

    Raises:
        KinecastError: it cannot be written there.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            cause = error.__context__  # torch still tries to finish a file that it could not write
            raise (cause if isinstance(cause, OSError) else error) from None


def without_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict under the network's own names.

    DataParallel puts `module.` before the names of what it wraps and torch.compile `_orig_mod.`, in either order and
    at any level, since a part of a network may be wrapped as well.

    Raises:
        KinecastError: two tensors would get the same name.
    """
    found: dict[str, Any] = {}
    for name, value in state.items():
        bare = ".".join(part for part in name.split(".") if part not in _WRAPPERS) or name
        if bare in found:
            raise KinecastError(f"expected one tensor {bare}, found it with and without a wrapper's prefix")
        found[bare] = value
    return found


def _check_kind(path: Path, what: str, kinds: tuple[str, ...], advice: str | None = None) -> str:
    """Return the kind's name if it is one of `kinds` or unknown."""
    kind = _kind(path)
    if kind.name not in (*kinds, "unknown"):
        raise KinecastError(f"{path}: expected {what}, found {kind.words}: {advice or kind.advice}")
    return kind.name


def _kind(path: Path) -> _Kind:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if not any(head):
        return _Kind("other", f"{path.stat().st_size} bytes that begin with {len(head)} zeros", _AGAIN)
    for place, mark, name, advice in _SIGNATURES:
        if head[place:].startswith(mark):
            return _Kind("other", name, advice)
    if (found := _kind_of_safetensors(path, head)) is not None:  # before pickles: a header of 640 bytes starts like one
        return found
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return _Kind("pickle", "a pickle, as old torch checkpoints are", _AS_CHECKPOINT)
    return _kind_of_text(path, head) or _Kind("unknown", "", "")


def _kind_of_zip(path: Path) -> _Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        size = path.stat().st_size
        return _Kind("other", f"the first {size} bytes of a torch checkpoint or zip archive, which is cut off", _AGAIN)
    if any(Path(name).name == "data.pkl" for name in names):
        return _Kind("torch", "a torch checkpoint", _AS_CHECKPOINT)
    held = _quoted(", ".join(names[:3]) + (", ..." if len(names) > 3 else ""))
    return _Kind("other", f"a zip archive that holds {held or 'nothing'}", _UNPACK)


def _kind_of_safetensors(path: Path, head: bytes) -> _Kind | None:
    length, size = int.from_bytes(head[:8], "little"), path.stat().st_size
    if head[8:9] != b"{" or length > 100_000_000:  # the format's own limit
        return None
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = json.loads(file.read(length))
        end = 8 + length + max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        end = 8 + length
    if end > size:
        return _Kind("other", f"{size} bytes of a safetensors file of {end}", _AGAIN)
    named = path.suffix.lower() == ".safetensors"
    advice = "use it as it is, without an import" if named else "give it the ending .safetensors"
    return _Kind("safetensors", "a safetensors file", advice)


def _kind_of_text(path: Path, head: bytes) -> _Kind | None:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, errors="replace").strip()
    strange = sum(letter == "\ufffd" or (ord(letter) < 32 and letter not in "\t\n\r\f") for letter in text)
    if strange > len(text) / 20:  # text in other encodings has some
        return None
    if text.startswith("version https://git-lfs"):
        size = path.stat().st_size
        return _Kind("other", f"a git-LFS pointer of {size} bytes, not the file itself", "run `git lfs pull` there")
    start = text.lower()
    if start.startswith("<") and ("<html" in start or "<!doctype html" in start or "<head" in start):
        return _Kind("other", "a web page (HTML)", "download the file that the page offers, not the page")
    first = _quoted(text.splitlines()[0]) if text else "blanks"
    return _Kind("other", f"text that begins with {first}", "download the file itself")


def _quoted(text: str) -> str:
    return repr(text[:60]) if text else ""


__all__ = ["read_tensors", "read_torch", "without_wrappers"]
