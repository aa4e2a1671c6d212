r"""One-shot neural talking heads (face-vid2vid), Wang, Mallya & Liu 2021 (arXiv 2011.15126), with published names.

    source -> kp_detector -> canonical keypoints x_c ----------\
    source -> he_estimator -> R, t, expression of the source    +-> x_s, x_d -> dense motion (3D)
    driving -> he_estimator -> R, t, expression of the driving -/                   |
    source -> encoder -> feature volume --------------------------- warp, occlude --+--> decoder -> frame

The motion of one frame is the head pose estimator's output: expression (K x 3), rotation (yaw, pitch, roll in radians),
translation. The canonical keypoints depend on the source picture alone, so they are in `SourceState` and not part of
the motion. All sampling is without align_corners.

Notation: B batch, T frames, K keypoints, d the volume's depth, h x w its height and width.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.models.blocks.layers import AntiAliasDownsample, DownBlock2d, ResBlock2d, SameBlock2d, UpBlock2d
from kinecast.models.blocks.spade import SpadeDecoder
from kinecast.models.blocks.volumes import (
    Conv3d,
    Hourglass3d,
    ResBlock3d,
    UpBlock3d,
    coordinate_volume,
    gaussian_volumes,
    warp_volume,
)
from kinecast.models.face_vid2vid.config import DetectorConfig, FaceVid2VidConfig


class VolumePredictor(nn.Module):
    """Pictures to feature volumes: 2D down blocks, a 1x1 convolution into depth, 3D up blocks, no shortcuts."""

    def __init__(self, part: DetectorConfig) -> None:
        super().__init__()
        widths = [min(part.max_features, part.block_expansion * 2**i) for i in range(part.num_blocks + 1)]
        self.down_blocks, self.up_blocks = nn.Sequential(), nn.Sequential()
        for i, (narrow, wide) in enumerate(zip([3, *widths[1:]][:-1], widths[1:], strict=True)):
            self.down_blocks.add_module(f"down{i}", DownBlock2d(narrow, wide))
        self.conv = nn.Conv2d(widths[-1], widths[-1] * part.depth, 1)
        for i, (wide, narrow) in enumerate(zip(widths[:0:-1], widths[-2::-1], strict=True)):
            self.up_blocks.add_module(f"up{i}", UpBlock3d(wide, narrow))
        self.depth, self.out_features = part.depth, widths[0]

    def forward(self, image: Tensor) -> Tensor:
        """Map (B, 3, h, w) to (B, C, d, h, w)."""
        flat = self.conv(self.down_blocks(image))
        return self.up_blocks(flat.unflatten(1, (-1, self.depth)))


class KPDetector(nn.Module):
    """Canonical keypoints (B, K, 3), x, y and z, as means of soft heatmaps in a volume (paper section 3.1)."""

    def __init__(self, config: FaceVid2VidConfig) -> None:
        super().__init__()
        self.down = AntiAliasDownsample(3, config.detector.scale_factor)
        self.predictor = VolumePredictor(config.detector)
        self.kp = Conv3d(self.predictor.out_features, config.num_keypoints, 3, padding=1)
        self.temperature = config.temperature

    def forward(self, image: Tensor) -> Tensor:
        """Detect keypoints in images (B, 3, H, W)."""
        features = self.predictor(self.down(image))
        with torch.autocast(features.device.type, enabled=False):  # the temperature amplifies rounding
            logits = self.kp(features.float())
            heatmap = F.softmax(logits.flatten(2) / self.temperature, dim=2)
            depth, height, width = logits.shape[2:]
            return heatmap @ coordinate_volume(depth, height, width, heatmap).view(-1, 3)


class DenseMotion(NamedTuple):
    """Backward flow (B, d, h, w, 3), `mask` (B, K+1, d, h, w), and `occlusion_map` (B, 1, h, w) or None."""

    deformation: Tensor
    mask: Tensor
    occlusion_map: Tensor | None


class DenseMotionNetwork(nn.Module):
    """Combines K moved keypoints and a still background into one backward flow of a volume (paper section 3.3)."""

    def __init__(self, config: FaceVid2VidConfig) -> None:
        super().__init__()
        part, volume = config.dense_motion, config.generator
        candidates = config.num_keypoints + 1
        self.compress = Conv3d(volume.channels, part.compress, 1)
        self.norm = nn.BatchNorm3d(part.compress)
        self.hourglass = Hourglass3d(
            (part.compress + 1) * candidates, part.block_expansion, part.num_blocks, part.max_features
        )
        self.mask = Conv3d(self.hourglass.out_features, candidates, 7, padding=3)
        self.occlusion: nn.Conv2d | None = None
        if volume.estimate_occlusion:
            self.occlusion = nn.Conv2d(self.hourglass.out_features * volume.depth, 1, 7, padding=3)
        self.kp_variance = config.kp_variance

    def compressed(self, volume: Tensor) -> Tensor:
        """Reduce feature volumes (B, C, d, h, w) to the channels that every candidate warps."""
        return F.relu(self.norm(self.compress(volume)))

    def forward(self, compressed: Tensor, kp_driving: Tensor, kp_source: Tensor) -> DenseMotion:
        """Estimate the motion of `compressed` volumes (B, C, d, h, w), or (1, ...) for all; keypoints (B, K, 3)."""
        batch, count = kp_driving.shape[:2]
        depth, height, width = compressed.shape[2:]
        grid = coordinate_volume(depth, height, width, kp_driving)
        shifts = (kp_source - kp_driving)[:, :, None, None, None]
        sparse = torch.cat([grid.expand(batch, 1, *grid.shape), grid + shifts], dim=1)
        heatmaps = gaussian_volumes(kp_driving, grid, self.kp_variance) - gaussian_volumes(
            kp_source, grid, self.kp_variance
        )
        heatmaps = torch.cat([torch.zeros_like(heatmaps[:, :1]), heatmaps], dim=1)
        deep = sparse.reshape(batch, -1, height, width, 3)  # all candidates in one deep grid: no copies of the source
        warped = warp_volume(compressed.expand(batch, -1, -1, -1, -1), deep)
        warped = warped.unflatten(2, (count + 1, depth)).transpose(1, 2)
        features = self.hourglass(torch.cat([heatmaps.unsqueeze(2), warped], dim=2).flatten(1, 2))
        mask = F.softmax(self.mask(features).float(), dim=1)
        deformation = (sparse * mask.unsqueeze(-1)).sum(dim=1)
        occlusion = None if self.occlusion is None else torch.sigmoid(self.occlusion(features.flatten(1, 2)).float())
        return DenseMotion(deformation, mask, occlusion)


class SourceState(NamedTuple):
    """The encoded source: `canonical` keypoints (1, K, 3), the feature `volume`, and it `compressed`."""

    canonical: Tensor
    volume: Tensor
    compressed: Tensor


class LeakyBlock2d(SameBlock2d):
    """`SameBlock2d` with a leaky ReLU, slope 0.01, used only for the block after the volume."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w)."""
        return F.leaky_relu(self.norm(self.conv(x)), 0.01)


