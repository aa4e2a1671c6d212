"""Losses of the mesh backbone: pixels, weighted towards mouth and eyes, and the warp of the source.

Notation: B batch, V points (478 landmarks), n the side of a picture. Points run from -1 to 1 edge to edge.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.data.video_folder import CachedClip
from kinecast.faces.landmarker import Landmarker
from kinecast.faces.tracking import Tracker
from kinecast.models.mesh.drawing import grid_of
from kinecast.models.mesh.following import POINTS, points_of
from kinecast.models.mesh.geometry import RIGID, fit_pose
from kinecast.models.mesh.model import Mesh
from kinecast.models.mesh.scene import NUMBERS as SCENE
from kinecast.models.mesh.scene import SceneTracker
from kinecast.models.mesh.topology import EYES, IRISES, LIPS
from kinecast.training.augment import mirror_landmarks

WEIGHTS = {"region": 40.0, "warped": 10.0, "gradient": 20.0, "shown": 0.05, "closeup": 1.0}
_EXTRA = 3.0  # extra weight of the pixels of mouth and eyes
_CLOSEUPS = ((LIPS, 1.5, (80, 80)), ([*EYES[0], *EYES[1]], 1.25, (64, 112)))  # points, room around them, size
_HEAVY, _DEPTH = 2.5, 0.6  # square roots of weights in the expression: lips, lids and irises; z, the least certain


def find_points(frames: np.ndarray) -> np.ndarray:
    """Return points (T, 480, 3) in successive frames (T, H, W, 3), NaN in frames without a face.

    They are the face's landmarks, and a place in the background and one on the shoulders, as these have moved since
    the first frame.
    """
    found = np.full((len(frames), POINTS + SCENE // 2, 3), np.nan, np.float32)
    scene = SceneTracker()
    for i, face in enumerate(Tracker(_landmarker(), "nearest").follow(map(np.ascontiguousarray, frames))):
        if face is not None:
            points = points_of(face.landmarks, *frames.shape[1:3])[0]
            moved = scene(torch.from_numpy(frames[i]).permute(2, 0, 1) / 255, points)
            found[i] = torch.cat((points, F.pad(moved.view(-1, 2), (0, 1)))).numpy()
    return found


@cache
def _landmarker() -> Landmarker:
    return Landmarker("cpu")


def prepare(model: Mesh, clips: Sequence[CachedClip]) -> None:
    """Set a model's mean face and principal components of facial motion from the people in `clips`.

    Each person has equal weight, and mirror images are included. A model that has them already keeps them.
    """
    if bool(model.expression.basis.any()):
        return
    people: dict[str, list[Tensor]] = {}
    for clip in clips:
        if clip.points is not None and len(clip.usable) > 1:
            people.setdefault(clip.person, []).append(torch.from_numpy(clip.points[clip.usable, :POINTS]))
    model.topology.mean.copy_(_mean_face(list(people.values())))
    weights = model.expression.weights.fill_(1.0)
    weights[[*LIPS, *EYES[0], *EYES[1], *IRISES[0], *IRISES[1]]] = _HEAVY
    weights.sqrt_()
    weights[:, 2] *= _DEPTH
    model.expression.basis.copy_(_components(list(people.values()), model))


def _mean_face(people: Sequence[Sequence[Tensor]], rounds: int = 6) -> Tensor:
    """Return the mean (478, 3) of all people's mean faces, by generalised Procrustes analysis, of unit size."""
    rigid, mean = list(RIGID), people[0][0][0]
    for _ in range(rounds):
        mean = mean - mean[rigid].mean(dim=0)
        mean = mean / mean[rigid].square().sum(dim=1).mean().sqrt()
        own = [torch.stack([fit_pose(points, mean).undo(points).mean(dim=0) for points in each]) for each in people]
        mean = torch.stack([each.mean(dim=0) for each in own]).mean(dim=0)
        mean = (mean + mirror_landmarks(mean)) / 2
    mean = mean - mean[rigid].mean(dim=0)
    return mean / mean[rigid].square().sum(dim=1).mean().sqrt()


def _components(people: Sequence[Sequence[Tensor]], model: Mesh) -> Tensor:
    """Return the leading components (K, 478, 3) of weighted offsets from each clip's own mean."""
    size = POINTS * 3
    covariance = torch.zeros(size, size, dtype=torch.float64)
    for clips in people:
        for points in clips:
            heads = fit_pose(points, model.topology.mean).undo(points)
            for each in (heads, mirror_landmarks(heads)):
                offsets = ((each - each.mean(dim=0)) * model.expression.weights).flatten(1).double()
                covariance += offsets.T @ offsets / (len(offsets) * len(clips))
    vectors = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : model.config.expression]
    return vectors.T.reshape(-1, POINTS, 3).float()


def mesh_losses(
    model: Mesh, source: Tensor, driving: Tensor, points: Tensor, dropout: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruct driving frames (B, 3, n, n): the prediction and the unweighted losses.

    `region` is the pixel error, with mouth and eyes weighted four times; `warped` the same for the warped source alone;
    `gradient` the error of neighbouring pixels' differences; `shown` the share of the picture that is generated rather
    than warped.
    """
    rendered = model.rebuild(source, points[:, 0], points[:, 1])
    weights = 1 + _EXTRA * _regions(points[:, 1], driving.shape[-1])
    frames = rendered.frames
    gradient = sum((frames.diff(dim=axis) - driving.diff(dim=axis)).abs().mean() for axis in (2, 3))
    return frames, {
        "region": ((frames - driving).abs() * weights).mean(),
        "warped": ((rendered.warped - driving).abs() * weights).mean(),
        "gradient": torch.as_tensor(gradient),
        "shown": rendered.mask.mean(),
    }


def _regions(points: Tensor, size: int) -> Tensor:
    """Return a weight (B, 1, n, n) for mouth and eyes: 1 inside, falling to 0 around them."""
    grid, total = grid_of(size, size, points), points.new_zeros(len(points), 1, size, size)
    for loop in (LIPS, *EYES):
        middle, reach = _box(points[:, loop, :2])
        reach = (reach * 1.5).clamp(min=0.03)
        reach = torch.stack((reach[:, 0], torch.maximum(reach[:, 1], reach[:, 0] / 2)), dim=1)
        far = ((grid - middle[:, :, None, None]) / reach[:, :, None, None]).norm(dim=1, keepdim=True)
        total = total + (1.5 - far).clamp(0, 1)
    return total.clamp(max=1)


def _box(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle and the half size (B, 2) of the box around points (B, P, 2)."""
    low, high = points.amin(dim=1), points.amax(dim=1)
    return (low + high) / 2, (high - low) / 2


def closeups(frames: Tensor, points: Tensor) -> list[Tensor]:
    """Crop mouth and eyes from frames (B, 3, n, n) by the driving points of (B, 2, V, 3)."""
    out = []
    for loop, room, (height, width) in _CLOSEUPS:
        middle, reach = _box(points[:, 1, loop, :2])
        side = (reach.amax(dim=1) * room).clamp(min=0.1)
        theta = frames.new_zeros(len(frames), 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = side, side * height / width, middle
        grid = F.affine_grid(theta, [len(frames), 3, height, width], align_corners=False)
        out.append(F.grid_sample(frames, grid, padding_mode="border", align_corners=False))
    return out
