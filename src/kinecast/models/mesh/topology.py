"""The face mesh: its triangles, their tissue, and its mean shape."""

import torch
from torch import Tensor, nn

from kinecast.faces import topology as faces
from kinecast.faces.weights import mean_face

LIPS = list(faces.LIPS_OUTER)
EYES = (list(faces.RIGHT_EYE), list(faces.LEFT_EYE))
IRISES = (list(faces.RIGHT_IRIS), list(faces.LEFT_IRIS))
OVAL = list(faces.FACE_OVAL)
KINDS = ("skin", "lips", "mouth", "eye")


class Topology(nn.Module):
    """Triangles (F, 3), their kinds (F, 4), and the mean face (478, 3) in the head's own frame."""

    triangles: Tensor
    mean: Tensor
    one_hot: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        triangles = torch.from_numpy(faces.mesh_triangles())
        self.register_buffer("mean", mean)
        self.register_buffer("triangles", triangles, persistent=False)
        self.register_buffer("one_hot", _kinds(triangles).to(mean.dtype), persistent=False)


def _kinds(triangles: Tensor) -> Tensor:
    kinds = torch.zeros(len(triangles), dtype=torch.long)
    # Lips are the triangles whose middle lies within their outer loop in the landmarker's mean face: `mean` is
    # not known before weights are loaded.
    front = torch.from_numpy(mean_face().vertices[:, :2])
    kinds[_within(front[triangles].mean(dim=1), front[LIPS])] = KINDS.index("lips")
    for name, ring in (("mouth", faces.LIPS_INNER), ("eye", faces.RIGHT_EYE), ("eye", faces.LEFT_EYE)):
        kinds[torch.from_numpy(faces.opening_triangles(ring))] = KINDS.index(name)
    return nn.functional.one_hot(kinds, len(KINDS))


def _within(points: Tensor, polygon: Tensor) -> Tensor:
    """Return which points (P, 2) a polygon (N, 2) encloses: a ray to the right crosses it an odd number of times."""
    x, y = points[:, None, 0], points[:, None, 1]
    (x1, y1), (x2, y2) = polygon.unbind(dim=1), polygon.roll(-1, dims=0).unbind(dim=1)
    spans = (y1 > y) != (y2 > y)
    crossing = x1 + (y - y1) * (x2 - x1) / torch.where(y1 == y2, torch.ones_like(y1), y2 - y1)
    return (spans & (x < crossing)).sum(dim=1) % 2 == 1
