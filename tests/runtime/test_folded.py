"""Every rewritten block is the block it was made of, up to float32 rounding."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kinecast.models.blocks.layers import DownBlock2d, Hourglass, ResBlock2d, SameBlock2d, UpBlock2d, warp
from kinecast.runtime import folded
from kinecast.runtime.convolution import Convolution
from kinecast.runtime.warping import warp_features
from kinecast.runtime.winograd import WinogradConv2d
from tiny import shake

STYLES = pytest.mark.parametrize(
    "style", [folded.Style(native=True), folded.Style(native=False)], ids=["native", "plain"]
)


def shaken(module: Any) -> Any:
    shake(module)
    return module.eval()


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (5, 9), (1, 3)])
@pytest.mark.parametrize("batch", [1, 3])
def test_winograd_is_the_convolution(size: tuple[int, int], batch: int) -> None:
    conv = shaken(nn.Conv2d(6, 5, 3, padding=1))
    x = torch.randn(batch, 6, *size, generator=torch.Generator().manual_seed(0))
    assert conv.bias is not None
    with torch.inference_mode():
        for relu, packed_for in ((False, None), (True, size)):
            found = WinogradConv2d(conv.weight, conv.bias, relu, packed_for)(x)
            torch.testing.assert_close(found, F.relu(conv(x)) if relu else conv(x), atol=2e-5, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (3, 5), (1, 1)])
@STYLES
def test_transposed_convolution_is_upsampling_and_convolution(size: tuple[int, int], style: folded.Style) -> None:
    block = shaken(UpBlock2d(4, 6))
    x = torch.randn(2, 4, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for side in (2, 64):  # below and above where the rewriting pays; the inputs are of neither size
            up = folded.FoldedUp(block, (side, side), style)
            assert up.transposed == (side == 64)
            torch.testing.assert_close(up(x), block(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [SameBlock2d, DownBlock2d])
@STYLES
def test_norms_are_folded(kind: type[SameBlock2d], style: folded.Style) -> None:
    block = shaken(kind(4, 6))
    x = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(folded.FoldedSame(block, (8, 6), style)(x), block(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels", [8, 128])
@STYLES
def test_residual_block(channels: int, style: folded.Style) -> None:
    block = shaken(ResBlock2d(channels))
    x = torch.randn(2, channels, 6, 5, generator=torch.Generator().manual_seed(0))
    given = x.clone()
    fast = folded.FoldedRes(block, (6, 5), style)
    assert isinstance(fast.conv1, WinogradConv2d) == (style.native and channels == 128)
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), block(x), atol=1e-4, rtol=0)
    assert torch.equal(x, given)  # nothing is done in place to what it was given


@STYLES
def test_hourglass(style: folded.Style) -> None:
    hourglass = shaken(Hourglass(5, 4, 3, 16))
    x = torch.randn(2, 5, 16, 24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        fast = folded.FoldedHourglass(hourglass, (16, 24), style)(x)
        torch.testing.assert_close(fast, hourglass(x), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", [3, 7])
@STYLES
def test_head_of_four_pixels(kernel: int, style: folded.Style) -> None:
    conv = shaken(nn.Conv2d(4, 3, kernel, padding=kernel // 2))
    x = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(folded.PixelHead(conv, (8, 12), style)(x), conv(x), atol=1e-5, rtol=0)


def test_warping_continues_the_border() -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 12, 16, generator=random)
    flow = 1.5 * torch.randn(3, 2, 12, 16, generator=random)
    expected = F.grid_sample(
        features.expand(3, -1, -1, -1), flow.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )
    with torch.inference_mode():
        torch.testing.assert_close(warp_features(features, flow, border=True), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("size", [(8, 6), None], ids=["packed", "plain"])
def test_a_convolution_adds_before_its_relu(size: tuple[int, int] | None, relu: bool) -> None:
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(5, 4, 3, 3, generator=random), torch.randn(5, generator=random)
    x, more = torch.randn(2, 4, 8, 6, generator=random), torch.randn(2, 5, 8, 6, generator=random)
    expected = F.conv2d(x, weight, bias, padding=1) + more
    with torch.inference_mode():
        found = Convolution(weight, bias, 1, relu=relu, size=size)(x, more)
        torch.testing.assert_close(found, F.relu(expected) if relu else expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [4, 16])  # below and above where a transposed convolution is taken
@STYLES
def test_up_sampling_beside_another_input(side: int, style: folded.Style) -> None:
    conv, norm = shaken(nn.Conv2d(6 + 5, 5, 3, padding=1, bias=False)), shaken(nn.BatchNorm2d(5))
    random = torch.Generator().manual_seed(0)
    x, other = torch.randn(2, 6, side, side, generator=random), torch.randn(2, 5, 2 * side, 2 * side, generator=random)
    with torch.inference_mode():
        both = torch.cat((F.interpolate(x, scale_factor=2.0), other), dim=1)
        found = folded.FoldedUpJoin(conv, norm, (side, side), style)(x, other)
        torch.testing.assert_close(found, F.relu(norm(conv(both))), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("native", [True, False])
def test_inputs_keep_their_values(dtype: torch.dtype, native: bool) -> None:
    x = torch.randn(2, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        found = folded.Style(dtype, native).input(given)
        assert torch.equal(found, x.to(dtype)) and found.is_contiguous(memory_format=torch.channels_last) >= native


def test_a_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be folded"):
        folded.norm_line(nn.BatchNorm2d(4, track_running_stats=False))


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("size", [(6, 8), (12, 16)])
def test_warping_by_rows_is_grid_sampling(size: tuple[int, int], hidden: bool) -> None:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(1, 5, 12, 16, generator=random)
    flow = 1.5 * torch.randn(3, 2, *size, generator=random)  # far outside too, where zeros are
    flow[0, :, 0, 0] = 1e30  # as from a Jacobian without an inverse
    seen = torch.rand(3, 1, *size, generator=random) if hidden else None
    with torch.inference_mode():
        found = warp_features(features, flow, seen)

        def resized(maps: torch.Tensor) -> torch.Tensor:
            same = maps.shape[2:] == features.shape[2:]
            return maps if same else F.interpolate(maps, size=(12, 16), mode="bilinear", align_corners=False)

        expected = warp(features.expand(3, -1, -1, -1), resized(flow).permute(0, 2, 3, 1))
        expected = expected if seen is None else expected * resized(seen)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
