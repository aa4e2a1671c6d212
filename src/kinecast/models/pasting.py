"""Frames as changes of a picture, painted into it at its own resolution.

A backbone renders small images; the picture they were cropped from is large. A `Layer` gives for each place of the
source picture where its pixels come from and what is new, on the networks' grids. `paint` applies it to the source at
its own resolution, and touches only the pixels that change.

Notation: T frames, H x W the source picture.

    layer = backbone.layer(source, motion)
    for i in range(len(layer)):
        frame = picture.copy()
        paint(source.picture, layer, i, (True, True, True, True), frame[top : top + side, left : left + side])
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_BAND = 1 << 19  # pixels painted at once: memory does not grow with the picture
_FADE = 0.16  # of a side of the source picture: the width in which a layer fades at an edge

Edges = tuple[bool, bool, bool, bool]  # top, left, bottom, right


@dataclass(frozen=True)
class Layer:
    """T frames as changes of a source picture.

    Attributes:
        moved: (T, 2, h, w): from each place to the one whose pixels are shown there; coordinates run from -1 to 1.
        pixels: (T, 3, n, n) in [0, 1], new pixels.
        mask: (T, 1, n, n) in [0, 1], where those are shown.
        light: (T, 3, m, m), added to what is moved.
        share: (T, 1, h, w) in [0, 1], how far a place is replaced at all; where it is 0 the source stays bit for bit.
    """

    moved: Tensor
    pixels: Tensor
    mask: Tensor
    light: Tensor
    share: Tensor

    def __len__(self) -> int:
        return len(self.share)

    @staticmethod
    def of_frames(frames: Tensor) -> "Layer":
        """Return a layer that shows frames (T, 3, n, n) as they are."""
        still = frames.new_zeros(len(frames), 2, 2, 2)
        ones = torch.ones_like(frames[:, :1])
        return Layer(still, frames, ones, frames.new_zeros(len(frames), 3, 1, 1), torch.ones_like(still[:, :1]))

    @staticmethod
    def joined(layers: Sequence["Layer"]) -> "Layer":
        """Join layers of one kind in time."""
        return Layer(*(torch.cat([getattr(each, part.name) for each in layers]) for part in fields(Layer)))


class _Part(NamedTuple):
    """Rows and columns of a picture."""

    top: int
    bottom: int
    left: int
    right: int


def paint(source: Tensor, layer: Layer, index: int, fading: Edges, picture: np.ndarray) -> None:
    """Paint one frame of a layer over the source, in place.

    Args:
        source: (1, 3, H, W) in [0, 1], the picture that the layer changes.
        layer: T frames.
        index: which of them.
        fading: the edges at which it fades into the source, movement and all, since the picture continues there.
        picture: (H, W, 3), uint8, which shows the source; usually a view into a larger one.
    """
    for part in _bands(layer.share[index, 0] > 0, picture.shape[0], picture.shape[1]):
        _paint(source, layer, index, part, fading, picture)


def _bands(changed: Tensor, height: int, width: int) -> Iterator[_Part]:
    """Yield the parts of a picture around the cells of a grid (h, w) that are changed, a band of rows at a time."""
    rows, columns = (_span(changed.any(dim=dim), pixels) for dim, pixels in ((1, height), (0, width)))
    step = max(_BAND // max(columns[1] - columns[0], 1), 1)
    for top in range(*rows, step):
        yield _Part(top, min(top + step, rows[1]), *columns)


def _span(cells: Tensor, pixels: int) -> tuple[int, int]:
    """Return from where to where a row of `pixels` is touched by the cells that are True, and by their neighbours."""
    found = cells.nonzero()
    if not len(found):
        return 0, 0
    scale = pixels / len(cells)
    return max(int((int(found[0]) - 1) * scale), 0), min(int((int(found[-1]) + 2) * scale) + 1, pixels)


def _paint(source: Tensor, layer: Layer, i: int, part: _Part, fading: Edges, picture: np.ndarray) -> None:
    height, width = picture.shape[:2]
    device = source.device
    y = (torch.arange(part.top, part.bottom, device=device) + 0.5) * (2 / height) - 1
    x = (torch.arange(part.left, part.right, device=device) + 0.5) * (2 / width) - 1
    places = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)[None]
    window = (_window(y, fading[0], fading[2])[:, None] * _window(x, fading[1], fading[3]))[None, None]

    moved, share = _read(torch.cat((layer.moved[i : i + 1], layer.share[i : i + 1]), dim=1), places).split((2, 1), 1)
    pixels, mask = _read(torch.cat((layer.pixels[i : i + 1], layer.mask[i : i + 1]), dim=1), places).split((3, 1), 1)
    light = _read(layer.light[i : i + 1], places)
    shown = _read(source, places + (moved * window).permute(0, 2, 3, 1)) + light * window
    shown = shown + mask * window * (pixels - shown)
    share = (share * (4 * window).clamp(max=1))[0, 0, :, :, None]

    before = picture[part.top : part.bottom, part.left : part.right]
    was = torch.from_numpy(before).to(device).float()
    levels = was + share * (shown[0].permute(1, 2, 0).clamp(0, 1) * 255 - was)
    before[...] = levels.round_().byte().cpu().numpy()


def _read(maps: Tensor, places: Tensor) -> Tensor:
    """Read maps (1, C, h, w) at places (1, H, W, 2): (1, C, H, W)."""
    return F.grid_sample(maps, places, padding_mode="border", align_corners=False)


def _window(places: Tensor, first: bool, last: bool) -> Tensor:
    """Return a weight for places from -1 to 1 that is 0 at the ends that fade, and 1 inside."""
    weight = torch.ones_like(places)
    for fades, away in ((first, places + 1), (last, 1 - places)):
        if fades:
            part = (away / (2 * _FADE)).clamp(0, 1)
            weight = weight * part * part * (3 - 2 * part)
    return weight
