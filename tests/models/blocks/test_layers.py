"""The building blocks against their definitions, written out the long way."""

import math

import pytest
import torch
import torch.nn.functional as F

from kinecast.models.blocks.layers import (
    AntiAliasDownsample,
    Hourglass,
    coordinate_grid,
    gaussian_heatmaps,
    invert_2x2,
    multiply_2x2,
    transform_points,
    warp,
)


@pytest.mark.parametrize("height, width", [(4, 4), (5, 3), (2, 9)])
def test_grid_runs_corner_to_corner_x_first(height, width):
    grid = coordinate_grid(height, width, torch.zeros(()))
    wanted = [[[2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1] for x in range(width)] for y in range(height)]
    torch.testing.assert_close(grid, torch.tensor(wanted))


def test_inverse_and_products_of_2x2_against_linalg():
    matrix = torch.randn(5, 7, 2, 2, dtype=torch.float64)
    other, points = torch.randn(5, 7, 2, 2, dtype=torch.float64), torch.randn(5, 7, 2, dtype=torch.float64)
    torch.testing.assert_close(invert_2x2(matrix), torch.linalg.inv(matrix))
    torch.testing.assert_close(multiply_2x2(matrix, other), matrix @ other)
    torch.testing.assert_close(transform_points(matrix, points), (matrix @ points.unsqueeze(-1)).squeeze(-1))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (4, 1), (1, 4)], ids=str)
def test_products_of_2x2_broadcast_as_batches_do(shape):
    left, right = torch.randn(shape[0], 6, 2, 2), torch.randn(shape[1], 6, 2, 2)
    torch.testing.assert_close(multiply_2x2(left, right), left @ right)


def test_2x2_algebra_stays_float32_under_autocast():
    matrix = torch.randn(3, 2, 2) + 2 * torch.eye(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = multiply_2x2(matrix, invert_2x2(matrix))
    assert product.dtype == torch.float32
    torch.testing.assert_close(product, torch.eye(2).expand(3, 2, 2), atol=1e-5, rtol=0)


def test_heatmaps_are_gaussians_around_their_points():
    points = torch.tensor([[[0.0, 0.0], [1.0, -1.0]]])
    maps = gaussian_heatmaps(points, 5, 9, 0.01)
    assert maps.shape == (1, 2, 5, 9)
    assert maps[0, 0, 2, 4] == maps[0, 1, 0, 8] == 1  # x to the right, y downwards
    assert maps[0, 0, 2, 5] == pytest.approx(math.exp(-0.5 * 0.25**2 / 0.01))


def test_warp_samples_between_pixel_centres_and_is_zero_outside():
    image = torch.arange(6.0).view(1, 1, 2, 3)

    def at(x, y):
        return warp(image, torch.tensor([[[[x, y]]]])).item()

    # Without align_corners the picture spans [-1, 1] edge to edge: the left pixel's centre is at -2/3.
    assert at(-2 / 3, -0.5) == pytest.approx(0)
    assert at(0.0, 0.5) == pytest.approx(4)
    assert at(1 / 3, -0.5) == pytest.approx(1.5)
    assert at(-1.0, -0.5) == pytest.approx(0) and at(1.0, 0.5) == pytest.approx(2.5)  # half of 5, half of nothing
    assert at(3.0, 0.0) == 0


def test_warp_keeps_the_memory_format_and_the_precision_of_coordinates():
    image = torch.rand(2, 4, 8, 8).to(memory_format=torch.channels_last)
    grid = coordinate_grid(8, 8, image).expand(2, 8, 8, 2)
    out = warp(image, grid)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, warp(image.contiguous(), grid))
    assert warp(image.bfloat16(), grid).dtype == torch.float32


def published_kernel(scale: float) -> torch.Tensor:
    """The published anti-aliasing kernel, in double precision: a product of Gaussians over a mesh, normalised."""
    sigma = (1 / scale - 1) / 2
    size = 2 * round(sigma * 4) + 1
    axis = torch.arange(size, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    mean = (size - 1) / 2
    kernel = torch.exp(-((y - mean) ** 2) / (2 * sigma**2)) * torch.exp(-((x - mean) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125, 1 / 3])
@pytest.mark.parametrize("size", [(48, 48), (24, 48)], ids=str)
def test_antialias_is_blur_then_every_nth_pixel(scale, size):
    image = torch.rand(2, 3, *size)
    kernel = published_kernel(scale)
    pad = len(kernel) // 2
    blurred = F.conv2d(F.pad(image.double(), (pad,) * 4), kernel.repeat(3, 1, 1, 1), groups=3)
    step = round(1 / scale)
    found = AntiAliasDownsample(3, scale)(image)
    assert found.shape == (2, 3, size[0] // step, size[1] // step)
    torch.testing.assert_close(found.double(), blurred[:, :, ::step, ::step], atol=1e-6, rtol=0)


def test_antialias_of_scale_1_has_no_kernel_and_changes_nothing():
    down = AntiAliasDownsample(3, 1.0)
    image = torch.rand(1, 3, 8, 8)
    assert not down.state_dict()
    assert down(image) is image


@pytest.mark.parametrize("stride", range(1, 20))
def test_antialias_scale_is_read_back_from_the_kernel(stride):
    weight = AntiAliasDownsample(3, 1 / stride).state_dict().get("weight")
    assert AntiAliasDownsample.scale_of(weight) == 1 / stride


@pytest.mark.parametrize("blocks, expansion, widest", [(1, 4, 64), (2, 4, 64), (3, 4, 8), (2, 8, 4)])
def test_hourglass_keeps_the_size_and_appends_its_input(blocks, expansion, widest):
    network = Hourglass(3, expansion, blocks, widest).eval()
    image = torch.rand(2, 3, 16, 24)
    out = network(image)
    assert out.shape == (2, network.out_features, 16, 24)
    assert network.out_features == min(expansion, widest) + 3
    assert torch.equal(out[:, -3:], image)
    widths = [len(block.conv.bias) for block in network.encoder.down_blocks]  # type: ignore[union-attr, arg-type]
    assert widths == [min(widest, expansion * 2 ** (i + 1)) for i in range(blocks)]
