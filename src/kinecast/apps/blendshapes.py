"""A face's expression as a table: Apple's 52 ARKit blendshapes and the head pose per frame, for 3-D avatars.

kinecast extract clip.mp4 -o motion.npz --blendshapes clip.csv
"""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kinecast.errors import KinecastError
from kinecast.faces import topology
from kinecast.faces.landmarker import Face
from kinecast.files import atomic_path
from kinecast.models.mesh.geometry import rotation_vector
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
                cells = [""] * (len(COLUMNS) - 3) if row is None else [f"{value:.5f}" for value in row]
                writer.writerow((i, f"{begin:.4f}", int(row is not None), *cells))


def _row(face: Face) -> Row:
    matrix = torch.from_numpy(face.pose[None, :3, :3].astype(np.float64))
    matrix = matrix / torch.linalg.det(matrix).abs() ** (1 / 3)  # a pure rotation, without the head's size
    return np.concatenate([face.blendshapes[1:], [0.0], rotation_vector(matrix)[0].numpy(), face.pose[:3, 3]])
