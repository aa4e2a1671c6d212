"""From the detector's numbers to squares around faces: anchors, decoding and merging of boxes."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor

from kinecast.faces.networks import DETECTOR_PIXELS
from kinecast.faces.squares import Square, around

LEAST_SCORE = 0.5
_SAME = 0.5  # intersection over union from which two boxes are of one face
_LIMIT = 100.0  # of scores, before the sigmoid
_GRIDS = ((16, 2), (8, 6))  # places across the picture, anchors at each


@dataclass(frozen=True)
class Detection:
    """A face: corners of its box (2, 2), six points (6, 2), both from 0 to 1 across the square seen, and a score.

    The points are the subject's right and left eye, nose, mouth, right and left ear.
    """

    box: np.ndarray
    points: np.ndarray
    score: float


@cache
def anchors() -> np.ndarray:
    """Return the middles (896, 2) of the detector's anchors, x and y, from 0 to 1."""
    found = []
    for places, count in _GRIDS:
        middles = (np.arange(places) + 0.5) / places
        y, x = np.meshgrid(middles, middles, indexing="ij")
        found.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(found)


def decode(boxes: Tensor, scores: Tensor) -> list[Detection]:
    """Return the faces of one picture, best first, from the detector's boxes (896, 16) and scores (896,).

    Boxes that overlap are averaged by score, as Bazarevsky et al. 2019 do, not dropped: it keeps a face from trembling.
    """
    sure = 1 / (1 + np.exp(-np.clip(scores.double().numpy(), -_LIMIT, _LIMIT)))
    keep = np.flatnonzero(sure >= LEAST_SCORE)
    keep = keep[np.argsort(-sure[keep], kind="stable")]
    numbers = boxes.double().numpy()[keep].reshape(-1, 8, 2) / DETECTOR_PIXELS
    size = numbers[:, 1:2]
    numbers[:, [0, 2, 3, 4, 5, 6, 7]] += anchors()[keep][:, None]
    corners = np.concatenate([numbers[:, :1] - size / 2, numbers[:, :1] + size / 2], axis=1)
    return _merged(np.concatenate([corners, numbers[:, 2:]], axis=1), sure[keep])


def _merged(faces: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Merge faces (N, 8, 2), two corners and six points each, best first."""
    found = []
    while len(faces):
        same = _overlap(faces[0, :2], faces[:, :2]) > _SAME
        same[0] = True
        mean = np.average(faces[same], axis=0, weights=scores[same])
        found.append(Detection(mean[:2], mean[2:], float(scores[0])))
        faces, scores = faces[~same], scores[~same]
    return found


def _overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of a box (2, 2) with boxes (N, 2, 2)."""
    shared = np.minimum(box[1], boxes[:, 1]) - np.maximum(box[0], boxes[:, 0])
    both = np.clip(shared, 0, None).prod(axis=1)
    union = np.prod(box[1] - box[0]) + np.prod(boxes[:, 1] - boxes[:, 0], axis=1) - both
    return both / np.maximum(union, 1e-12)


def whole(height: int, width: int) -> Square:
    """Return the square around a picture in which the detector looks for faces."""
    return Square(width / 2, height / 2, float(max(height, width)))


def face_square(detection: Detection, seen: Square) -> Square:
    """Return the square that the landmark network is shown for a detection in the square `seen`."""
    box, points = seen.place(detection.box), seen.place(detection.points)
    return around(box, points[0], points[1])


__all__ = ["LEAST_SCORE", "Detection", "anchors", "decode", "face_square", "whole"]
