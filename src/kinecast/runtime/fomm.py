"""What a FOMM offers to the engines: its four parts, and the motion algebra between them, which is here and float32.

The same function as `kinecast.models.fomm`, in fewer passes over memory: an affine candidate motion is two numbers a
pixel from one matrix product, a Gaussian heatmap is an outer product of two lines, and warping, resizing and hiding
are one weighted gather of feature rows.

Notation: B frames at once, K keypoints, h x w the size that dense motion works at, h' x w' that of the features.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.models.blocks.layers import coordinate_grid, invert_2x2, multiply_2x2, transform_points
from kinecast.models.fomm import FOMM, Keypoints, SourceState, warp_pixels
from kinecast.runtime.fomm_parts import SKIPS, example_inputs, folded_parts
from kinecast.runtime.offers import Engined, Offer, Part
from kinecast.runtime.warping import warp_features

_PIXELS = 4 * 128 * 128  # in one pass: small frames share the cost of a call, large ones gain nothing but memory


class EngineFOMM(Engined, FOMM):
    """A FOMM whose parts an engine runs.

    `detector`: (B, 3, H, W) to points (B, K, 2) and, if the model has them, Jacobians (B, K, 2, 2).
    `encoder`: (1, 3, H, W) to a tuple of features (1, C, h, w), coarsest first, more than one with skips. `hourglass`:
    (B, 4(K+1), h, w) to logits of the mask (B, K+1, h, w) and, if the model has it, of the occlusion (B, 1, h, w).
    `renderer`: as many features (B, C, h, w) as the encoder's, and the warped source (B, 3, H, W) if its pixels are
    passed through, to frames.
    """

    def __init__(self, model: FOMM, parts: Mapping[str, nn.Module]) -> None:
        super().__init__(model)
        self.parts = nn.ModuleDict(parts)
        height, width = model.frame_size
        self.chunk = max(1, _PIXELS // (height * width))  # frames in one pass

    def find(self, frames: Tensor) -> Keypoints:
        """Return the keypoints of frames (B, 3, H, W)."""
        value, *jacobian = self.parts["detector"](_channels_last(frames))
        return Keypoints(value, jacobian[0] if jacobian else None)

    def encode(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W)."""
        small = self.generator.dense_motion_network.down(image)
        features = self.parts["encoder"](_channels_last(image))
        passed = image if self.config.generator.pass_through else None
        return SourceState(small, tuple(_channels_last(maps) for maps in features), passed)

    def draw(self, state: SourceState, source: Keypoints, driving: Keypoints) -> Tensor:
        """Return frames (B, 3, H, W) of the source by the keypoints of B frames."""
        maps, affine = self._candidates(state.small_image, source, driving)
        mask, *occlusion = self.parts["hourglass"](maps)
        height, width = mask.shape[2:]
        weights = F.softmax(mask, dim=1).flatten(2)
        # sum_k m_k (A_k z + c_k) = (sum_k m_k [A_k c_k]) (z 1): six numbers a pixel, then two
        mixed = torch.einsum("bkz,bkij->bijz", weights, affine)
        flow = (mixed * _homogeneous(height, width, mixed)).sum(dim=2).view(-1, 2, height, width)
        seen = torch.sigmoid(occlusion[0]) if occlusion else None
        corners = self.config.align_corners
        warped = [warp_features(features, flow, seen, corners) for features in state.features]
        if state.image is not None:
            warped.append(warp_pixels(state.image, flow))
        return self.parts["renderer"](*warped)

    def _candidates(self, small_source: Tensor, source: Keypoints, driving: Keypoints) -> tuple[Tensor, Tensor]:
        """Return the hourglass' input (B, 4(K+1), h, w) and all candidates as affine maps (B, K+1, 2, 3)."""
        height, width = small_source.shape[2:]
        points, anchor = driving.value, source.value
        batch, count = points.shape[:2]
        affine = points.new_zeros(batch, count + 1, 2, 3)
        affine[:, :, 0, 0] = affine[:, :, 1, 1] = 1
        if driving.jacobian is not None and source.jacobian is not None:
            affine[:, 1:, :, :2] = multiply_2x2(source.jacobian, invert_2x2(driving.jacobian))
        affine[:, 1:, :, 2] = anchor - transform_points(affine[:, 1:, :, :2], points)
        grid = affine.flatten(0, 2) @ _homogeneous(height, width, affine)
        grid = grid.view(1, batch * (count + 1), 2, height * width).permute(0, 1, 3, 2)
        warped = F.grid_sample(
            small_source,
            grid.reshape(1, -1, width, 2),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=self.config.align_corners,
        ).view(3, batch, count + 1, height, width)
        maps = points.new_zeros(batch, count + 1, 4, height, width)
        maps[:, 1:, 0] = self._heatmaps(points, height, width) - self._heatmaps(anchor, height, width)
        maps[:, :, 1:] = warped.permute(1, 2, 0, 3, 4)
        return _channels_last(maps.flatten(1, 2)), affine

    def _heatmaps(self, points: Tensor, height: int, width: int) -> Tensor:
        """Return exp(-|z - p|^2 / (2 variance)), (B, K, h, w), as an outer product."""
        grid = coordinate_grid(height, width, points)
        factor = -0.5 / self.config.kp_variance
        row = torch.exp(factor * (grid[0, :, 0] - points[..., :1]).square())
        column = torch.exp(factor * (grid[:, 0, 1] - points[..., 1:]).square())
        return column.unsqueeze(3) * row.unsqueeze(2)


def _homogeneous(height: int, width: int, like: Tensor) -> Tensor:
    """Return x, y and 1 of each pixel, (3, h w)."""
    grid = coordinate_grid(height, width, like).flatten(0, 1).T
    return torch.cat([grid, torch.ones_like(grid[:1])])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


OFFER = Offer(
    parts={
        "detector": Part(exact=True, outputs=("value", "jacobian")),
        "encoder": Part(exact=True, outputs=("features", *SKIPS)),
        "hourglass": Part(outputs=("mask", "occlusion")),
        "renderer": Part(single=True, outputs=("frame_rendered",)),
    },
    fold=folded_parts,
    examples=example_inputs,
    run=EngineFOMM,
    quantised="renderer",
    # The last convolution is the renderer's own or, of the compact generator, the module itself; errors there nothing
    # smooths, and oneDNN computes it wrongly in int8 (as `folded._SAFE_CHANNELS`). Leaving out the sums of the residual
    # blocks takes a third off the error; the other two blend the warped source in.
    full=(r".*final[./].*Convolution",),
    full_types=("Add", "Subtract", "Multiply"),
)
