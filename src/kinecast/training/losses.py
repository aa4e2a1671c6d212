"""The random warp for training keypoint detectors, and its losses: Siarohin et al. 2019, section 3.4."""

from collections.abc import Callable
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.models.blocks.layers import coordinate_grid, invert_2x2, multiply_2x2
from kinecast.models.fomm import Keypoints
from kinecast.models.tps import spline_basis

Kernel = Callable[[Tensor], Tensor]  # from offsets (..., 2) from a control point to its weight (...)


def manhattan_kernel(offsets: Tensor) -> Tensor:
    """Return r^2 log r with r the L1 distance, as in the training of FOMM and face-vid2vid."""
    radius = offsets.abs().sum(dim=-1)
    return radius.square() * torch.log(radius + 1e-6)


def thin_plate_kernel(offsets: Tensor) -> Tensor:
    """Return r^2 log r^2 with r the Euclidean distance, the thin-plate spline's own, as in the training of TPS."""
    return spline_basis(offsets.square().sum(dim=-1))


class RandomTransform:
    """A random smooth warp of the plane for each picture of a batch: affine plus thin-plate spline.

    The kernel and the sampling convention depend on the backbone: `kinecast.training.methods`.

    Args:
        batch: B.
        sigma_affine: spread of the affine part around the identity.
        sigma_tps: spread of the spline's weights.
        points: control points along each side.
        generator: source of randomness, on the CPU, so that a run is the same on every device.
        kernel: of the spline.
        align_corners: how `transform` samples. Its grid spans the pixels' centres, so that with False even the identity
            shifts a picture slightly, as in FOMM's code today.
    """

    def __init__(
        self,
        batch: int,
        generator: torch.Generator,
        sigma_affine: float = 0.05,
        sigma_tps: float = 0.005,
        points: int = 5,
        device: torch.device | str = "cpu",
        kernel: Kernel = manhattan_kernel,
        align_corners: bool = False,
    ) -> None:
        self.kernel, self.align_corners = kernel, align_corners
        noise = sigma_affine * torch.randn(batch, 2, 3, generator=generator)
        self.affine = (noise + torch.eye(2, 3)).to(device)
        self.control = coordinate_grid(points, points, self.affine).reshape(-1, 2)
        self.weights = (sigma_tps * torch.randn(batch, points**2, generator=generator)).to(device)

    def __getitem__(self, part: slice) -> "RandomTransform":
        """Return the warps of some pictures of the batch."""
        other = copy(self)
        other.affine, other.weights = self.affine[part], self.weights[part]
        return other

    def warp_points(self, points: Tensor) -> Tensor:
        """Map points (B, M, 2) of the transformed picture to the original, (B, M, 2)."""
        return self._straight(points) + (self._spline_basis(points) * self.weights.unsqueeze(1)).sum(
            dim=2, keepdim=True
        )

    def _straight(self, points: Tensor) -> Tensor:
        return points @ self.affine[:, :, :2].transpose(1, 2) + self.affine[:, None, :, 2]

    def _spline_basis(self, points: Tensor) -> Tensor:
        """Return the weight of each control point, (..., M, controls)."""
        return self.kernel(points.unsqueeze(-2) - self.control)

    def jacobian(self, points: Tensor) -> Tensor:
        """Return the derivative (B, M, 2, 2) of `warp_points` at `points`, with gradient."""
        with torch.enable_grad():
            points = points if points.requires_grad else points.detach().requires_grad_()
            warped = self.warp_points(points)
            rows = [torch.autograd.grad(warped[..., i].sum(), points, create_graph=True)[0] for i in (0, 1)]
        return torch.stack(rows, dim=-2)

    def transform(self, frames: Tensor) -> Tensor:
        """Warp pictures (B, 3, H, W), reflecting at the border."""
        height, width = frames.shape[2:]
        pixels = coordinate_grid(height, width, self.affine).reshape(-1, 2)
        bend = self.weights @ self._spline_basis(pixels).T  # the basis is shared by all pictures
        grid = (self._straight(pixels) + bend.unsqueeze(2)).view(len(frames), height, width, 2)
        return F.grid_sample(frames, grid, padding_mode="reflection", align_corners=self.align_corners)


def equivariance_losses(
    keypoints: Keypoints, transformed: Keypoints, transform: RandomTransform
) -> tuple[Tensor, Tensor | None]:
    """Compare keypoints of a picture with those detected in its warped copy and mapped back (Siarohin et al., eq. 7-9).

    Returns the mean L1 distance of positions, and of J^-1 T'(p) J_transformed to the identity.
    """
    with torch.autocast(keypoints.value.device.type, enabled=False):  # half precision would shift the points
        value = (keypoints.value - transform.warp_points(transformed.value)).abs().mean()
        if keypoints.jacobian is None or transformed.jacobian is None:
            return value, None
        mapped = multiply_2x2(transform.jacobian(transformed.value), transformed.jacobian)
        product = multiply_2x2(invert_2x2(keypoints.jacobian), mapped)
        return value, (product - torch.eye(2, device=product.device)).abs().mean()
