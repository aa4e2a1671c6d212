"""Building blocks that the published backbones share. Module names are those of the published state dicts.

Notation: B batch, C channels, K keypoints, h and w a feature map's height and width.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], Any]  # from a number of channels to a normalisation

instance_norm: Norm = partial(nn.InstanceNorm2d, affine=True)  # TPS: no running statistics, as in training


def coordinate_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Return (h, w, 2), x then y, from -1 to 1 corner to corner: x_i = 2i/(w-1) - 1."""
    x = 2 * torch.arange(width, dtype=like.dtype, device=like.device) / (width - 1) - 1
    y = 2 * torch.arange(height, dtype=like.dtype, device=like.device) / (height - 1) - 1
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=2)


def invert_2x2(matrix: Tensor) -> Tensor:
    """Invert matrices (..., 2, 2) in closed form: elementwise, so it stays float32 under autocast."""
    a, b, c, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 0], matrix[..., 1, 1]
    adjugate = torch.stack([torch.stack([d, -b], dim=-1), torch.stack([-c, a], dim=-1)], dim=-2)
    return adjugate / (a * d - b * c)[..., None, None]


def multiply_2x2(left: Tensor, right: Tensor) -> Tensor:
    """Multiply matrices (..., 2, 2), elementwise for the same reason as `invert_2x2`."""
    return (left.unsqueeze(-1) * right.unsqueeze(-3)).sum(dim=-2)


def transform_points(matrix: Tensor, points: Tensor) -> Tensor:
    """Apply matrices (..., 2, 2) to points (..., 2)."""
    return (matrix * points.unsqueeze(-2)).sum(dim=-1)


def gaussian_heatmaps(points: Tensor, height: int, width: int, variance: float) -> Tensor:
    """Return (B, K, h, w): exp(-|z - p|^2 / (2 variance)) for points p (B, K, 2)."""
    grid = coordinate_grid(height, width, points)
    squared = (grid - points[:, :, None, None]).square().sum(dim=-1)
    return torch.exp(-0.5 * squared / variance)


def warp(image: Tensor, grid: Tensor, align_corners: bool = False) -> Tensor:
    """Sample (B, C, h, w) bilinearly at grid (B, h', w', 2) in [-1, 1], zero outside, pixel centres at half steps.

    Our grids run from corner to corner of the pixels' centres, which is what align_corners=True reads; with False the
    identity magnifies slightly, by 1/w of the width. It belongs to the weights, which learned to compensate: TPS was
    trained with True, face-vid2vid with False (its authors name torch 1.7), and a FOMM's config states it. Works in the
    grid's precision, since half precision would shift the coordinates, and keeps the image's memory format.
    """
    wide = image.to(grid.dtype)
    out = F.grid_sample(wide, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners)
    return out.contiguous(memory_format=torch.channels_last) if _is_channels_last(image) else out


def _is_channels_last(image: Tensor) -> bool:
    return image.shape[1] > 1 and image.is_contiguous(memory_format=torch.channels_last)


class AntiAliasDownsample(nn.Module):
    """Blur with a fixed Gaussian of sigma (1/scale - 1)/2, then take every (1/scale)-th pixel.

    The kernel is a buffer `weight` (C, 1, k, k), k = 2 round(4 sigma) + 1. A scale of 1 changes nothing.
    """

    weight: Tensor

    def __init__(self, channels: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.stride = round(1 / scale)
        if self.stride == 1:
            return
        sigma = (1 / scale - 1) / 2
        size = 2 * round(4 * sigma) + 1
        offsets = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        line = torch.exp(-offsets.square() / (2 * sigma**2))
        kernel = line[:, None] * line
        self.register_buffer("weight", (kernel / kernel.sum()).repeat(channels, 1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Reduce (B, C, H, W) to (B, C, H scale, W scale)."""
        if self.stride == 1:
            return image
        padding = self.weight.shape[2] // 2
        return F.conv2d(image, self.weight, stride=self.stride, padding=padding, groups=image.shape[1])

    @staticmethod
    def scale_of(weight: Tensor | None) -> float:
        """Read the scale back from a state dict's kernel; None, no kernel stored, means 1."""
        if weight is None:
            return 1.0
        return next(
            scale for scale in (1 / stride for stride in range(2, 65)) if _kernel_size(scale) == len(weight[0, 0])
        )


def _kernel_size(scale: float) -> int:
    return 2 * round(4 * (1 / scale - 1) / 2) + 1


class SameBlock2d(nn.Module):
    """Convolution, norm (batch norm by default), ReLU at one resolution."""

    def __init__(self, in_features: int, out_features: int, kernel_size: int = 3, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_features, out_features, kernel_size, padding=kernel_size // 2)
        self.norm = norm(out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w)."""
        return F.relu(self.norm(self.conv(x)))


class DownBlock2d(SameBlock2d):
    """`SameBlock2d`, then 2x2 average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h/2, w/2)."""
        return F.avg_pool2d(super().forward(x), 2)


class UpBlock2d(SameBlock2d):
    """Nearest up-sampling by 2, then `SameBlock2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', 2h, 2w)."""
        return super().forward(F.interpolate(x, scale_factor=2.0))


class ResBlock2d(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions."""

    def __init__(self, features: int, norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.norm1 = norm(features)
        self.norm2 = norm(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))


class _Encoder(nn.Module):
    def __init__(self, channels: list[int], norm: Norm) -> None:
        super().__init__()
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.down_blocks = nn.ModuleList(DownBlock2d(i, o, norm=norm) for i, o in pairs)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for block in self.down_blocks:
            maps.append(block(maps[-1]))
        return maps


class _Decoder(nn.Module):
    def __init__(self, channels: list[int], block_expansion: int, norm: Norm) -> None:
        super().__init__()
        depth = len(channels) - 1
        outputs = [min(max(channels[1:]), block_expansion * 2**i) for i in range(depth)]
        self.up_blocks = nn.ModuleList(
            UpBlock2d(channels[i + 1] * (1 if i == depth - 1 else 2), outputs[i], norm=norm)
            for i in reversed(range(depth))
        )
        self.level_features = [outputs[i] + channels[i] for i in reversed(range(depth))]
        self.out_features = outputs[0] + channels[0]

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.levels(maps)[-1]

    def levels(self, maps: list[Tensor]) -> list[Tensor]:
        out = [maps[-1]]
        for block, skip in zip(self.up_blocks, reversed(maps[:-1]), strict=True):
            out.append(torch.cat([block(out[-1]), skip], dim=1))
        return out


class Hourglass(nn.Module):
    """U-Net of `num_blocks` halvings; widths double from `block_expansion` up to `max_features`.

    The input is concatenated to the last map, so `out_features` = block_expansion + in_features.
    """

    def __init__(
        self,
        in_features: int,
        block_expansion: int,
        num_blocks: int,
        max_features: int,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        widths = [min(max_features, block_expansion * 2 ** (i + 1)) for i in range(num_blocks)]
        self.encoder = _Encoder([in_features, *widths], norm)
        self.decoder = _Decoder([in_features, *widths], block_expansion, norm)
        self.out_features = self.decoder.out_features
        self.level_features = self.decoder.level_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, out_features, h, w); h and w are multiples of 2^num_blocks."""
        return self.decoder(self.encoder(x))

    def levels(self, x: Tensor) -> list[Tensor]:
        """Return the decoder's maps of every size, coarse to fine, with `level_features` channels; `forward`'s last."""
        return self.decoder.levels(self.encoder(x))[1:]
