"""The face mesh: its triangles, what tissue each is of, and its mean shape."""

import torch
from torch import Tensor, nn

LIPS_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
LIPS_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
RIGHT_EYE = (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7)
LEFT_EYE = (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249)
IRISES = ([468, 469, 470, 471, 472], [473, 474, 475, 476, 477])
OVAL = [
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
]
KINDS = ("skin", "lips", "mouth", "eye")


class Topology(nn.Module):
    """Triangles (F, 3), their kinds (F, 4), and the mean face (478, 3) in the head's own frame."""

    triangles: Tensor
    mean: Tensor
    one_hot: Tensor

    def __init__(self, triangles: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("triangles", triangles)
        self.register_buffer("mean", mean)
        self.register_buffer("one_hot", nn.functional.one_hot(_kinds(triangles, mean), len(KINDS)).to(mean.dtype))


def _kinds(triangles: Tensor, mean: Tensor) -> Tensor:
    kinds = torch.zeros(len(triangles), dtype=torch.long)
    middles = mean[triangles, :2].mean(dim=1)
    kinds[_within(middles, mean[list(LIPS_OUTER), :2])] = KINDS.index("lips")
    for name, ring in (("mouth", LIPS_INNER), ("eye", RIGHT_EYE), ("eye", LEFT_EYE)):
        kinds[torch.isin(triangles, torch.tensor(ring)).all(dim=1)] = KINDS.index(name)
    return kinds


def _within(points: Tensor, polygon: Tensor) -> Tensor:
    """Return which points (P, 2) a polygon (N, 2) encloses: a ray to the right crosses its sides an odd number of times."""
    x, y = points[:, None, 0], points[:, None, 1]
    (x1, y1), (x2, y2) = polygon.unbind(dim=1), polygon.roll(-1, dims=0).unbind(dim=1)
    spans = (y1 > y) != (y2 > y)
    crossing = x1 + (y - y1) * (x2 - x1) / torch.where(y1 == y2, torch.ones_like(y1), y2 - y1)
    return (spans & (x < crossing)).sum(dim=1) % 2 == 1
