"""Faces in pictures: 478 landmarks, 52 blendshapes and the pose of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kinecast.device import choose_device
from kinecast.faces import topology
from kinecast.faces.detection import SAME, decode, face_square, overlap, parts, whole
from kinecast.faces.engines import build
from kinecast.faces.geometry import pose
from kinecast.faces.networks import CROP_PIXELS, DETECTOR_PIXELS
from kinecast.faces.squares import Square, around, as_picture, cut
from kinecast.faces.weights import mean_face

LEAST_PRESENCE = 0.5
_BATCH = 16  # crops per batch

Frame = np.ndarray | Tensor


@dataclass(frozen=True)
class Face:
    """One face in a picture.

    Attributes:
        landmarks: (478, 3), float32: x and y in pixels of the picture, depth in pixels too, smaller towards the camera
            (`kinecast.faces.topology` says which is which).
        blendshapes: (52,), float32, in [0, 1], named by `kinecast.faces.topology.BLENDSHAPES`.
        presence: the network's confidence that a face is there, in [0, 1].
        pose: (4, 4), float32: maps the mean face, in centimetres, to camera space.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray
    presence: float
    pose: np.ndarray

    @property
    def size(self) -> float:
        """The larger side of the box around the landmarks, in pixels."""
        return float(np.ptp(self.box, axis=0).max())

    @property
    def centre(self) -> np.ndarray:
        """The centre (2,) of the box around the landmarks, x and y in pixels."""
        return self.box.mean(axis=0)

    @property
    def box(self) -> np.ndarray:
        """The corners (2, 2) of the box around the landmarks, the upper left one first, x and y in pixels."""
        return np.stack([self.landmarks[:, :2].min(axis=0), self.landmarks[:, :2].max(axis=0)])

    @property
    def square(self) -> Square:
        """The landmark network's input square in the next frame."""
        points = self.landmarks[:, :2].astype(np.float64)
        return around(points, points[topology.RIGHT_EYE_CORNER], points[topology.LEFT_EYE_CORNER])

    def placed(self, landmarks: np.ndarray) -> "Face":
        """Return the same face in a picture that was scaled or cut, with its landmarks (478, 3) there."""
        return Face(landmarks, self.blendshapes, self.presence, self.pose)


class _Described(Face):
    """A face whose expression and pose are computed when first asked for; following it asks for none.

    Args:
        landmarks: as `Face` has them.
        presence: likewise.
        size: height and width of the picture.
        landmarker: what reads the expression.
    """

    _size: tuple[int, int]
    _landmarker: "Landmarker"

    def __init__(self, landmarks: np.ndarray, presence: float, size: tuple[int, int], landmarker: "Landmarker") -> None:
        self.__dict__.update(landmarks=landmarks, presence=presence, _size=size, _landmarker=landmarker)

    @cached_property
    def blendshapes(self) -> np.ndarray:
        return self._landmarker.expression(self.landmarks)

    @cached_property
    def pose(self) -> np.ndarray:
        mean = mean_face()
        return pose(self.landmarks, mean.vertices, mean.pose_weights, *self._size)


