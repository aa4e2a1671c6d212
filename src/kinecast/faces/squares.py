"""Rotated squares around faces, and the pixels in them.

A picture is a tensor (3, H, W), uint8 or floating point in [0, 1]. Points are in pixels, x to the right and y down; the
centre of the first pixel is (0, 0), as in the original program.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from kinecast.errors import KinecastError

_ROOM = 1.5  # of a crop around the box of a face


@dataclass(frozen=True)
class Square:
    """A square: centre and side in pixels, and its rotation in radians, clockwise as seen."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def place(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2) of the square, from 0 to 1 across it, to the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = np.moveaxis(np.asarray(points, np.float64) - 0.5, -1, 0) * self.side
        return np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], axis=-1)


def around(points: np.ndarray, one_eye: np.ndarray, other_eye: np.ndarray) -> Square:
    """Return the landmark network's input square: around a face's points, upright by its eye line.

    Args:
        points: (P, 2), whose box it is centred on.
        one_eye: (2,), the one on the left in an upright picture.
        other_eye: (2,).
    """
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    run, rise = other_eye - one_eye
    return Square(float(x), float(y), _ROOM * float((high - low).max()), math.atan2(rise, run))


def as_picture(frame: np.ndarray | Tensor) -> Tensor:
    """Return a frame, uint8 (H, W, 3) or floating point (3, H, W) in [0, 1], as a picture (3, H, W).

    Raises:
        KinecastError: it is neither.
    """
    if isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.shape[2] == 3 and frame.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)
    if isinstance(frame, Tensor) and frame.ndim == 3 and frame.shape[0] == 3 and frame.is_floating_point():
        return frame.detach()
    raise KinecastError(
        "face landmarks: expected a frame as a uint8 array (H, W, 3) or a floating point tensor (3, H, W), found "
        f"{type(frame).__name__} of {frame.dtype} with shape {tuple(frame.shape)}"
    )


def cut(picture: Tensor, squares: Sequence[Square], pixels: int, beyond: str = "border") -> Tensor:
    """Return the contents of squares, (len(squares), 3, pixels, pixels) in [0, 1], float32.

    Bilinear and rounded to 8 bits, as in the original; but when shrinking by more than two, blocks of pixels are
    averaged first, which the original omits, so that its large pictures alias.

    Args:
        picture: (3, H, W).
        squares: where to sample.
        pixels: side of the result.
        beyond: padding outside the picture: "zeros" (black) or "border" (repeated).
    """
    return torch.cat([_cut_one(picture, square, pixels, beyond) for square in squares]).round_().div_(255)


def _cut_one(picture: Tensor, square: Square, pixels: int, beyond: str) -> Tensor:
    """Return the contents of a square, (1, 3, pixels, pixels) from 0 to 255."""
    height, width = picture.shape[1:]
    block = int(square.side / pixels) if square.side > 2 * pixels else 1
    corners = square.place(np.array([(0, 0), (0, 1), (1, 0), (1, 1)]))
    low, high = np.floor(corners.min(axis=0)).astype(int) - block, np.ceil(corners.max(axis=0)).astype(int) + 1 + block
    left, top = min(max(low[0], 0), width - 1), min(max(low[1], 0), height - 1)
    right, bottom = max(min(high[0] + 1, width), left + 1), max(min(high[1] + 1, height), top + 1)
    seen = _averaged(picture[:, top:bottom, left:right], block)[None]
    first = (corners[0] - (left, top) - (block - 1) / 2) / block
    grid = _grid(first, square.side / pixels / block, square.angle, pixels, (seen.shape[3], seen.shape[2]))
    return F.grid_sample(seen, grid.to(seen.device), padding_mode=beyond, align_corners=False)


def _grid(first: np.ndarray, step: float, angle: float, pixels: int, size: tuple[int, int]) -> Tensor:
    """Return grid_sample's grid (1, pixels, pixels, 2) of a rotated square in a picture of `size`, width and height.

    Args:
        first: centre of the square's first pixel, x and y, in pixels of the picture.
        step: from one pixel to the next.
        angle: rotation of the square.
        pixels: the square's side.
        size: size of the picture.
    """
    along, across = step * math.cos(angle), step * math.sin(angle)
    count = torch.arange(pixels, dtype=torch.float32)
    grid = torch.empty(1, pixels, pixels, 2)
    for axis, (by_column, by_row) in enumerate(((along, -across), (across, along))):
        scale, shift = 2 / size[axis], (2 * first[axis] + 1) / size[axis] - 1
        torch.add((count * (by_row * scale))[:, None], count * (by_column * scale) + shift, out=grid[0, ..., axis])
    return grid


def _averaged(picture: Tensor, block: int) -> Tensor:
    """Average blocks of pixels, partial ones at the edges too. Returns float32 from 0 to 255."""
    if block == 1:
        return picture.float() if picture.dtype == torch.uint8 else picture.float() * 255
    if picture.dtype == torch.uint8:  # Pillow does not convert every pixel to float first
        reduced = np.asarray(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).reduce(block))
        return torch.from_numpy(reduced.copy()).permute(2, 0, 1).float()
    return F.avg_pool2d(picture.float()[None] * 255, block, ceil_mode=True, count_include_pad=False)[0]
