"""The inside of a mouth that opens further than the source's: teeth hang from the upper lip, and below them it is dark.

Between the lips the mesh holds a strip of triangles, which would stretch the source's teeth, or the line between its
closed lips, all over a mouth that opens.

Notation: B batch, h x w the grid, n x n the picture.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.faces.topology import LEFT_EYE_CORNER, LIPS_INNER, RIGHT_EYE_CORNER
from kinecast.models.mesh.raster import Fragments, rows_of
from kinecast.models.mesh.topology import KINDS, Topology

# The inner lips from side to side, without the corners: each point of the upper lip has one of the lower below it.
_UPPER, _LOWER, _CORNERS = LIPS_INNER[:10:-1], LIPS_INNER[1:10], LIPS_INNER[:11:10]
_STRETCH = 1.5  # the most that teeth are stretched: lips that part show more of them
# In distances between the outer corners of the eyes:
_CLOSED = 0.02  # lips that are less apart in the source count as that far apart
_EDGE = 0.04  # over which the dark begins, and ends before the lower lip
_DARK = 0.2  # of the lips' colour


def hang_teeth(
    flow: Tensor, fragments: Fragments, source: Tensor, driven: Tensor, topology: Topology
) -> tuple[Tensor, Tensor]:
    """Return the mesh's flow (B, 2, h, w) with teeth of a limited size, and how dark places are (B, 1, h, w) in [0, 1].

    Args:
        flow: of the mesh.
        fragments: what each place of the grid sees of it.
        source: points (B, 478, 3) in the source.
        driven: the same points in the driven frame.
        topology: of the face.
    """
    mouth = topology.one_hot[:, KINDS.index("mouth")].bool()
    seen = (fragments.triangle >= 0) & mouth[fragments.triangle.clamp(min=0)]
    dark = torch.zeros_like(flow[:, :1])
    rows, y, x = seen.nonzero(as_tuple=True)
    if not len(rows):
        return flow, dark
    values = _values(source, driven)
    corners = topology.triangles[fragments.triangle[rows, y, x]]
    corners = corners + rows_of(len(source), values.shape[1], corners)[rows]
    weights = fragments.weights[rows, y, x]
    found = F.embedding_bag(corners, values.flatten(0, 1), mode="sum", per_sample_weights=weights)
    down, (below, ratio, teeth) = found[:, :2], found[:, 2:].T
    moved = flow.clone()
    moved[rows, :, y, x] = flow[rows, :, y, x] + ((below * ratio).clamp(max=1) - below)[:, None] * down
    past, left = (below * ratio - 1) * teeth, (1 - below) * ratio * teeth
    dark[rows, 0, y, x] = (past / _EDGE).clamp(0, 1) * (left / _EDGE).clamp(0, 1)
    return moved, dark


def _values(source: Tensor, driven: Tensor) -> Tensor:
    """Return what is interpolated between the lips, (B, 478, 5).

    The way from the upper to the lower lip in the source, x and y; the share of that way at which a point is; how many
    times as high as teeth may be the driven opening is, at least 1; and how high they may be.
    """
    upper, lower = list(_UPPER), list(_LOWER)
    down = source[:, lower, :2] - source[:, upper, :2]
    teeth = _STRETCH * (down.norm(dim=2) / _size(source)).clamp(min=_CLOSED)
    ratio = (driven[:, lower, :2] - driven[:, upper, :2]).norm(dim=2) / _size(driven) / teeth
    others = torch.stack((ratio.clamp(min=1), teeth), dim=2)
    values = source.new_zeros(*source.shape[:2], 5)
    for points, below in ((upper, 0.0), (lower, 1.0)):
        values[:, points] = torch.cat((down, torch.full_like(teeth, below)[..., None], others), dim=2)
    values[:, list(_CORNERS)] = values.new_tensor((0.0, 0.0, 0.5, 1.0, _STRETCH * _CLOSED))
    return values


def _size(points: Tensor) -> Tensor:
    """Return the distance (B, 1) between the outer corners of the eyes."""
    return (points[:, RIGHT_EYE_CORNER] - points[:, LEFT_EYE_CORNER]).norm(dim=1, keepdim=True).clamp(min=1e-6)


def dark_colour(picture: Tensor, lips: Tensor) -> Tensor:
    """Return the colour (B, 3, 1, 1) inside a mouth, of a picture (B, 3, h, w) and a mask of its lips (B, 1, h, w)."""
    total = lips.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return _DARK * (picture * lips).sum(dim=(2, 3), keepdim=True) / total


def darken(pixels: Tensor, mask: Tensor, dark: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Return new pixels (B, 3, n, n) and their mask (B, 1, n, n), with the dark where the network draws nothing.

    Args:
        pixels: as the network draws them.
        mask: where they are shown.
        dark: (B, 1, n, n) in [0, 1].
        colour: (B, 3, 1, 1) of the dark.
    """
    dark = dark * (1 - mask)
    shown = 1 - (1 - dark) * (1 - mask)
    return ((1 - dark) * mask * pixels + dark * colour) / shown.clamp(min=1e-4), shown
