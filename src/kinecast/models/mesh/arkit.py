"""ARKit's blendshapes and a head's pose as motion of a mesh.

A blendshape moves the 478 points by a fixed offset times its score: a linear map, learnt from training people by
`recipes/arkit_map.py`. It knows the people's mean face alone, and scores saturate where faces do not: good enough to
move an avatar, coarser than motion from a clip (docs/results/arkit.md).

Notation: T frames, V = 478 points, S = 51 scores, K expression numbers. Poses of the camera's space are in centimetres,
x to the right, y up, z towards the camera.
"""

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinecast.faces.weights import mean_face
from kinecast.models.mesh.following import POINTS
from kinecast.models.mesh.geometry import NECK, Pose, fit_pose, rotation_matrix
from kinecast.models.mesh.model import Mesh

FILE = Path(__file__).parent / "data" / "arkit.npz"
_HALF_HEIGHT = math.tan(math.radians(63) / 2)  # of the picture, at a distance of one: the camera of `faces.geometry`
_FLIP = torch.tensor([1.0, -1.0, -1.0])  # between axes of the camera's space and of pictures


@dataclass(frozen=True)
class BlendshapeMap:
    """How points in the head's own frame follow from scores.

    Attributes:
        offsets: (S, V, 3), by how much a score of one moves them.
        scores: (S,), of the training people's mean.
        shape: (V, 3), by how much their mean at these scores differs from the mesh's mean face.
    """

    offsets: Tensor
    scores: Tensor
    shape: Tensor

    def expression(self, model: Mesh, scores: Tensor) -> Tensor:
        """Return the expressions (T, K) of a model for scores (T, S)."""
        moved = ((scores - self.scores) @ self.offsets.flatten(1)).view(-1, POINTS, 3) + self.shape
        return model.expression.project(moved.to(model.device)).to("cpu")


@cache
def blendshape_map() -> BlendshapeMap:
    """Return the bundled map."""
    with np.load(FILE) as arrays:
        return BlendshapeMap(*(torch.from_numpy(arrays[n].astype(np.float32)) for n in ("offsets", "scores", "shape")))


def camera_pose(model: Mesh, rotation: Tensor, translation: Tensor) -> dict[str, Tensor]:
    """Return rotation, shift and scale of heads that a camera sees.

    The mean face is placed and projected as `kinecast.faces.geometry.pose` reads it, into a square picture.

    Args:
        model: whose pose.
        rotation: (T, 3), rotation vectors in the camera's space.
        translation: (T, 3), in centimetres.
    """
    vertices = torch.from_numpy(mean_face().vertices).float()
    placed = vertices @ rotation_matrix(rotation.float()).mT + translation.float()[:, None]
    depth = (-placed[..., 2:]).clamp(min=1.0)
    middle = depth.mean(dim=1, keepdim=True)
    seen = torch.cat((placed[..., :1] / depth, -placed[..., 1:2] / depth, depth / middle - 1), dim=2) / _HALF_HEIGHT
    points = torch.zeros(len(seen), POINTS, 3)
    points[:, : seen.shape[1]] = seen  # the pose is read from none of the others
    return _components(fit_pose(points.to(model.device), model.topology.mean))


def turned_pose(model: Mesh, yaw: Tensor, pitch: Tensor, roll: Tensor) -> dict[str, Tensor]:
    """Return rotation, shift and scale of heads that turn about the neck and stay where they are.

    Args:
        model: whose pose; the size is that of `Mesh.neutral`.
        yaw: (T,), radians about the y axis of the camera's space, to the right of the picture.
        pitch: about the x axis, down.
        roll: about the z axis, anticlockwise in the picture; applied first, yaw last.
    """
    axes = (("y", yaw), ("x", pitch), ("z", roll))
    y, x, z = (rotation_matrix(_about(axis, angle.float()) * _FLIP) for axis, angle in axes)
    turn = y @ x @ z
    neutral = model.neutral().to("cpu").components
    size = neutral["scale"].exp().expand(len(turn), 1)
    neck = torch.tensor(NECK)
    shift = torch.cat((neutral["shift"][:, :2], torch.zeros(1, 1)), dim=1) + size * (neck - turn @ neck)
    return _components(Pose(turn, shift, size[:, 0]))


def _components(pose: Pose) -> dict[str, Tensor]:
    return {name: values.to("cpu") for name, values in pose.components().items()}


def _about(axis: str, angle: Tensor) -> Tensor:
    vector = torch.zeros(len(angle), 3)
    vector[:, "xyz".index(axis)] = angle
    return vector