class Landmarker:
    """Finds faces and their landmarks. Frames are uint8 arrays (H, W, 3) or float tensors (3, H, W) in [0, 1].

    Args:
        device: auto, cpu, cuda or mps.
        engine: eager, fast, openvino, or auto, the fastest that is installed: see `kinecast.faces.engines`.

    Raises:
        KinecastError: an unavailable device or engine, or damaged weights.
    """

    def __init__(self, device: str = "auto", engine: str = "auto") -> None:
        self.device = choose_device(device)
        self.networks = build(self.device, engine)

    def detect(self, frame: Frame) -> list[Face]:
        """Return every face of a frame, the largest first.

        Raises:
            KinecastError: not a frame.
        """
        return self.detect_all([frame])[0]

    def detect_all(self, frames: Sequence[Frame] | Tensor) -> list[list[Face]]:
        """Return the faces of each frame, the largest first; frames may differ in size.

        The detector sees the whole frame and, if it finds no face there, parts of half the size.

        Args:
            frames: a list of frames, or a tensor (T, 3, H, W).

        Raises:
            KinecastError: not frames.
        """
        found = self._present(frames, closer=False)
        empty = [i for i, faces in enumerate(found) if not faces]
        for i, faces in zip(empty, self._present([frames[i] for i in empty], closer=True), strict=True):
            found[i] = faces
        return found

    def _present(self, frames: Sequence[Frame] | Tensor, closer: bool) -> list[list[Face]]:
        places = [(i, square) for i, frame in enumerate(frames) for square in self.find(frame, closer)]
        looked_at = self.look([frames[i] for i, _ in places], [square for _, square in places])
        found: list[list[Face]] = [[] for _ in frames]
        for (i, _), face in zip(places, looked_at, strict=True):
            if face.presence >= LEAST_PRESENCE:
                found[i].append(face)
        return [_distinct(sorted(faces, key=lambda face: -face.size)) for faces in found]

    @torch.inference_mode()
    def find(self, frame: Frame, closer: bool = False) -> list[Square]:
        """Return the squares in which the detector finds faces, the most confident first.

        Args:
            frame: one frame.
            closer: search parts of half the size instead of the whole; frames of 256 pixels or less have none.
        """
        picture = as_picture(frame)
        height, width = picture.shape[1:]
        seen = parts(height, width) if closer else [whole(height, width)]
        if not seen:
            return []
        boxes, scores = self.networks.detector(cut(picture, seen, DETECTOR_PIXELS, "zeros").to(self.device) * 2 - 1)
        return [face_square(detection) for detection in decode(boxes.cpu(), scores.cpu(), seen)]

    def look(self, frames: Sequence[Frame], squares: Sequence[Square]) -> list[Face]:
        """Return a face for each square and its frame; `presence` tells whether there is one.

        Args:
            frames: one for each square.
            squares: where to look, from `find` or `Face.square`.
        """
        faces: list[Face] = []
        for start in range(0, len(squares), _BATCH):
            pictures = [as_picture(frame) for frame in frames[start : start + _BATCH]]
            landmarks, presence = self._points(pictures, squares[start : start + _BATCH])
            faces += self.describe(landmarks, presence, [(p.shape[1], p.shape[2]) for p in pictures])
        return faces

    def describe(
        self, landmarks: np.ndarray, presence: Sequence[float], sizes: Sequence[tuple[int, int]]
    ) -> list[Face]:
        """Return faces with expression and pose, computed from their landmarks when first asked for.

        Args:
            landmarks: (N, 478, 3), as in `Face`.
            presence: of each.
            sizes: height and width of the picture of each.
        """
        points = np.asarray(landmarks, np.float32)
        return [_Described(*each, self) for each in zip(points, presence, sizes, strict=True)]

    @torch.inference_mode()
    def expression(self, landmarks: np.ndarray) -> np.ndarray:
        """Return the blendshapes (52,) of landmarks (478, 3), as `Face` has both."""
        read = torch.from_numpy(landmarks[None, topology.BLENDSHAPE_POINTS, :2]).to(self.device)
        return self.networks.blendshapes(read)[0].cpu().numpy()

    @torch.inference_mode()
    def _points(self, pictures: Sequence[Tensor], squares: Sequence[Square]) -> tuple[np.ndarray, list[float]]:
        """Return landmarks (N, 478, 3) in the pictures, and the confidence of a face in each square."""
        crops = torch.cat([cut(p, [s], CROP_PIXELS) for p, s in zip(pictures, squares, strict=True)])
        points, presence = self.networks.landmarks(crops.to(self.device))
        placed = []
        for square, found in zip(squares, points.cpu().double().numpy() / CROP_PIXELS, strict=True):
            placed.append(np.concatenate([square.place(found[:, :2]), found[:, 2:] * square.side], axis=1))
        return np.stack(placed), presence.sigmoid().cpu().tolist()


def _distinct(faces: Sequence[Face]) -> list[Face]:
    """Drop duplicate faces: the detector's boxes were apart, but the landmarks coincide."""
    kept: list[Face] = []
    for face in faces:
        if not kept or overlap(face.box, np.stack([other.box for other in kept])).max() <= SAME:
            kept.append(face)
    return kept
