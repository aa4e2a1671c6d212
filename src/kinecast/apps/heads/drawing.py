"""A head drawn without a graphics card: for recordings, calls without a page, and pages without WebGL.

Plain colours and one light: textures and skins are what the page draws.
"""

import numpy as np
import torch

from kinecast.apps.heads.expression import HeadPose
from kinecast.apps.heads.glb import Head
from kinecast.models.mesh.geometry import rotation_matrix
from kinecast.models.mesh.raster import rasterize

GROUND = (0.09, 0.098, 0.11)  # the page's stage
_LIGHT = (0.3, 0.5, 0.8)
_FILLS = 0.85  # of the picture's height that the head takes
_PIVOT = (0.0, -0.22, -0.1)  # what it turns about, from its middle, in heights of the head


class HeadDrawing:
    """Draws one head.

    Args:
        head: which.
        side: of the square pictures, in pixels.
    """

    def __init__(self, head: Head, side: int = 256) -> None:
        self.side = side
        starts = np.cumsum([0, *(len(part.points) for part in head.parts)])
        self._points = np.concatenate([part.points for part in head.parts])
        triangles = [part.triangles + start for part, start in zip(head.parts, starts, strict=False)]
        self._triangles = torch.from_numpy(np.concatenate(triangles))
        self._colours = torch.from_numpy(np.concatenate([part.colours for part in head.parts]))
        self._shapes = [
            (i, int(start), shape)
            for part, start in zip(head.parts, starts, strict=False)
            for i, shape in part.shapes.items()
        ]
        low, high = self._points.min(axis=0), self._points.max(axis=0)
        self._middle, self._height = (low + high) / 2, float(high[1] - low[1])

    @torch.inference_mode()
    def draw(self, pose: HeadPose) -> np.ndarray:
        """Return the picture (n, n, 3), uint8, of what a head does."""
        points = self._moved(pose)
        fragments = rasterize(points[None], self._triangles, self.side, self.side)
        shaded = self._colours * self._light(points)[:, None]
        seen = (fragments.triangle >= 0)[0, :, :, None]
        picture = fragments.interpolate(shaded[None], self._triangles)[0].permute(1, 2, 0)
        picture = torch.where(seen, picture.clamp(0, 1) ** (1 / 2.2), torch.tensor(GROUND))
        return (picture * 255).round().to(torch.uint8).numpy()

    def _moved(self, pose: HeadPose) -> torch.Tensor:
        """Return the points (V, 3) in the picture: x and y from -1 to 1, y down, z away."""
        points = self._points.copy()
        for index, start, shape in self._shapes:
            if (weight := pose.shapes[index]) > 1e-3:
                points[start : start + len(shape)] += weight * shape
        points = (points - self._middle) / self._height
        turned = rotation_matrix(torch.from_numpy(pose.rotation)[None])[0].numpy()
        pivot = np.array(_PIVOT, np.float32)
        points = (points - pivot) @ turned.T + pivot
        points = points * pose.size + np.array([*(0.3 * pose.move), 0], np.float32)
        flat: np.ndarray = points * np.array([2 * _FILLS, -2 * _FILLS, -1], np.float32)
        return torch.from_numpy(flat.astype(np.float32))

    def _light(self, points: torch.Tensor) -> torch.Tensor:
        """Return how light each point is (V,): by its normal, the mean of its triangles'."""
        a, b, c = points[self._triangles].unbind(dim=1)
        normals = torch.zeros_like(points)
        across = torch.linalg.cross(c - a, b - a)
        for corner in range(3):
            normals.index_add_(0, self._triangles[:, corner], across)
        normals = normals / normals.norm(dim=1, keepdim=True).clamp(min=1e-12)
        light = torch.tensor(_LIGHT)
        towards = normals @ (light / light.norm() * torch.tensor([1.0, -1.0, -1.0]))
        return 0.35 + 0.65 * towards.abs()
