"""Blocks of `kinecast.models.blocks.layers`, rewritten for inference: the same function in fewer operations.

What is exact up to float32 rounding: a batch norm after a convolution is folded into it; nearest up-sampling by 2 and a
3x3 convolution become one 4x4 transposed convolution of stride 2 (4/9 of the products); the 7x7 convolution to three
colours computes 2x2 pixels at once, because a vector unit computes 16 channels in the time of 3; wide 3x3
convolutions go by Winograd's algorithm.

`size` is the height and width of the inputs to expect: rewriting and packing are chosen for it, and right for any.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.models.blocks.layers import DownBlock2d, Hourglass, ResBlock2d, SameBlock2d, UpBlock2d
from kinecast.runtime.convolution import Convolution
from kinecast.runtime.winograd import WinogradConv2d

Size = tuple[int, int]

_WINOGRAD_CHANNELS = 128  # below it the transforms cost what the products save (measured with AVX-512)
_TRANSPOSED_SIDE = {torch.float32: 8, torch.bfloat16: 16}  # below, its larger kernel costs more than it saves
_SAFE_CHANNELS = 16  # oneDNN 3 (torch 2.13) with AMX computes bfloat16 8x8 kernels of stride 2 wrongly for 8 and 12


@dataclass(frozen=True)
class Style:
    """How blocks are rewritten: what their convolutions compute in, and whether by torch's own packed kernels.

    Sums that run through the network (residuals) are float32 always. `native` is off for export.
    """

    dtype: torch.dtype = torch.float32
    native: bool = True

    def convolution(self, weight: Tensor, bias: Tensor | None, padding: int, size: Size, **options: Any) -> Convolution:
        """Return a `Convolution` in this style."""
        return Convolution(weight, bias, padding, dtype=self.dtype, size=size if self.native else None, **options)

    def input(self, x: Tensor) -> Tensor:
        """Return a network's input (B, C, h, w) as its convolutions want it."""
        x = x.to(self.dtype)
        if not self.native or x.is_contiguous(memory_format=torch.channels_last):
            return x
        out = torch.empty_like(x, memory_format=torch.channels_last)
        for frame, given in zip(out, x, strict=True):  # torch transposes matrices faster than it orders four dimensions
            frame.permute(1, 2, 0).flatten(0, 1).copy_(given.flatten(1).T)
        return out


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the convolution that equals `conv` followed by `norm` in evaluation mode."""
    scale, shift = norm_line(norm)
    weight, bias = tensors_of(conv)
    return weight * scale[:, None, None, None], bias * scale + shift


def norm_line(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return scale and shift (C,) of a batch norm in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("expected a batch norm with running statistics, found one without: it cannot be folded")
    scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias.detach() - norm.running_mean * scale


def tensors_of(conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """Return weight and bias without their gradients."""
    weight = conv.weight.detach()
    return weight, weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach()


def halved(size: Size) -> Size:
    """Return the size after one halving."""
    return size[0] // 2, size[1] // 2


class FoldedSame(nn.Module):
    """`SameBlock2d`, or `DownBlock2d`, which pools."""

    def __init__(self, block: SameBlock2d, size: Size, style: Style) -> None:
        super().__init__()
        padding = block.conv.kernel_size[0] // 2
        self.conv = style.convolution(*fold_norm(block.conv, block.norm), padding, size, relu=True)
        self.pool = isinstance(block, DownBlock2d)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w), or half of h and w."""
        out = self.conv(x)
        return F.avg_pool2d(out, 2) if self.pool else out


class UpConvolution(nn.Module):
    """Nearest up-sampling by 2 and a 3x3 convolution: a transposed convolution of four taps, where that is faster."""

    def __init__(self, weight: Tensor, bias: Tensor | None, size: Size, style: Style, relu: bool) -> None:
        super().__init__()
        self.transposed = min(size) >= _TRANSPOSED_SIDE[style.dtype]
        if self.transposed:
            taps = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
            kernel = torch.einsum("ax,by,oixy->ioab", taps, taps, weight)
            self.conv = style.convolution(kernel, bias, 1, size, stride=2, relu=relu, transposed=True)
        else:
            self.conv = style.convolution(weight, bias, 1, (2 * size[0], 2 * size[1]), relu=relu)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', 2h, 2w)."""
        return self.conv(x if self.transposed else F.interpolate(x, scale_factor=2.0))


