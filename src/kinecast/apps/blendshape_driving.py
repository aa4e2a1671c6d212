"""Tables of ARKit blendshapes as driving motion: what `kinecast extract --blendshapes` writes, and Live Link Face.

Columns are known by their names, in any order and case. Live Link Face has a time code (hours, minutes, seconds,
frames) and the head's turn in radians; what is missing counts as 0, and columns of other names are left out.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.blendshapes import ARKIT, POSE
from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.media.times import DEFAULT_FPS, measured
from kinecast.models.base import Backbone
from kinecast.models.mesh.arkit import blendshape_map, camera_pose, turned_pose
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

TABLE = ".csv"
_TURN = ("HeadYaw", "HeadPitch", "HeadRoll")
_TIME, _VALID, _TIMECODE = "time", "valid", "timecode"
_RATES = (24, 25, 30, 48, 50, 60, 120)  # of time codes
_TICK = 1e-3  # seconds that times are rounded to
_LARGEST = 1e6  # of a number
_CODE = re.compile(r"(\d+):(\d+):(\d+)[:;](\d+(?:\.\d+)?)")


def load_motion(backbone: Backbone, path: Path) -> Motion:
    """Return the motion of a motion file (.npz) or of a table of blendshapes (.csv).

    Raises:
        KinecastError: it is neither, or the backbone has no expression that a table could move.
    """
    return blendshape_motion(backbone, path) if path.suffix.lower() == TABLE else Motion.load(path)


def blendshape_motion(backbone: Backbone, path: Path) -> Motion:
    """Return what a table says as motion of a mesh; rows without a face hold the one before.

    Raises:
        KinecastError: no table, no ARKit column in it, a cell that is no number, or another backbone.
    """
    if not isinstance(backbone, Mesh):
        raise KinecastError(
            f"{path}: expected the model mesh with blendshapes, found {backbone.name}: add --model mesh"
        )
    columns = _read(existing_file(path, "table of blendshapes"))
    if not any(name.lower() in columns for name in ARKIT):
        raise KinecastError(
            f"{path}: expected columns of ARKit's names (jawOpen, eyeBlinkLeft, ...), found none: export it again"
        )
    valid = _numbers(path, columns, _VALID, 1.0) > 0
    if not valid.any():
        raise KinecastError(f"{path}: expected a face in some row, found none: record it again")
    scores = torch.stack([_numbers(path, columns, name) for name in ARKIT[:-1]], dim=1)
    motion = Motion(
        backbone.name,
        {**_pose(backbone, path, columns, valid), "expression": blendshape_map().expression(backbone, scores)},
        valid=valid,
        frame_size=backbone.frame_size,
        clip=path.name,
    )
    return _timed(motion, _times(path, columns)).held()


def _pose(model: Mesh, path: Path, columns: Mapping[str, Sequence[str]], valid: Tensor) -> dict[str, Tensor]:
    if all(name in columns for name in POSE):
        numbers = torch.stack([_numbers(path, columns, name) for name in POSE], dim=1)
        numbers[~valid] = numbers[valid][0]  # held later; no head is at the camera itself
        return camera_pose(model, numbers[:, :3], numbers[:, 3:])
    return turned_pose(model, *(_numbers(path, columns, name) for name in _TURN))


def _read(path: Path) -> dict[str, list[str]]:
    """Return the cells of each column by its name in small letters.

    Raises:
        KinecastError: no table, or rows of several lengths.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise KinecastError(f"{path}: expected a table of comma-separated values, found {error}: export it") from error
    if len(rows) < 2:
        raise KinecastError(f"{path}: expected a line of names and a row for each frame, found {len(rows)} lines")
    names = [name.strip().lower() for name in rows[0]]
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(names):
            raise KinecastError(
                f"{path}: expected {len(names)} cells in line {number}, found {len(row)}: export it again"
            )
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(names)}


def _numbers(path: Path, columns: Mapping[str, Sequence[str]], name: str, missing: float = 0.0) -> Tensor:
    """Return a column (T,); empty cells are 0.

    Raises:
        KinecastError: a cell that is no number.
    """
    cells = columns.get(name.lower())
    if cells is None:
        return torch.full((len(next(iter(columns.values()))),), missing)
    values = []
    for row, cell in enumerate(cells, 2):
        try:
            value = float(cell or 0)
        except ValueError:
            value = math.nan
        if not abs(value) <= _LARGEST:
            raise KinecastError(f"{path}: expected a number for {name} in line {row}, found {cell!r}: export it again")
        values.append(value)
    return torch.tensor(values)


def _times(path: Path, columns: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return when rows are shown (T,), in seconds since the first.

    Raises:
        KinecastError: times that do not grow.
    """
    if _TIME in columns:
        times = _numbers(path, columns, _TIME).double().numpy()
    elif _TIMECODE in columns:
        times = _coded(path, columns[_TIMECODE])
    else:
        times = np.arange(len(next(iter(columns.values())))) / DEFAULT_FPS
    if (np.diff(times) <= 0).any():
        line = int(np.flatnonzero(np.diff(times) <= 0)[0]) + 3
        raise KinecastError(f"{path}: expected times that grow, found one in line {line} that does not: sort the rows")
    return times - times[0]


def _coded(path: Path, cells: Sequence[str]) -> np.ndarray:
    """Return seconds of time codes; frames are counted at the lowest usual rate that has so many in a second."""
    found = [_CODE.fullmatch(cell.strip()) for cell in cells]
    if None in found:
        line = found.index(None) + 2
        raise KinecastError(f"{path}: expected a time code 00:00:00:00.000 in line {line}, found {cells[line - 2]!r}")
    parts = np.array([[float(number) for number in code.groups()] for code in found if code is not None])
    rate = next((rate for rate in _RATES if parts[:, 3].max() < rate), _RATES[-1])
    return parts @ np.array([3600, 60, 1, 1 / rate])


def _timed(motion: Motion, times: np.ndarray) -> Motion:
    """Return motion at a constant rate, or with times of its own where that is none."""
    timing = measured(times, DEFAULT_FPS, _TICK)
    if timing.constant:
        return replace(motion, fps=timing.fps)
    return replace(motion, fps=timing.fps, times=torch.from_numpy(times.copy()), end=timing.duration)
