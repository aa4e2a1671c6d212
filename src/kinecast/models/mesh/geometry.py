"""A face's rigid pose, and its shape in the head's own frame.

Notation: T frames, V points (478 landmarks), K expression numbers. Points are (x, y, z): x and y run from -1 to 1 over
a square picture, edge to edge, y downwards; z is in the same unit and grows away from the camera.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

# Points that hardly move with expression: forehead, temples, the sides of the face, the bridge of the nose, eye
# corners.
RIGID = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 109, 67, 103, 54, 21, 162),
    *(127, 234, 93, 132, 58, 6, 168, 197, 195, 5, 4, 33, 133, 362, 263, 8, 9, 151),
)
NECK = (0.0, 1.4, 0.6)  # what a head turns about, from the mean face's origin, in units of the head


class Pose(NamedTuple):
    """A similarity for each of T frames: a point X of the head lies at scale R X + shift in the picture."""

    rotation: Tensor  # (T, 3, 3)
    shift: Tensor  # (T, 3)
    scale: Tensor  # (T,)

    @classmethod
    def of_motion(cls, components: Mapping[str, Tensor], depth: Tensor) -> "Pose":
        """Return the poses of T frames of motion, of heads at a depth (T, 1), which is not part of motion."""
        shift = torch.cat((components["shift"], depth), dim=1)
        return cls(rotation_matrix(components["rotation"]), shift, components["scale"][:, 0].exp())

    def components(self) -> dict[str, Tensor]:
        """Return the components of motion that the poses are: `of_motion` backwards."""
        return {
            "rotation": rotation_vector(self.rotation),
            "shift": self.shift[:, :2],
            "scale": self.scale.log()[:, None],
        }

    def place(self, head: Tensor) -> Tensor:
        """Move points (T, V, 3) of the head's own frame into the picture."""
        return self.scale[:, None, None] * head @ self.rotation.mT + self.shift[:, None]

    def undo(self, points: Tensor) -> Tensor:
        """Return points (T, V, 3) of the picture in the head's own frame."""
        return (points - self.shift[:, None]) @ self.rotation / self.scale[:, None, None]


def fit_pose(points: Tensor, reference: Tensor) -> Pose:
    """Fit the similarity that brings `reference` (V, 3) nearest to `points` (T, V, 3) on the rigid points.

    The least-squares solution of Umeyama (1991), by a singular value decomposition.
    """
    index = torch.tensor(RIGID, device=points.device)
    seen, model = points[:, index], reference[index]
    seen_mean, model_mean = seen.mean(dim=1, keepdim=True), model.mean(dim=0)
    centred = model - model_mean
    u, singular, vt = torch.linalg.svd((seen - seen_mean).mT @ centred)
    sign = torch.ones_like(singular)
    sign[:, 2] = torch.det(u @ vt).sign()
    rotation = (u * sign[:, None]) @ vt
    scale = (singular * sign).sum(dim=1) / centred.square().sum()
    shift = seen_mean[:, 0] - scale[:, None] * (rotation @ model_mean)
    return Pose(rotation, shift, scale)


def rotation_vector(rotation: Tensor) -> Tensor:
    """Return the axis times the angle in radians, (T, 3), of rotations (T, 3, 3) by less than half a turn."""
    skew = torch.stack(
        (
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ),
        dim=1,
    )
    sine = skew.norm(dim=1) / 2
    cosine = (rotation.diagonal(dim1=1, dim2=2).sum(dim=1) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return skew / 2 * torch.where(sine > 1e-6, angle / sine.clamp(min=1e-6), torch.ones_like(sine))[:, None]


def rotation_matrix(vector: Tensor) -> Tensor:
    """Return rotations (T, 3, 3) of rotation vectors (T, 3): Rodrigues' formula, as the matrix exponential."""
    x, y, z = vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack((zero, -z, y, z, zero, -x, -y, x, zero), dim=1).view(-1, 3, 3))
