"""Building blocks in three dimensions for face-vid2vid. Depth is never resampled; width and height are.

Notation: B batch, C channels, K keypoints, d, h, w a volume's depth, height and width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def coordinate_volume(depth: int, height: int, width: int, like: Tensor) -> Tensor:
    """Return (d, h, w, 3), x then y then z, from -1 to 1 corner to corner."""
    z, y, x = (
        2 * torch.arange(size, dtype=like.dtype, device=like.device) / (size - 1) - 1 for size in (depth, height, width)
    )
    return torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], dim=3)


def gaussian_volumes(points: Tensor, volume: Tensor, variance: float) -> Tensor:
    """Return (B, K, d, h, w): exp(-|z - p|^2 / (2 variance)) on coordinates (d, h, w, 3) for points p (B, K, 3)."""
    squared = (volume - points[:, :, None, None, None]).square().sum(dim=-1)
    return torch.exp(-0.5 * squared / variance)


def warp_volume(volume: Tensor, grid: Tensor) -> Tensor:
    """Sample (B, C, d, h, w) trilinearly at grid (B, d', h', w', 3) in [-1, 1], zero outside, without align_corners."""
    return F.grid_sample(volume.to(grid.dtype), grid, mode="bilinear", padding_mode="zeros", align_corners=False)


class Conv3d(nn.Conv3d):
    """Convolution of volumes that trains correctly in bfloat16 on every processor.

    oneDNN 3 (torch 2.13) on AVX-512 without AMX computes the bfloat16 gradient of a kernel wrongly, or writes past its
    buffers and ends the process, where the kernel is deeper than the volume (more than one deep) or its padding is
    higher than the volume is. Kernels that extend beyond the volume are therefore computed in float32 whenever a
    gradient may be needed: they cover few voxels, so the cost is negligible. All others keep the training precision,
    and so do two-dimensional convolutions, which do not show the fault.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to (B, C', d', h', w')."""
        inside = all(kernel <= side for kernel, side in zip(self.kernel_size, input.shape[2:], strict=True))
        if inside or input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return self._conv_forward(input.float(), self.weight.float(), bias).to(input.dtype)


class SameBlock3d(nn.Module):
    """3x3x3 convolution, batch norm, ReLU."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_features, out_features, 3, padding=1)
        self.norm = nn.BatchNorm3d(out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to (B, C', d, h, w)."""
        return F.relu(self.norm(self.conv(x)))


class DownBlock3d(SameBlock3d):
    """`SameBlock3d`, then 1x2x2 average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to (B, C', d, h/2, w/2)."""
        return F.avg_pool3d(super().forward(x), (1, 2, 2))


class UpBlock3d(SameBlock3d):
    """Nearest up-sampling by 1x2x2, then `SameBlock3d`."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to (B, C', d, 2h, 2w)."""
        return super().forward(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0)))


class ResBlock3d(nn.Module):
    """Pre-activation residual block of two 3x3x3 convolutions."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = Conv3d(features, features, 3, padding=1)
        self.conv2 = Conv3d(features, features, 3, padding=1)
        self.norm1 = nn.BatchNorm3d(features)
        self.norm2 = nn.BatchNorm3d(features)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to the same shape."""
        out = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(out)))


class _Encoder(nn.Module):
    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        pairs = zip(channels[:-1], channels[1:], strict=True)
        self.down_blocks = nn.ModuleList(DownBlock3d(i, o) for i, o in pairs)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [x]
        for block in self.down_blocks:
            maps.append(block(maps[-1]))
        return maps


class _Decoder(nn.Module):
    def __init__(self, channels: list[int], block_expansion: int) -> None:
        super().__init__()
        depth = len(channels) - 1
        outputs = [min(max(channels[1:]), block_expansion * 2**i) for i in range(depth)]
        self.up_blocks = nn.ModuleList(
            UpBlock3d(channels[i + 1] * (1 if i == depth - 1 else 2), outputs[i]) for i in reversed(range(depth))
        )
        self.out_features = outputs[0] + channels[0]
        self.conv = Conv3d(self.out_features, self.out_features, 3, padding=1)
        self.norm = nn.BatchNorm3d(self.out_features)

    def forward(self, maps: list[Tensor]) -> Tensor:
        out = maps[-1]
        for block, skip in zip(self.up_blocks, reversed(maps[:-1]), strict=True):
            out = torch.cat([block(out), skip], dim=1)
        return F.relu(self.norm(self.conv(out)))


class Hourglass3d(nn.Module):
    """U-Net as `kinecast.models.blocks.layers.Hourglass`, with one more convolution at the end."""

    def __init__(self, in_features: int, block_expansion: int, num_blocks: int, max_features: int) -> None:
        super().__init__()
        widths = [min(max_features, block_expansion * 2 ** (i + 1)) for i in range(num_blocks)]
        self.encoder = _Encoder([in_features, *widths])
        self.decoder = _Decoder([in_features, *widths], block_expansion)
        self.out_features = self.decoder.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, d, h, w) to (B, out_features, d, h, w); h and w are multiples of 2^num_blocks."""
        return self.decoder(self.encoder(x))
