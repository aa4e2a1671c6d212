"""A face that moves, and a mesh backbone small enough for tests that knows how."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from skimage.data import astronaut
from torch import Tensor

from kinecast.data.video_folder import CachedClip
from kinecast.media.pictures import to_tensor
from kinecast.models.mesh.following import POINTS
from kinecast.models.mesh.model import Mesh
from kinecast.models.mesh.network import MeshConfig
from kinecast.training.mesh_losses import find_points, prepare
from tiny import shake

TINY_MESH = {"size": 64, "expression": 4, "motion_widths": (4, 6), "render_widths": (4, 6, 8), "hints": 2}


def face_frames(count: int = 4, size: int = 256) -> Tensor:
    """Return frames (count, 3, size, size) of the astronaut, who leans and comes nearer from frame to frame."""
    picture = to_tensor(np.ascontiguousarray(astronaut()[None, :256, 96:352]))
    frames = []
    for i in range(count):
        angle, zoom = torch.tensor(0.05 * i), 1 - 0.03 * i
        theta = zoom * torch.tensor([[angle.cos(), -angle.sin(), 0.02 * i], [angle.sin(), angle.cos(), 0.0]])
        grid = F.affine_grid(theta[None], [1, 3, size, size], align_corners=False)
        frames.append(F.grid_sample(picture, grid, padding_mode="border", align_corners=False))
    return torch.cat(frames).clamp(0, 1)


@cache
def face_points(count: int = 4) -> np.ndarray:
    """Return the landmarks (count, 478, 3) in `face_frames`."""
    frames = (face_frames(count).permute(0, 2, 3, 1) * 255).round().byte().numpy()
    return find_points(frames)[:, :POINTS]


def tiny_mesh(seed: int = 0, scene: bool = False) -> Mesh:
    """Build a mesh backbone of `TINY_MESH` with the astronaut for a mean face and every tensor drawn anew."""
    model = Mesh(MeshConfig.from_dict({**TINY_MESH, "scene": scene}))
    points = face_points()
    noise = np.random.default_rng(0).normal(0, 0.01, (8, *points.shape[1:])).astype(np.float32)
    clip = np.concatenate([points, points[:1] + noise])
    prepare(model, [CachedClip("a", "a", np.empty(len(clip)), clip)])
    shake(model.network, seed)
    return model.eval()