class Generator(nn.Module):
    """Lifts the source's features into a volume, warps and flattens it, applies the occlusion map, and decodes."""

    def __init__(self, config: FaceVid2VidConfig) -> None:
        super().__init__()
        part = config.generator
        widths = [min(part.max_features, part.block_expansion * 2**i) for i in range(part.num_down_blocks + 1)]
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.dense_motion_network = DenseMotionNetwork(config)
        self.first = SameBlock2d(3, widths[0], part.first_side)
        self.down_blocks = nn.ModuleList(DownBlock2d(narrow, wide) for narrow, wide in steps)
        self.second = nn.Conv2d(widths[-1], part.channels * part.depth, 1)
        self.resblocks_3d = nn.Sequential()
        for i in range(part.volume_blocks):
            self.resblocks_3d.add_module(f"3dr{i}", ResBlock3d(part.channels))
        self.third = LeakyBlock2d(part.channels * part.depth, widths[-1])
        self.fourth = nn.Conv2d(widths[-1], widths[-1], 1)
        self.spade = part.spade is not None
        if part.spade is not None:
            self.decoder = SpadeDecoder(widths[-1], widths[0], part.num_down_blocks, part.blocks, part.spade)
        else:
            self.resblocks_2d = nn.Sequential()
            for i in range(part.blocks):
                self.resblocks_2d.add_module(f"2dr{i}", ResBlock2d(widths[-1]))
            self.up_blocks = nn.ModuleList(UpBlock2d(wide, narrow) for narrow, wide in reversed(steps))
            self.final = nn.Conv2d(widths[0], 3, 7, padding=3)
        self.depth = part.depth

    def encode(self, source: Tensor) -> Tensor:
        """Return feature volumes (B, C, d, h, w) of sources (B, 3, H, W)."""
        features = self.first(source)
        for block in self.down_blocks:
            features = block(features)
        return self.resblocks_3d(self.second(features).unflatten(1, (-1, self.depth)))

    def decode(self, volume: Tensor, motion: DenseMotion) -> Tensor:
        """Render frames (B, 3, H, W) in [0, 1] from B volumes, or one for all."""
        volume = volume.expand(len(motion.deformation), -1, -1, -1, -1)
        out = self.fourth(self.third(warp_volume(volume, motion.deformation).flatten(1, 2)))
        if motion.occlusion_map is not None:
            out = out * motion.occlusion_map
        if self.spade:
            return self.decoder(out)
        out = self.resblocks_2d(out)
        for block in self.up_blocks:
            out = block(out)
        return torch.sigmoid(self.final(out).float())
