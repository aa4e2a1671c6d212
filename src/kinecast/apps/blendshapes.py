"""A face's expression as a table: Apple's 52 ARKit blendshapes and the head pose per frame, for 3-D avatars.

kinecast extract clip.mp4 -o motion.npz --blendshapes clip.csv
kinecast call INVITATION --blendshapes seen.csv
"""

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.errors import KinecastError
from kinecast.faces import topology
from kinecast.faces.landmarker import Face
from kinecast.files import atomic_path
from kinecast.models.base import Backbone
from kinecast.models.mesh.geometry import rotation_vector
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

TONGUE = "tongueOut"  # ARKit's 52nd, which the network does not score
ARKIT = (*topology.BLENDSHAPES[1:], TONGUE)
POSE = tuple(f"{what}_{axis}" for what in ("rotation", "translation") for axis in "xyz")
COLUMNS = ("frame", "time", "valid", *ARKIT, *POSE)

Row = np.ndarray  # 52 blendshapes, 3 of rotation, 3 of translation


class Blendshapes:
    """Collects 58 numbers per frame while a clip is read, so that no landmarks are kept."""

    def __init__(self) -> None:
        self.rows: list[Row | None] = []

    def add(self, faces: Sequence[Face | None]) -> None:
        """Take the faces of the next frames, None for frames without one."""
        self.rows += [None if face is None else _row(face) for face in faces]

    def save(self, path: str | Path, motion: Motion) -> None:
        """Write a CSV with one row per frame of the clip's `motion`, which gives their times.

        Columns: number of the frame; seconds; 1 if a face was found, else 0, with the other cells empty; ARKit's 52
        names, each 0 to 1 (`tongueOut` is 0: the network does not score it); the head's rotation vector in radians and
        its translation in centimetres, x to the right, y up, z towards the camera.

        Raises:
            KinecastError: the motion has another number of frames, or the file cannot be written.
        """
        if len(self.rows) != len(motion):
            raise KinecastError(f"blendshapes: expected {len(self.rows)} frames of motion, found {len(motion)}")
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for i, (begin, row) in enumerate(zip(motion.edges(), self.rows, strict=False)):
                writer.writerow(_cells(i, float(begin), row))


class BlendshapeFile:
    """Writes the same table row by row, while a call goes on. The file is there, whole, after `close`.

    Args:
        path: of the CSV.

    Raises:
        KinecastError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        with ExitStack() as stack:
            self._file = stack.enter_context(stack.enter_context(atomic_path(path)).open("w", newline=""))
            self._stack = stack.pop_all()
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        self._count = 0

    def add(self, time: float, face: Face | None) -> None:
        """Write what a face shows at a time in seconds, None for a frame without one."""
        self._writer.writerow(_cells(self._count, time, None if face is None else _row(face)))
        self._count += 1

    def close(self) -> None:
        """Finish the file; of no frame there is none.

        Raises:
            KinecastError: nothing was written, or it cannot be.
        """
        with self._stack:
            if not self._count:
                raise KinecastError("blendshapes: expected frames of a face, found none: there is no file")


def face_of(backbone: Backbone, motion: Motion) -> Face:
    """Return the face that one frame (1) of motion stands for, in pixels of the backbone's frames.

    Raises:
        KinecastError: the backbone is no mesh.
    """
    if not isinstance(backbone, Mesh):
        raise KinecastError(
            f"blendshapes: expected the model mesh, which finds faces, found {backbone.name}: leave it out"
        )
    height, width = backbone.frame_size
    points = backbone.points_of_motion(motion)[0]
    scale = max(height, width) / 2
    points = points * scale + points.new_tensor([width / 2, height / 2, 0])
    (face,) = backbone.landmarker.describe(points.cpu().numpy()[None], [1.0], [(height, width)])
    return face


def _cells(number: int, time: float, row: Row | None) -> tuple[Any, ...]:
    cells = [""] * (len(COLUMNS) - 3) if row is None else [f"{value:.5f}" for value in row]
    return (number, f"{time:.4f}", int(row is not None), *cells)


def _row(face: Face) -> Row:
    matrix = torch.from_numpy(face.pose[None, :3, :3].astype(np.float64))
    matrix = matrix / torch.linalg.det(matrix).abs() ** (1 / 3)  # a pure rotation, without the head's size
    return np.concatenate([face.blendshapes[1:], [0.0], rotation_vector(matrix)[0].numpy(), face.pose[:3, 3]])
