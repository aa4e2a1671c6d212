r"""First Order Motion Model, Siarohin et al. 2019 (arXiv 2003.00196), with the published state-dict names.

    source ----------> encoder -> features --warp, occlude--> bottleneck -> decoder -> frame
       |                                      ^
       v                                      | deformation, occlusion map
    kp_detector -> p_s, J_s --\               |
                               dense motion --+
    driving -> kp_detector -> p_d, J_d --/

Notation: B batch, T frames, K keypoints, h x w the size of dense motion.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.models.blocks.layers import (
    AntiAliasDownsample,
    DownBlock2d,
    Hourglass,
    ResBlock2d,
    SameBlock2d,
    UpBlock2d,
    coordinate_grid,
    gaussian_heatmaps,
    invert_2x2,
    multiply_2x2,
    transform_points,
    warp,
)
from kinecast.models.fomm.config import FOMMConfig


class Keypoints(NamedTuple):
    """Points `value` (B, K, 2) in [-1, 1] and their local affine frames `jacobian` (B, K, 2, 2), if estimated."""

    value: Tensor
    jacobian: Tensor | None


class KPDetector(nn.Module):
    """Keypoints as the means of soft heatmaps, with Jacobians pooled by the same heatmaps (paper section 3.1)."""

    def __init__(self, config: FOMMConfig) -> None:
        super().__init__()
        part = config.detector
        self.down = AntiAliasDownsample(3, part.scale_factor)
        self.predictor = Hourglass(3, part.block_expansion, part.num_blocks, part.max_features)
        self.kp = nn.Conv2d(self.predictor.out_features, config.num_keypoints, 7, padding=config.head_padding)
        self.jacobian: nn.Conv2d | None = None
        if config.estimate_jacobian:
            maps = 1 if config.single_jacobian_map else config.num_keypoints
            self.jacobian = nn.Conv2d(self.predictor.out_features, 4 * maps, 7, padding=config.head_padding)
            nn.init.zeros_(self.jacobian.weight)
            self.jacobian.bias = nn.Parameter(torch.tensor([1.0, 0, 0, 1]).repeat(maps))
        self.temperature = config.temperature

    def forward(self, image: Tensor) -> Keypoints:
        """Detect keypoints in images (B, 3, H, W)."""
        features = self.predictor(self.down(image))
        # A heatmap's logits are divided by the temperature: half-precision rounding would shift the points.
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            logits = self.kp(features)
            batch, count, height, width = logits.shape
            heatmap = F.softmax(logits.flatten(2) / self.temperature, dim=2).view(batch, count, height, width)
            grid = coordinate_grid(height, width, heatmap)
            value = (heatmap.unsqueeze(-1) * grid).sum(dim=(2, 3))
            if self.jacobian is None:
                return Keypoints(value, None)
            maps = self.jacobian(features).view(batch, -1, 4, height, width)
            jacobian = (heatmap.unsqueeze(2) * maps).sum(dim=(3, 4)).view(batch, count, 2, 2)
        return Keypoints(value, jacobian)


class DenseMotion(NamedTuple):
    """Backward flow `deformation` (B, h, w, 2), `mask` (B, K+1, h, w), and `occlusion_map` (B, 1, h, w) or None."""

    deformation: Tensor
    mask: Tensor
    occlusion_map: Tensor | None


class DenseMotionNetwork(nn.Module):
    """Combines K local affine motions and a still background into one backward flow (paper section 3.2)."""

    def __init__(self, config: FOMMConfig) -> None:
        super().__init__()
        part = config.dense_motion
        candidates = config.num_keypoints + 1
        self.down = AntiAliasDownsample(3, part.scale_factor)
        self.hourglass = Hourglass(4 * candidates, part.block_expansion, part.num_blocks, part.max_features)
        self.mask = nn.Conv2d(self.hourglass.out_features, candidates, 7, padding=3)
        self.occlusion = nn.Conv2d(self.hourglass.out_features, 1, 7, padding=3) if config.estimate_occlusion else None
        self.kp_variance, self.align_corners = config.kp_variance, config.align_corners

    def forward(self, small_source: Tensor, kp_driving: Keypoints, kp_source: Keypoints) -> DenseMotion:
        """Estimate the motion of a source already reduced by `down`, (B, 3, h, w), or (1, 3, h, w) for all."""
        maps, sparse = self.candidates(small_source, kp_driving, kp_source)
        return self.combine(sparse, *self.predict_logits(maps))

    def candidates(self, small_source: Tensor, kp_driving: Keypoints, kp_source: Keypoints) -> tuple[Tensor, Tensor]:
        """Return the hourglass's input, (B, 4(K+1), h, w), and all candidate motions (B, K+1, h, w, 2)."""
        height, width = small_source.shape[2:]
        batch, count = kp_driving.value.shape[:2]
        sparse = self._sparse_motions(kp_driving, kp_source, height, width)
        heatmaps = gaussian_heatmaps(kp_driving.value, height, width, self.kp_variance) - gaussian_heatmaps(
            kp_source.value, height, width, self.kp_variance
        )
        heatmaps = torch.cat([torch.zeros_like(heatmaps[:, :1]), heatmaps], dim=1)
        shared = small_source.shape[0] == 1
        grid = sparse.view(
            1 if shared else batch, -1, width, 2
        )  # all candidates in one tall grid: no copies of the source
        warped = warp(small_source, grid, self.align_corners)
        if shared:
            warped = warped.view(3, batch, count + 1, height, width).permute(1, 2, 0, 3, 4)
        else:
            warped = warped.view(batch, 3, count + 1, height, width).transpose(1, 2)
        return torch.cat([heatmaps.unsqueeze(2), warped], dim=2).flatten(1, 2), sparse

    def predict_logits(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits of the mask (B, K+1, h, w) and of the occlusion map (B, 1, h, w), or None."""
        features = self.hourglass(maps)
        return self.mask(features).float(), None if self.occlusion is None else self.occlusion(features).float()

    @staticmethod
    def combine(sparse: Tensor, mask: Tensor, occlusion: Tensor | None) -> DenseMotion:
        """Mix the candidate motions (B, K+1, h, w, 2) by the logits of `predict_logits`."""
        mask = F.softmax(mask, dim=1)
        deformation = (sparse * mask.unsqueeze(-1)).sum(dim=1)
        return DenseMotion(deformation, mask, None if occlusion is None else torch.sigmoid(occlusion))

    def _sparse_motions(self, kp_driving: Keypoints, kp_source: Keypoints, height: int, width: int) -> Tensor:
        """J_s J_d^-1 (z - p_d) + p_s for every keypoint (equation 4), after the identity: (B, K+1, h, w, 2)."""
        identity = coordinate_grid(height, width, kp_driving.value)
        offsets = identity - kp_driving.value[:, :, None, None]
        if kp_driving.jacobian is not None and kp_source.jacobian is not None:
            matrix = multiply_2x2(kp_source.jacobian, invert_2x2(kp_driving.jacobian))
            offsets = transform_points(matrix[:, :, None, None], offsets)
        motions = offsets + kp_source.value[:, :, None, None]
        background = identity.expand(len(motions), 1, *identity.shape)
        return torch.cat([background, motions], dim=1)


class SourceState(NamedTuple):
    """The encoded source: `small_image` for dense motion, encoder `features`, coarsest first.

    `image` is the source itself, if its pixels are passed through.
    """

    small_image: Tensor
    features: tuple[Tensor, ...]
    image: Tensor | None = None


class OcclusionAwareGenerator(nn.Module):
    """Warps the source's features by the dense motion, applies the occlusion map, and decodes (paper section 3.3)."""

    def __init__(self, config: FOMMConfig) -> None:
        super().__init__()
        part = config.generator
        widths = part.widths
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        pixels, kernel = 3 * part.shuffle**2, 7 if part.shuffle == 1 else 3
        self.dense_motion_network = DenseMotionNetwork(config)
        self.first = SameBlock2d(pixels, part.block_expansion, kernel)
        self.down_blocks = nn.ModuleList(DownBlock2d(narrow, wide) for narrow, wide in steps)
        self.bottleneck = _residual_blocks(widths[-1], part.num_bottleneck_blocks)
        self.up_blocks = nn.ModuleList(UpBlock2d(wide, narrow) for narrow, wide in reversed(steps))
        self.skips = nn.ModuleList(nn.Conv2d(width, width, 1) for width in widths[-2::-1] if part.skips)
        self.refine = _residual_blocks(part.block_expansion, part.num_refine_blocks)
        drawn = pixels + part.shuffle**2 if part.pass_through else pixels
        self.final = nn.Conv2d(part.block_expansion, drawn, kernel, padding=kernel // 2)
        self.shuffle, self.pass_through = part.shuffle, part.pass_through
        self.align_corners = config.align_corners

    def encode(self, source: Tensor) -> SourceState:
        """Encode sources (B, 3, H, W)."""
        maps = [self.first(F.pixel_unshuffle(source, self.shuffle))]
        for block in self.down_blocks:
            maps.append(block(maps[-1]))
        coarsest = maps.pop()
        finer = (skip(x) for skip, x in zip(self.skips, reversed(maps), strict=False))  # none without skips
        small, image = self.dense_motion_network.down(source), source if self.pass_through else None
        return SourceState(small, (coarsest, *finer), image)

    def decode(self, state: SourceState, motion: DenseMotion) -> Tensor:
        """Render frames (B, 3, H, W) in [0, 1]; the state holds B sources, or one for all."""
        maps = [_deform(features, motion, self.align_corners) for features in state.features]
        if state.image is not None:
            maps.append(warp_pixels(state.image, motion.deformation.permute(0, 3, 1, 2)))
        return self.render(*maps)

    def render(self, features: Tensor, *others: Tensor) -> Tensor:
        """Decode to frames (B, 3, H, W) in [0, 1].

        Args:
            features: warped and occluded (B, C, h, w).
            others: features of skips, coarsest first; then, with `pass_through`, the warped source (B, 3, H, W).
        """
        out = self.bottleneck(features)
        for i, block in enumerate(self.up_blocks):
            out = block(out) + others[i] if self.skips else block(out)
        drawn = F.pixel_shuffle(self.final(self.refine(out)), self.shuffle).float()
        return blend(drawn, others[-1]) if self.pass_through else torch.sigmoid(drawn)

    def forward(self, source: Tensor, kp_driving: Keypoints, kp_source: Keypoints) -> tuple[Tensor, DenseMotion]:
        """Animate sources (B, 3, H, W) as published, without caching; returns the frames and the dense motion."""
        state = self.encode(source)
        motion = self.dense_motion_network(state.small_image, kp_driving, kp_source)
        return self.decode(state, motion), motion


def warp_pixels(image: Tensor, flow: Tensor) -> Tensor:
    """Warp sources (B, 3, H, W), or one for all, by flows (B, 2, h, w) in full size: (B, 3, H, W).

    The displacement is resized, so that zero motion leaves every pixel unchanged. `warp` without `align_corners` does
    not: its grid, which spans the pixels' centres, is then read as if it spanned the edges. Beyond the border the
        source's outermost pixels are repeated.
    """
    height, width = image.shape[2:]
    h, w = flow.shape[2:]
    motion = _edge_to_edge(flow.permute(0, 2, 3, 1) - coordinate_grid(h, w, flow)).permute(0, 3, 1, 2)
    motion = F.interpolate(motion, size=(height, width), mode="bilinear", align_corners=False)
    grid = _edge_to_edge(coordinate_grid(height, width, flow)) + motion.permute(0, 2, 3, 1)
    sources = image.to(flow.dtype).expand(len(flow), -1, -1, -1)
    return F.grid_sample(sources, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _edge_to_edge(grid: Tensor) -> Tensor:
    """Scale a grid (..., h, w, 2) from -1 and 1 at the outermost centres to -1 and 1 at the edges."""
    height, width = grid.shape[-3:-1]
    return grid * grid.new_tensor([(width - 1) / width, (height - 1) / height])


def blend(drawn: Tensor, moved: Tensor) -> Tensor:
    """Mix logits of pixels and of a mask (B, 4, H, W) with the warped source `moved` (B, 3, H, W): (B, 3, H, W)."""
    pixels, mask = torch.sigmoid(drawn).split([3, 1], dim=1)
    return pixels + mask * (moved - pixels)


def _residual_blocks(features: int, count: int) -> nn.Sequential:
    blocks = nn.Sequential()
    for i in range(count):
        blocks.add_module(f"r{i}", ResBlock2d(features))
    return blocks


def _deform(features: Tensor, motion: DenseMotion, align_corners: bool) -> Tensor:
    """Warp and occlude features (B, C, h', w'), or (1, C, h', w') of a source for all frames."""
    size = features.shape[2:]
    deformation = _resize(motion.deformation.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)
    if len(features) != len(deformation):
        features = features.expand(len(deformation), -1, -1, -1)
    out = warp(features, deformation, align_corners)
    return out if motion.occlusion_map is None else out * _resize(motion.occlusion_map, size)


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
