"""3x3 convolution by Winograd's minimal filtering, F(4x4, 3x3) of Lavin & Gray 2016 (arXiv 1509.09308).

Each 4x4 block of outputs comes from a 6x6 tile of inputs by 36 products in place of 144, in float32. The 36 products
are one grouped 1x1 convolution, 36 groups of I to O channels; both transforms are additions, along one axis and then
the other, of slices small enough to stay in the processor's cache. It pays where both channel counts are large: the
transforms grow with the channels, the gain with their product.

Notation: B batch, I and O channels in and out, h' x w' tiles.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.runtime.convolution import Convolution

_TILE, _STEP = 6, 4
_KERNEL = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_ONES = _TILE + 1  # the product, second in both axes, that is added to all 16 outputs once: the bias goes in there

Line = Callable[[Sequence[Tensor], Sequence[Tensor]], None]


def _into(d: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Transform six rows, or columns, of the input into six."""
    torch.add(torch.add(d[4], d[2], alpha=-5), d[0], alpha=4, out=out[0])
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    even, odd = d[4] - d[2], d[3] - d[1]
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(torch.add(d[5], d[3], alpha=-5), d[1], alpha=4, out=out[5])


def _back(m: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Transform six rows, or columns, of products into four of the output."""
    near, far = m[1] + m[2], m[3] + m[4]
    torch.add(near, far, alpha=4, out=out[2])
    torch.add(near.add_(far), m[0], out=out[0])
    near, far = m[1] - m[2], m[3] - m[4]
    torch.add(near, far, alpha=2, out=out[1])
    torch.add(near.add_(far, alpha=8), m[5], out=out[3])


class WinogradConv2d(nn.Module):
    """A 3x3 convolution with padding 1, and a ReLU if wanted.

    Args:
        weight: (O, I, 3, 3).
        bias: (O,).
        relu: whether a ReLU follows.
        size: height and width of the inputs to expect, for which weights are packed; other inputs are computed too.
    """

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool = False, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.relu, self.out_channels = relu, len(weight)
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        transformed = torch.einsum("ax,by,oixy->aboi", kernel, kernel, weight.detach().double())
        biases = weight.new_zeros(_TILE**2, len(weight))
        biases[_ONES] = bias.detach()
        tiles = None if size is None else (-(-size[0] // _STEP), -(-size[1] // _STEP))
        self.products = Convolution(
            transformed.flatten(0, 2).float()[..., None, None], biases.flatten(), 0, size=tiles, groups=_TILE**2
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, h, w) to (B, O, h, w), channels last."""
        batch, channels, height, width = x.shape
        down, across = -(-height // _STEP), -(-width // _STEP)
        right, bottom = across * _STEP - width + 1, down * _STEP - height + 1
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, bottom))
        rows = padded.new_empty(_TILE, batch, down, across * _STEP + 2, channels)
        _into([padded[:, i : i + down * _STEP : _STEP] for i in range(_TILE)], rows.unbind())
        tiles = padded.new_empty(batch, down, across, _TILE, _TILE, channels)
        columns = [rows[:, :, :, i : i + across * _STEP : _STEP].permute(1, 2, 3, 0, 4) for i in range(_TILE)]
        _into(columns, tiles.unbind(dim=4))
        products = self.products(tiles.flatten(3).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        products = products.unflatten(3, (_TILE, _TILE, self.out_channels))
        rows = products.new_empty(_STEP, batch, down, across, _TILE, self.out_channels)
        _back(products.unbind(dim=3), rows.unbind())
        out = products.new_empty(batch, down, _STEP, across, _STEP, self.out_channels)
        _back(rows.permute(1, 2, 0, 3, 4, 5).unbind(dim=4), out.unbind(dim=4))
        out = out.view(batch, down * _STEP, across * _STEP, -1)[:, :height, :width].permute(0, 3, 1, 2)
        return F.relu_(out) if self.relu else out
