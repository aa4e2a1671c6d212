"""The rasteriser against brute force: which triangle each place sees, and where in it."""

import torch

from kinecast.models.mesh.raster import rasterize


def test_each_place_sees_the_nearest_triangle():
    random = torch.Generator().manual_seed(1)
    points = torch.rand(2, 30, 3, generator=random) * 2.4 - 1.2  # some beyond the edges
    triangles = torch.randint(0, 30, (25, 3), generator=random)
    height, width = 13, 17
    found = rasterize(points, triangles, height, width)
    for b in range(2):
        for y in range(height):
            for x in range(width):
                place = torch.tensor([(x + 0.5) * 2 / width - 1, (y + 0.5) * 2 / height - 1])
                assert int(found.triangle[b, y, x]) == _nearest(points[b], triangles, place)


def _nearest(points: torch.Tensor, triangles: torch.Tensor, place: torch.Tensor) -> int:
    best, nearest = -1, float("inf")
    for number, corners in enumerate(points[triangles].double()):
        matrix = torch.cat((corners[:, :2].T, torch.ones(1, 3, dtype=torch.float64)))
        if abs(torch.det(matrix)) < 1e-9:
            continue
        weights = torch.linalg.solve(matrix, torch.cat((place.double(), torch.ones(1, dtype=torch.float64))))
        depth = float(weights @ corners[:, 2])
        if weights.min() >= 0 and depth < nearest:
            best, nearest = number, depth
    return best


def test_values_of_the_points_are_interpolated_where_the_triangle_is():
    points = torch.tensor([[[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]])
    triangles = torch.tensor([[0, 1, 2]])
    found = rasterize(points, triangles, 8, 8)
    drawn = found.interpolate(points[..., :2], triangles)[0]
    y, x = 1, 2
    torch.testing.assert_close(drawn[:, y, x], torch.tensor([(x + 0.5) / 4 - 1, (y + 0.5) / 4 - 1]))
    assert int(found.triangle[0, 7, 7]) == -1


def test_an_empty_or_flat_mesh_shows_nothing():
    flat = torch.zeros(1, 3, 3)
    assert (rasterize(flat, torch.tensor([[0, 1, 2]]), 4, 4).triangle == -1).all()
    assert (rasterize(flat + 5, torch.tensor([[0, 1, 2]]), 4, 4).triangle == -1).all()
