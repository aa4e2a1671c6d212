"""The pose of a head: how the mean face is turned and moved to lie on a face's landmarks.

The camera is taken to be 63 degrees high and to look along -z with y up; lengths are centimetres. As the original
program does: the size of the face is estimated without perspective, then with it, then its points are fitted.
"""

import math

import numpy as np

_NEAR = 1.0  # distance of the plane that the picture lies on
_HEIGHT = 2 * _NEAR * math.tan(math.radians(63) / 2)  # of the picture on it


def fit(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scale s, rotation R (3, 3) and shift t (3,) that make s R source + t nearest to target.

    Umeyama 1991, least weighted squares; a reflection is not allowed.

    Args:
        source: (P, 3).
        target: (P, 3).
        weights: (P,), not negative.
    """
    share = weights / weights.sum()
    middles = share @ source, share @ target
    centred, wanted = source - middles[0], target - middles[1]
    left, sizes, right = np.linalg.svd((wanted * share[:, None]).T @ centred)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
    rotation = (left * signs) @ right
    scale = float((sizes * signs).sum() / (share @ (centred**2).sum(axis=1)))
    return scale, rotation, middles[1] - scale * rotation @ middles[0]


def pose(landmarks: np.ndarray, face: np.ndarray, weights: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the matrix (4, 4) that takes the mean face to where the landmarks see it.

    Args:
        landmarks: (478, 3) or (468, 3), in pixels of the picture.
        face: (468, 3), the mean face.
        weights: (468,), of its points.
        height: of the picture.
        width: of the picture.
    """
    points = np.asarray(landmarks[: len(face)], np.float64)
    unit = _HEIGHT / height  # of a pixel, on the near plane
    x = (points[:, 0] - width / 2) * unit
    y = (height / 2 - points[:, 1]) * unit
    z = points[:, 2] * unit
    flat = np.stack([x, y, -z], axis=1)
    size = fit(face, flat, weights)[0]
    size *= fit(face, _in_space(x, y, z, size), weights)[0]
    scale, rotation, shift = fit(face, _in_space(x, y, z, size), weights)
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, shift
    return matrix.astype(np.float32)


def _in_space(x: np.ndarray, y: np.ndarray, z: np.ndarray, size: float) -> np.ndarray:
    """Move points of the near plane back to where they are as large as they seem."""
    depth = (z - z.mean() + _NEAR) / size
    return np.stack([x * depth / _NEAR, y * depth / _NEAR, -depth], axis=1)
