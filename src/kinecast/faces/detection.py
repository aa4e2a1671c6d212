"""From the detector's outputs to squares around faces: anchors, decoding and merging of boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor

from kinecast.faces.networks import DETECTOR_PIXELS
from kinecast.faces.squares import Square, around

LEAST_SCORE = 0.5
SAME = 0.5  # intersection over union above which two boxes are one face
_LIMIT = 100.0  # of scores, before the sigmoid
_GRIDS = ((16, 2), (8, 6))  # grid cells per side, anchors per cell


@dataclass(frozen=True)
class Detection:
    """A face: corners of its box (2, 2) and six points (6, 2), both in pixels of the picture, and a score.

    The points are the subject's right and left eye, nose, mouth, right and left ear.
    """

    box: np.ndarray
    points: np.ndarray
    score: float


@cache
def anchors() -> np.ndarray:
    """Return the centres (896, 2) of the detector's anchors, x and y in [0, 1]."""
    found = []
    for places, count in _GRIDS:
        middles = (np.arange(places) + 0.5) / places
        y, x = np.meshgrid(middles, middles, indexing="ij")
        found.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(found)


def decode(boxes: Tensor, scores: Tensor, seen: Sequence[Square]) -> list[Detection]:
    """Return the faces of one picture, best first.

    Boxes that overlap are averaged by score, as Bazarevsky et al. 2019 do, not dropped: this reduces jitter.

    Args:
        boxes: (N, 896, 16), the detector's output for each square.
        scores: (N, 896).
        seen: the squares.
    """
    sure = 1 / (1 + np.exp(-np.clip(scores.double().numpy(), -_LIMIT, _LIMIT)))
    kept, kept_scores = [], []
    for square, numbers, chances in zip(seen, boxes.double().numpy(), sure, strict=True):
        keep = np.flatnonzero(chances >= LEAST_SCORE)
        rows = numbers[keep].reshape(-1, 8, 2) / DETECTOR_PIXELS
        half = rows[:, 1:2] / 2
        points = np.concatenate([rows[:, :1], rows[:, 2:]], axis=1) + anchors()[keep][:, None]
        kept.append(square.place(np.concatenate([points[:, :1] - half, points[:, :1] + half, points[:, 1:]], axis=1)))
        kept_scores.append(chances[keep])
    faces, found = np.concatenate(kept), np.concatenate(kept_scores)
    order = np.argsort(-found, kind="stable")
    return _merged(faces[order], found[order])


def _merged(faces: np.ndarray, scores: np.ndarray) -> list[Detection]:
    """Merge faces (N, 8, 2), two corners and six points each, best first."""
    found = []
    while len(faces):
        same = overlap(faces[0, :2], faces[:, :2]) > SAME
        same[0] = True
        mean = np.average(faces[same], axis=0, weights=scores[same])
        found.append(Detection(mean[:2], mean[2:], float(scores[0])))
        faces, scores = faces[~same], scores[~same]
    return found


def overlap(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the intersection over union of a box (2, 2) with boxes (N, 2, 2)."""
    shared = np.minimum(box[1], boxes[:, 1]) - np.maximum(box[0], boxes[:, 0])
    both = np.clip(shared, 0, None).prod(axis=1)
    union = np.prod(box[1] - box[0]) + np.prod(boxes[:, 1] - boxes[:, 0], axis=1) - both
    return both / np.maximum(union, 1e-12)


def whole(height: int, width: int) -> Square:
    """Return the square around a picture in which the detector looks for faces."""
    return Square(width / 2, height / 2, float(max(height, width)))


def parts(height: int, width: int) -> list[Square]:
    """Return squares of half the larger side that overlap by half and cover a picture; none if it is small."""
    side = max(height, width) / 2
    if side <= DETECTOR_PIXELS:
        return []

    def middles(length: int) -> list[float]:
        steps = max(math.ceil((length - side) / (side / 2)), 0)
        return [length / 2] if steps == 0 else [side / 2 + (length - side) * i / steps for i in range(steps + 1)]

    return [Square(x, y, side) for y in middles(height) for x in middles(width)]


def face_square(detection: Detection) -> Square:
    """Return the landmark network's input square for a detection."""
    return around(detection.box, detection.points[0], detection.points[1])


__all__ = ["LEAST_SCORE", "SAME", "Detection", "anchors", "decode", "face_square", "overlap", "parts", "whole"]
