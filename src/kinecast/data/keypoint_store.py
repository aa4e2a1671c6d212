"""Motion series from disk: files of `kinecast extract`, numpy arrays, or the shared keypoint format.

Notation: T frames, K keypoints, D numbers per frame.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.data.video_folder import PART
from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.motion import Motion, archive_fault

_SUFFIXES = (".npz", ".npy")


def load_series(path: str | Path) -> dict[str, Tensor]:
    """Return named series (T, D), float32, all of one D.

    `path` is a folder of files or one file. A file is: a motion file of `kinecast extract`; an .npy array (T, D);
    an .npz of one or many arrays (T, D); or an .npz with `<clip>.value` (T, K, 2) and optionally `<clip>.jacobian`
    (T, K, 2, 2), which become the FOMM layout. Series are named after their file, or in an .npz of many after their
    key. Motion of variable frame rate is resampled to a constant rate, with a warning. Motion with invalid frames is
    split into its valid stretches.

    Raises:
        KinecastError: no files, an unknown format, or a series that is empty, of another D, or holds NaN.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        if not files:
            raise KinecastError(
                f"{path}: expected motion files (.npz, .npy), found none: run `kinecast extract` into it"
            )
    else:
        files = [existing_file(path, "motion file (.npz, .npy) or a folder of them")]
    series: dict[str, Tensor] = {}
    for file in files:
        for name, motion in _read(file).items():
            if name in series:
                raise KinecastError(f"{file}: expected series of different names, found {name!r} twice: rename one")
            series[name] = motion
    return _checked(path, series)


def _read(file: Path) -> dict[str, Tensor]:
    """Return what one file holds, unchecked."""
    existing_file(file, "motion file (.npz, .npy)")
    try:
        loaded: Any = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {file.stem: _tensor(file, loaded)}
        with loaded:
            if "header" in loaded.files:
                return valid_series(file.stem, Motion.load(file).evenly_timed())
            arrays = {name: loaded[name] for name in loaded.files}
    except KinecastError:
        raise
    except Exception as error:  # zipfile and numpy raise many kinds of error for a damaged or pickled file
        raise KinecastError(f"{file}: expected arrays of numbers, found {archive_fault(file, error)}") from error
    if any(name.endswith(".value") for name in arrays):
        return _fomm_series(file, arrays)
    if len(arrays) == 1:
        return {file.stem: _tensor(file, next(iter(arrays.values())))}
    return {name: _tensor(file, array) for name, array in arrays.items()}


def valid_series(name: str, motion: Motion) -> dict[str, Tensor]:
    """Return the valid stretches, (T, D) each: NAME, NAME~2, ..., all of the same person as NAME."""
    runs = [run.vectors() for run in motion.valid_runs()]
    return {name if not i else f"{name}{PART}{i + 1}": run for i, run in enumerate(runs)}


def _fomm_series(file: Path, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    clips: dict[str, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        clip, _, component = key.rpartition(".")
        if component not in ("value", "jacobian"):
            raise KinecastError(f"{file}: expected <clip>.value and <clip>.jacobian, found {key!r}")
        clips.setdefault(clip, {})[component] = _tensor(file, array)
    for clip, components in clips.items():
        value = components.get("value")
        if value is None or any(part.ndim < 3 or part.shape[:2] != value.shape[:2] for part in components.values()):
            found = {name: tuple(part.shape) for name, part in components.items()}
            raise KinecastError(f"{file}: {clip}: expected value (T, K, 2) and jacobian (T, K, 2, 2), found {found}")
    return {clip: Motion("fomm", components).vectors() for clip, components in clips.items()}


def _tensor(file: Path, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise KinecastError(f"{file}: expected arrays of numbers, found one of {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _checked(path: Path, series: dict[str, Tensor]) -> dict[str, Tensor]:
    if not series:
        raise KinecastError(f"{path}: expected motion series, found none in it")
    first = next(iter(series))
    for name, motion in series.items():
        if motion.ndim != 2 or 0 in motion.shape:
            raise KinecastError(
                f"{path}: {name}: expected a series (T, D) of at least 1 frame, found {tuple(motion.shape)}"
            )
        if motion.shape[1] != series[first].shape[1]:
            raise KinecastError(
                f"{path}: expected series of one dimension, found {series[first].shape[1]} numbers per frame in "
                f"{first} and {motion.shape[1]} in {name}: keep series of different kinds in different folders"
            )
        bad = (~torch.isfinite(motion)).any(dim=1)
        if bad.any():
            frame = int(bad.nonzero()[0])
            raise KinecastError(f"{path}: {name}: expected finite numbers, found NaN or infinity in frame {frame}")
    return series