class FoldedUp(UpConvolution):
    """`UpBlock2d`.

    In one dimension, output 2i of up-sampling and convolution is w0 x[i-1] + (w1 + w2) x[i], and output 2i+1 is
    (w0 + w1) x[i] + w2 x[i+1]: a transposed convolution of four taps.
    """

    def __init__(self, block: UpBlock2d, size: Size, style: Style) -> None:
        super().__init__(*fold_norm(block.conv, block.norm), size, style, relu=True)


class FoldedUpJoin(nn.Module):
    """Up-sampling by 2, another input beside it, and a 3x3 convolution of both: the sum of one of each.

    Args:
        conv: over the up-sampled channels and then those of the other input.
        norm: after it; a ReLU follows.
        size: of what is up-sampled.
        style: how it is rewritten.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, size: Size, style: Style) -> None:
        super().__init__()
        weight, bias = fold_norm(conv, norm)
        other = len(weight)  # channels: as many as come out
        self.up = UpConvolution(weight[:, :-other], None, size, style, relu=False)
        self.other = style.convolution(weight[:, -other:], bias, 1, (2 * size[0], 2 * size[1]), relu=True)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Map (B, C, h, w) and (B, C', 2h, 2w) to (B, C', 2h, 2w)."""
        return self.other(other, self.up(x))


class FoldedRes(nn.Module):
    """`ResBlock2d`: its first norm stands before a ReLU and stays; the second is folded into `conv1`."""

    scale: Tensor
    shift: Tensor

    def __init__(self, block: ResBlock2d, size: Size, style: Style) -> None:
        super().__init__()
        scale, shift = norm_line(block.norm1)
        self.register_buffer("scale", scale[:, None, None].clone())
        self.register_buffer("shift", shift[:, None, None].clone())
        winograd = style.native and style.dtype == torch.float32 and len(scale) >= _WINOGRAD_CHANNELS
        self.dtype = style.dtype

        def convolution(weight: Tensor, bias: Tensor, relu: bool) -> nn.Module:
            if winograd:
                return WinogradConv2d(weight, bias, relu, size)
            return style.convolution(weight, bias, 1, size, relu=relu)

        self.conv1 = convolution(*fold_norm(block.conv1, block.norm2), relu=True)
        self.conv2 = convolution(*tensors_of(block.conv2), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 (B, C, h, w) to the same shape."""
        out = F.relu(torch.addcmul(self.shift, x, self.scale)).to(self.dtype)
        return x + self.conv2(self.conv1(out))


class FoldedHourglass(nn.Module):
    """`Hourglass` with folded blocks."""

    def __init__(self, hourglass: Hourglass, size: Size, style: Style) -> None:
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        down: list[Any] = list(hourglass.encoder.down_blocks)
        up: list[Any] = list(hourglass.decoder.up_blocks)
        sizes = [size]
        for block in down:
            self.down.append(FoldedSame(block, sizes[-1], style))
            sizes.append(halved(sizes[-1]))
        for block, small in zip(up, reversed(sizes[1:]), strict=True):
            self.up.append(FoldedUp(block, small, style))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w)."""
        maps = [x]
        for block in self.down:
            maps.append(block(maps[-1]))
        out = maps.pop()
        for block in self.up:
            out = torch.cat([block(out), maps.pop()], dim=1)
        return out


class PixelHead(nn.Module):
    """An odd-sized convolution to few channels, which computes 2x2 pixels at a position with stride 2."""

    def __init__(self, conv: nn.Conv2d, size: Size, style: Style) -> None:
        super().__init__()
        kernel = conv.kernel_size[0]
        weight, bias = tensors_of(conv)
        even = size[0] % 2 == size[1] % 2 == 0
        exact = style.native and style.dtype == torch.float32  # an exported part may be run in bfloat16
        self.shuffled = even and (exact or weight.shape[1] >= _SAFE_CHANNELS)
        if self.shuffled:
            shifted = [F.pad(weight, (x, 1 - x, y, 1 - y)) for y in (0, 1) for x in (0, 1)]
            stacked = torch.stack(shifted, dim=1).flatten(0, 1)  # (4 O, I, k+1, k+1), pixel_shuffle's order
            self.conv = style.convolution(stacked, bias.repeat_interleave(4), kernel // 2, size, stride=2)
        else:
            self.conv = style.convolution(weight, bias, kernel // 2, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w); h and w are even if `size` was."""
        return F.pixel_shuffle(self.conv(x), 2) if self.shuffled else self.conv(x)
