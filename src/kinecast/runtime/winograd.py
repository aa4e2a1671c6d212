"""3x3 convolution by Winograd's minimal filtering, F(4x4, 3x3) of Lavin & Gray 2016 (arXiv 1509.09308).

Each 4x4 block of outputs comes from a 6x6 tile of inputs by 36 products in place of 144, in float32. Both transforms
are written as one matrix product over all tiles and channels, and the 36 products as one batched one, so that the time
goes to BLAS. It pays where both channel counts are large: the transforms grow with the channels, the gain with their
product.

Notation: B batch, I and O channels in and out, n tiles.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TILE, _STEP = 6, 4
_INPUT: list[list[float]] = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT: list[list[float]] = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


def _squared(matrix: list[list[float]]) -> Tensor:
    rows = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(rows, rows).float()


class WinogradConv2d(nn.Module):
    """A 3x3 convolution with padding 1, and a ReLU if wanted; its weight (O, I, 3, 3) is transformed to (36, I, O)."""

    weight: Tensor
    bias: Tensor
    into: Tensor
    back: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool = False) -> None:
        super().__init__()
        self.relu = relu
        kernel = torch.tensor(_KERNEL, dtype=torch.float64)
        transformed = torch.einsum("ax,by,oixy->abio", kernel, kernel, weight.detach().double())
        self.register_buffer("weight", transformed.flatten(0, 1).float().contiguous())
        self.register_buffer("bias", bias.detach().float().clone())
        self.register_buffer("into", _squared(_INPUT))
        self.register_buffer("back", _squared(_OUTPUT))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, h, w) to (B, O, h, w), channels last."""
        batch, channels, height, width = x.shape
        down, across = -(-height // _STEP), -(-width // _STEP)
        right, bottom = across * _STEP - width + 1, down * _STEP - height + 1
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, right, 1, bottom)).contiguous()
        image, row, column, _ = padded.stride()
        tiles = padded.as_strided(  # overlapping views, copied once by the reshape
            (_TILE, _TILE, batch, down, across, channels), (row, column, image, _STEP * row, _STEP * column, 1)
        ).reshape(_TILE * _TILE, -1)
        products = torch.bmm((self.into @ tiles).view(_TILE * _TILE, -1, channels), self.weight)
        blocks = (self.back @ products.view(_TILE * _TILE, -1)).view(_STEP, _STEP, batch, down, across, -1)
        out = blocks.permute(2, 3, 0, 4, 1, 5).reshape(batch, down * _STEP, across * _STEP, -1)
        out = (out[:, :height, :width] + self.bias).permute(0, 3, 1, 2)
        return F.relu_(out) if self.relu else out
