"""Head pose: the transform of the mean face that fits a face's landmarks.

The camera is assumed to have a vertical field of view of 63 degrees and to look along -z with y up; lengths are in
centimetres. As in the original program, the face's size is estimated without perspective, then with it, then its points
are fitted.
"""

import math

import numpy as np

_NEAR = 1.0  # distance of the image plane
_HEIGHT = 2 * _NEAR * math.tan(math.radians(63) / 2)  # of the picture on it


def fit(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return scale s, rotation R (3, 3) and translation t (3,) that bring s R source + t closest to target.

    Umeyama 1991, weighted least squares without reflections.

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
    """Return the matrix (4, 4) that maps the mean face to the position of the landmarks.

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
    """Move points of the near plane back to the depth that explains their size."""
    depth = (z - z.mean() + _NEAR) / size
    return np.stack([x * depth / _NEAR, y * depth / _NEAR, -depth], axis=1)
