"""A software rasteriser in tensor operations: the visible triangle at each cell of a grid, and the position in it.

Notation: B batch, V points, F triangles, h x w the grid.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Fragments(NamedTuple):
    """What each place sees: `triangle` (B, h, w), -1 for none, and `weights` (B, h, w, 3) of its corners."""

    triangle: Tensor
    weights: Tensor

    def interpolate(self, values: Tensor, triangles: Tensor) -> Tensor:
        """Interpolate values of the points (B, V, C) over the grid: (B, C, h, w), 0 where no triangle is seen."""
        batch, height, width = self.triangle.shape
        corners = triangles[self.triangle.clamp(min=0)].view(batch, -1)  # (B, h w 3)
        corners = corners + rows_of(batch, values.shape[1], corners)
        out = F.embedding_bag(
            corners.view(-1, 3), values.flatten(0, 1), mode="sum", per_sample_weights=self.weights.reshape(-1, 3)
        )
        return out.view(batch, height, width, -1).permute(0, 3, 1, 2)


def rows_of(batch: int, count: int, like: Tensor) -> Tensor:
    """Return where each of the batch begins (B, 1) in a table of `count` rows for each."""
    return torch.arange(0, batch * count, count, device=like.device, dtype=like.dtype)[:, None]


def rasterize(points: Tensor, triangles: Tensor, height: int, width: int) -> Fragments:
    """Draw triangles (F, 3) of points (B, V, 3), x and y from -1 to 1 edge to edge; of several the least z is seen.

    Every pair of a triangle and a place in its bounding box is tested at once, so that the work is that of the boxes'
    areas, whatever the number of triangles.
    """
    batch = len(points)
    size = points.new_tensor([width, height])
    corners = points[:, triangles]  # (B, F, 3, 3)
    flat = (corners[..., :2].reshape(-1, 3, 2) + 1) / 2 * size - 0.5  # in places
    depth = corners[..., 2].reshape(-1, 3)
    low = flat.amin(dim=1).ceil().clamp(min=0)
    high = torch.minimum(flat.amax(dim=1).floor(), size - 1)
    extent = (high - low + 1).clamp(min=0).long()
    count = extent[:, 0] * extent[:, 1]
    owner = torch.repeat_interleave(torch.arange(len(count), device=points.device), count)
    number = torch.arange(len(owner), device=points.device) - (count.cumsum(0) - count)[owner]
    across = extent[:, 0][owner]
    x = low[:, 0][owner] + number % across.clamp(min=1)
    y = low[:, 1][owner] + number // across.clamp(min=1)

    # Barycentric weights are affine in x and y: three numbers a triangle and weight, made once a triangle.
    a, b, c = flat.unbind(dim=1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    inverse = torch.where(area.abs() > 1e-9, 1 / area, torch.zeros_like(area))
    dx = torch.stack((b[:, 1] - c[:, 1], c[:, 1] - a[:, 1]), dim=1) * inverse[:, None]
    dy = torch.stack((c[:, 0] - b[:, 0], a[:, 0] - c[:, 0]), dim=1) * inverse[:, None]
    first = (x - c[:, 0][owner])[:, None], (y - c[:, 1][owner])[:, None]
    two = dx[owner] * first[0] + dy[owner] * first[1]
    weights = torch.cat((two, 1 - two.sum(dim=1, keepdim=True)), dim=1)
    inside = (weights.amin(dim=1) >= -1e-4) & (inverse[owner] != 0)

    owner, x, y, weights = owner[inside], x[inside], y[inside], weights[inside]
    z = (depth[owner] * weights).sum(dim=1)
    faces = len(triangles)
    place = (owner // faces) * (height * width) + (y * width + x).long()
    # Nearness and the candidate's number in one integer, so that one reduction finds the nearest and who it is.
    near = ((4 - z).clamp(0, 8) * (1 << 20)).long() << 32
    key = near | torch.arange(len(owner), device=points.device)
    best = key.new_full((batch * height * width,), -1).scatter_reduce(0, place, key, "amax")
    seen = best >= 0
    winner = (best & 0xFFFFFFFF)[seen]
    triangle = best.new_full(best.shape, -1)
    triangle[seen] = owner[winner] % faces
    out = points.new_zeros(len(best), 3)
    out[seen] = weights[winner]
    return Fragments(triangle.view(batch, height, width), out.view(batch, height, width, 3))
