"""Turned squares around faces, and the pixels in them.

A picture is a tensor (3, H, W), uint8 or floating point in [0, 1]. Points are in pixels, x to the right and y down; the
middle of the first pixel is (0, 0), as the original program has it.
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
    """A square: centre and side in pixels, and the angle that it is turned by, in radians, clockwise as seen."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def place(self, points: np.ndarray) -> np.ndarray:
        """Return where points (..., 2) of the square, from 0 to 1 across it, lie in the picture."""
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        x, y = np.moveaxis(np.asarray(points, np.float64) - 0.5, -1, 0) * self.side
        return np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], axis=-1)


def around(points: np.ndarray, one_eye: np.ndarray, other_eye: np.ndarray) -> Square:
    """Return the square that the landmark network is shown: about a face's points, upright by the line of its eyes.

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
    """Return what squares show, (len(squares), 3, pixels, pixels) in [0, 1], float32.

    Bilinear and rounded to 8 bits, as the original; but where more than two pixels fall on one, blocks of them are
    averaged first, which the original leaves out, so that its large pictures alias.

    Args:
        picture: (3, H, W).
        squares: what to look at.
        pixels: the side of what is returned.
        beyond: the picture is "zeros" (black) or its "border", repeated.
    """
    return torch.cat([_cut_one(picture, square, pixels, beyond) for square in squares]).mul(255).round().div(255)


def _cut_one(picture: Tensor, square: Square, pixels: int, beyond: str) -> Tensor:
    steps = torch.arange(pixels) / pixels
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    places = torch.from_numpy(square.place(torch.stack([columns, rows], dim=-1).numpy()))
    height, width = picture.shape[1:]
    block = max(int(square.side / pixels), 1) if square.side > 2 * pixels else 1
    low = places.amin(dim=(0, 1)).floor().long() - block
    high = places.amax(dim=(0, 1)).ceil().long() + 1 + block
    left, top = min(max(int(low[0]), 0), width - 1), min(max(int(low[1]), 0), height - 1)
    right, bottom = max(min(int(high[0]) + 1, width), left + 1), max(min(int(high[1]) + 1, height), top + 1)
    seen = _averaged(picture[:, top:bottom, left:right], block)
    size = torch.tensor([seen.shape[2], seen.shape[1]])
    index = (places - torch.tensor([left, top]) - (block - 1) / 2) / block
    grid = (2 * index + 1) / size - 1  # of which grid_sample makes the index again
    return F.grid_sample(seen[None], grid[None].to(seen), padding_mode=beyond, align_corners=False)


def _averaged(picture: Tensor, block: int) -> Tensor:
    """Average blocks of pixels; what is left over at the edges counts too. Returns float32 in [0, 1]."""
    if block == 1:
        return picture.float().div(255) if picture.dtype == torch.uint8 else picture.float()
    if picture.dtype == torch.uint8:  # Pillow does not make a float of each pixel first
        reduced = np.asarray(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).reduce(block))
        return torch.from_numpy(reduced.copy()).permute(2, 0, 1).float() / 255
    return F.avg_pool2d(picture.float()[None], block, ceil_mode=True, count_include_pad=False)[0]
