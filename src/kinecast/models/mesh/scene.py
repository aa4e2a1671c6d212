"""How far the background and the shoulders have moved since a reference picture: what a face mesh does not tell.

Both are translations, found by registration of small grey pictures: Gauss-Newton from the last frame's estimate, with
robust weights (Lucas and Kanade, IJCAI 1981; Baker and Matthews, IJCV 2004). They are always measured against the
reference, so that errors do not add up. Coordinates: see `geometry`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.models.mesh.drawing import grid_of
from kinecast.models.mesh.topology import OVAL

NUMBERS = 4  # background x and y, shoulders x and y
_SIDE = 64  # of the small pictures
_STEPS = {_SIDE // 2: 2, _SIDE: 3}  # Gauss-Newton steps by side
_HEAD = 1.6  # times the reach of the face's outline: hair and what it hides
_NECK = 1.3  # the same, below the chin
_NARROWEST = 0.75  # of a head: its width to its height, however it is turned
_CHEST = 1.2, 0.2  # how far to the sides and from how far below the chin the shoulders are looked for, in half faces
_CONTRAST = 0.03  # grey values that may differ in places that show the same
_STIFF = 0.1  # pull towards the last estimate, which decides where nothing is to be seen: of ten pixels of clear edges
_FEWEST = 20.0  # pixels by which something can be told
_FURTHEST = 0.6  # half frames


@dataclass(frozen=True)
class _View:
    """A picture at one side n: grey values (n, n) without their local mean, and the regions' weights (2, n, n)."""

    grey: Tensor
    regions: Tensor


class SceneTracker:
    """Finds the scene's movement in successive frames, relative to the first one that it is given.

    Example:
        >>> tracker = SceneTracker()  # doctest: +SKIP
        >>> tracker(first_frame, points)  # doctest: +SKIP
        tensor([0., 0., 0., 0.])
    """

    def __init__(self) -> None:
        self._reference: dict[int, _View] | None = None
        self._last = torch.zeros(2, 2)

    @torch.inference_mode()
    def __call__(self, frame: Tensor, points: Tensor) -> Tensor:
        """Return the movement (4) in a frame (3, H, W) in [0, 1] whose face has `points` (478, 3)."""
        views = _views(frame.cpu().float(), points.cpu())
        if self._reference is None:
            self._reference = views
        else:
            for side, view in views.items():
                self._last = _register(self._reference[side], view, self._last, _STEPS[side])
        return self._last.flatten()


def _views(frame: Tensor, points: Tensor) -> dict[int, _View]:
    """Return a frame's small pictures, coarse to fine."""
    height, width = frame.shape[1:]
    most = max(height, width)
    small = F.interpolate(
        frame.mean(dim=0)[None, None],
        size=(round(height / most * _SIDE), round(width / most * _SIDE)),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    vertical, horizontal = _SIDE - small.shape[2], _SIDE - small.shape[3]
    padding = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    regions = _regions(points) * F.pad(torch.ones_like(small), padding)[0]
    small = F.pad(small, padding, mode="replicate")  # no edge that is none
    views = {}
    for side in _STEPS:
        grey = F.avg_pool2d(small, _SIDE // side)
        local = F.avg_pool2d(grey, 9, stride=1, padding=4, count_include_pad=False)
        views[side] = _View((grey - local)[0, 0], F.avg_pool2d(regions[None], _SIDE // side)[0])
    return views


def _regions(points: Tensor) -> Tensor:
    """Return where background and shoulders may be seen (2, n, n), around a face of points (478, 3)."""
    grid = grid_of(_SIDE, _SIDE, points)
    edge = points[OVAL, :2]
    middle, reach = (edge.amax(dim=0) + edge.amin(dim=0)) / 2, (edge.amax(dim=0) - edge.amin(dim=0)) / 2
    size = reach[1].clamp(min=0.02)
    reach = torch.stack((torch.maximum(reach[0], size * _NARROWEST), size))
    far = ((grid - middle[:, None, None]) / reach[:, None, None]).norm(dim=0)
    below, aside = (grid[1] - middle[1]) / size - 1, (grid[0] - middle[0]).abs() / size
    background = (far > _HEAD) & (below <= 0)
    chest = (far > _NECK) & (below > _CHEST[1]) & (aside < _CHEST[0])
    return torch.stack((background, chest)).float()


def _register(reference: _View, view: _View, start: Tensor, steps: int) -> Tensor:
    """Return how far both regions have moved, (2, 2) in half frames, from an estimate."""
    side = len(reference.grey)
    gradient = torch.stack((_difference(reference.grey, 1), _difference(reference.grey, 0)))
    products = gradient[:, None] * gradient  # (2, 2, n, n)
    maps = torch.stack((view.grey.expand(2, -1, -1), view.regions), dim=1)
    moved = start * (side / 2)
    stiff = torch.eye(2) * _STIFF
    for step in range(steps + 1):
        residual, weights = _compared(reference, maps, moved)
        if step == steps:
            break
        robust = weights * (_CONTRAST / residual.abs().clamp(min=_CONTRAST))
        curvature = torch.einsum("rhw,ijhw->rij", robust, products) + stiff
        slope = torch.einsum("rhw,ihw->ri", robust * residual, gradient) + (moved - start * (side / 2)) @ stiff
        moved = moved - torch.linalg.solve(curvature, slope[:, :, None])[:, :, 0].clamp(-2, 2)
    # Where it explains no more than no movement does, it is a wrong guess, and goes back.
    still = _compared(reference, maps, torch.zeros_like(moved))
    worse = _mean_error(residual, weights) > _mean_error(*still)
    return torch.where(worse[:, None], moved / 2, moved).mul(2 / side).clamp(-_FURTHEST, _FURTHEST)


def _compared(reference: _View, maps: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return differences from the reference, and weights, both (2, n, n), of maps (2, 2, n, n) moved in pixels."""
    side = maps.shape[-1]
    theta = torch.eye(2, 3).repeat(2, 1, 1)
    theta[:, :, 2] = moved * (2 / side)
    grid = F.affine_grid(theta, list(maps.shape), align_corners=False)
    shown = F.grid_sample(maps, grid, align_corners=False)
    return shown[:, 0] - reference.grey, reference.regions * shown[:, 1]


def _mean_error(residual: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute error of both regions (2,), where many pixels overlap; else it is large."""
    mass = weights.sum(dim=(1, 2))
    return (residual.abs() * weights).sum(dim=(1, 2)) / mass.clamp(min=1e-3) + (mass < _FEWEST).float()


def _difference(x: Tensor, axis: int) -> Tensor:
    return (x.roll(-1, axis) - x.roll(1, axis)) / 2
