"""How far the background and the shoulders have moved since a reference picture: what a face mesh does not tell.

Both are translations, found by registration of small grey pictures: Gauss-Newton from the last frame's estimate, with
robust weights (Lucas and Kanade, IJCAI 1981; Baker and Matthews, IJCV 2004). They are always measured against the
reference, so that errors do not add up. Coordinates: see `geometry`.
"""

from dataclasses import dataclass
from functools import cached_property

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
_LOST = 1.0  # of the reference's own contrast: so large an error is that of another picture
_PATIENCE = 25  # frames


@dataclass(frozen=True)
class _View:
    """A picture at one side n: grey values (n, n) without their local mean, and the regions' weights (2, n, n)."""

    grey: Tensor
    regions: Tensor

    @cached_property
    def gradient(self) -> Tensor:
        """Change per pixel to the right and downwards, (2, n, n)."""
        return torch.stack([(self.grey.roll(-1, axis) - self.grey.roll(1, axis)) / 2 for axis in (1, 0)])

    @cached_property
    def products(self) -> Tensor:
        """Products of both changes, (3, n, n): xx, xy, yy."""
        x, y = self.gradient
        return torch.stack((x * x, x * y, y * y))

    @cached_property
    def contrast(self) -> Tensor:
        """The error (1) of a background that shows something else altogether."""
        return _mean_error(self.grey, self.regions[:1])

    @cached_property
    def places(self) -> Tensor:
        """The pixels' coordinates as `grid_sample` takes them, (1, n, n, 2)."""
        return grid_of(len(self.grey), len(self.grey), self.grey).permute(1, 2, 0)[None]


class SceneTracker:
    """Finds the scene's movement in successive frames, relative to the first one that it is given.

    Example:
        >>> tracker = SceneTracker()  # doctest: +SKIP
        >>> tracker(first_frame, points)  # doctest: +SKIP
        tensor([0., 0., 0., 0.])
    """

    def __init__(self) -> None:
        self._reference: dict[int, _View] = {}
        self._before = torch.zeros(2, 2)  # movement of the reference since the first one
        self._last = torch.zeros(2, 2)  # and since then
        self._lost = 0  # frames in which nothing of the reference was found

    @torch.inference_mode()
    def __call__(self, frame: Tensor, points: Tensor) -> Tensor:
        """Return the movement (4) in a frame (3, H, W) in [0, 1] whose face has `points` (478, 3)."""
        views = _views(frame.cpu().float(), points.cpu())
        if not self._reference:
            self._reference = views
        else:
            self._follow(views)
        return (self._before + self._last).flatten().clamp(-_FURTHEST, _FURTHEST)

    def _follow(self, views: dict[int, _View]) -> None:
        for side, view in views.items():
            self._last, lost = _register(self._reference[side], view, self._last, _STEPS[side])
        self._lost = self._lost + 1 if lost else 0
        if self._lost > _PATIENCE:  # another place: measure from here
            self._reference, self._before, self._last = views, self._before + self._last, torch.zeros(2, 2)
            self._lost = 0


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
    far = ((grid - middle[:, None, None]) / reach[:, None, None]).square().sum(dim=0)
    below, aside = (grid[1] - middle[1]) / size - 1, (grid[0] - middle[0]).abs() / size
    background = (far > _HEAD**2) & (below <= 0)
    chest = (far > _NECK**2) & (below > _CHEST[1]) & (aside < _CHEST[0])
    return torch.stack((background, chest)).float()


def _register(reference: _View, view: _View, start: Tensor, steps: int) -> tuple[Tensor, bool]:
    """Return how far both regions have moved, (2, 2) in half frames, from an estimate; is the background lost?"""
    side = len(reference.grey)
    maps = torch.stack((view.grey.expand(2, -1, -1), view.regions), dim=1)
    start = start * (side / 2)
    moved = start
    residual, weights = _compared(reference, maps, moved)
    for _ in range(steps):
        robust = weights * (_CONTRAST / residual.abs().clamp(min=_CONTRAST))
        xx, xy, yy = (robust.flatten(1) @ reference.products.flatten(1).T).unbind(dim=1)
        slope = (robust * residual).flatten(1) @ reference.gradient.flatten(1).T + _STIFF * (moved - start)
        xx, yy = xx + _STIFF, yy + _STIFF
        x, y = slope.unbind(dim=1)
        change = torch.stack((yy * x - xy * y, xx * y - xy * x), dim=1) / (xx * yy - xy * xy)[:, None]
        moved = moved - change.clamp(-2, 2)
        residual, weights = _compared(reference, maps, moved)
    # Where it explains no more than no movement does, it is a wrong guess, and goes back.
    still = _compared(reference, maps, torch.zeros_like(moved))
    error = _mean_error(residual, weights)
    worse = error > _mean_error(*still)
    lost = bool((error[0] > _LOST * reference.contrast) & (error[0] < 1))
    return torch.where(worse[:, None], moved / 2, moved).mul(2 / side).clamp(-_FURTHEST, _FURTHEST), lost


def _compared(reference: _View, maps: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Return differences from the reference, and weights, both (2, n, n), of maps (2, 2, n, n) moved in pixels."""
    places = reference.places + moved[:, None, None] * (2 / maps.shape[-1])
    shown = F.grid_sample(maps, places, align_corners=False)
    return shown[:, 0] - reference.grey, reference.regions * shown[:, 1]


def _mean_error(residual: Tensor, weights: Tensor) -> Tensor:
    """Return the mean absolute error of both regions (2,), where many pixels overlap; else it is large."""
    mass = weights.sum(dim=(1, 2))
    return (residual.abs() * weights).sum(dim=(1, 2)) / mass.clamp(min=1e-3) + (mass < _FEWEST).float()
