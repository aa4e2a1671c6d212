r"""Thin-Plate Spline motion model, Zhao & Zhang 2022 (arXiv 2203.14367), with the published state-dict names.

    source -> encoder -> features at every size --warp, occlude--> inpainting -> frame
       |                                              ^
       v                                              | deformation, one occlusion map a size
    kp_detector -> 5 K points --\                     |
                                K splines, background +--> dense motion
    driving -> kp_detector -> 5 K points --/

All sampling uses align_corners. The motion of one frame is the points alone: [x y] of 5 points of K splines. The affine
background motion needs the driving picture, so a receiver cannot compute it, and the published animation omits it too;
`background` and the last argument of `animate` are for callers with both pictures.

Notation: B batch, T frames, K splines, N = 5 K points, h x w the size of dense motion.
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
    instance_norm,
    warp,
)
from kinecast.models.blocks.resnet import ResNet18
from kinecast.models.tps.config import POINTS, AVDConfig, InpaintingConfig, TPSConfig

_RIDGE = 0.01  # added to the diagonal of a spline's system: points may coincide


class KPDetector(nn.Module):
    """A residual network that returns the points (B, N, 2) in (-1, 1) directly (paper section 3.1)."""

    def __init__(self, config: TPSConfig) -> None:
        super().__init__()
        self.fg_encoder = ResNet18(3, config.num_splines * POINTS * 2, config.detector)

    def forward(self, image: Tensor) -> Tensor:
        """Detect points in images (B, 3, H, W)."""
        return (2 * torch.sigmoid(self.fg_encoder(image).float()) - 1).view(len(image), -1, 2)


class BackgroundPredictor(nn.Module):
    """The affine motion of the background from a driving to a source picture (paper section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bg_encoder = ResNet18(6, 6, width)
        nn.init.zeros_(self.bg_encoder.fc.weight)
        self.bg_encoder.fc.bias = nn.Parameter(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        """Return homogeneous matrices (B, 3, 3) for pictures (B, 3, H, W)."""
        rows = self.bg_encoder(torch.cat([source, driving], dim=1)).float().view(-1, 2, 3)
        last = rows.new_tensor([0.0, 0, 1]).expand(len(rows), 1, 3)
        return torch.cat([rows, last], dim=1)


def spline_basis(squared: Tensor) -> Tensor:
    """Return d log d of squared distances d, twice the thin-plate kernel r^2 log r."""
    return squared * torch.log(squared + 1e-9)


def spline_grids(points: Tensor, values: Tensor, height: int, width: int) -> Tensor:
    """Evaluate on a grid (h, w) the thin-plate splines that take points to values, both (B, K, 5, 2) (equations 1-3).

    Returns (B, K, h, w, 2).
    """
    with torch.autocast(points.device.type, enabled=False):  # linear solvers need float32
        points, values = points.float(), values.float()
        batch, splines, count, _ = points.shape
        between = (points[:, :, :, None] - points[:, :, None]).square().sum(dim=-1)
        line = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
        upper = torch.cat([spline_basis(between), line], dim=-1)
        lower = torch.cat([line.transpose(2, 3), line.new_zeros(batch, splines, 3, 3)], dim=-1)
        system = torch.cat([upper, lower], dim=2) + _RIDGE * torch.eye(count + 3, device=points.device)
        wanted = torch.cat([values, values.new_zeros(batch, splines, 3, 2)], dim=2)
        weights = torch.linalg.solve(system, wanted)
        grid = coordinate_grid(height, width, points).view(-1, 2)
        distances = (grid[:, None] - points[:, :, None]).square().sum(dim=-1)  # (B, K, h w, 5)
        out = spline_basis(distances) @ weights[:, :, :count] + grid @ weights[:, :, count:-1] + weights[:, :, -1:]
    return out.view(batch, splines, height, width, 2)


class DenseMotion(NamedTuple):
    """Backward flow (B, h, w, 2), contribution maps (B, K+1, h, w), occlusion maps from the coarsest to a frame's size.

    `warped` (B, K+1, 3, h, w) is the small source warped by each candidate; the background loss uses the first.
    """

    deformation: Tensor
    contribution_maps: Tensor
    occlusion_maps: list[Tensor]
    warped: Tensor


class DenseMotionNetwork(nn.Module):
    """Combines K splines and an affine background into one backward flow and an occlusion map at each size."""

    def __init__(self, config: TPSConfig) -> None:
        super().__init__()
        part, splines = config.dense_motion, config.num_splines
        self.down = AntiAliasDownsample(3, part.scale_factor)
        self.hourglass = Hourglass(
            3 * (splines + 1) + splines * POINTS + 1,
            part.block_expansion,
            part.num_blocks,
            part.max_features,
            instance_norm,
        )
        features = self.hourglass.out_features
        self.maps = nn.Conv2d(features, splines + 1, 7, padding=3)
        finer = [features // 2**i for i in range(config.ups + 1)]
        self.up = nn.ModuleList(
            UpBlock2d(wide, narrow, norm=instance_norm) for wide, narrow in zip(finer[:-1], finer[1:], strict=True)
        )
        self.coarse = config.inpainting.num_down_blocks + 1 - config.ups  # maps from the hourglass itself
        widths = self.hourglass.level_features[-self.coarse :] + finer[1:]
        self.occlusion = nn.ModuleList(nn.Conv2d(width, 1, 7, padding=3) for width in widths)
        self.splines, self.kp_variance = splines, config.kp_variance

    def forward(
        self,
        small_source: Tensor,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None = None,
        dropout: float = 0.0,
    ) -> DenseMotion:
        """Estimate the motion of a source already reduced by `down`, (B, 3, h, w), or (1, 3, h, w) for all.

        Args:
            small_source: the source.
            kp_driving: points (B, N, 2).
            kp_source: points (B, N, 2), or (1, N, 2) for all.
            background: affine motion (B, 3, 3); None for a still background.
            dropout: the share of splines dropped in training (equation 7).
        """
        height, width = small_source.shape[2:]
        candidates = self.candidates(kp_driving, kp_source.expand_as(kp_driving), background, height, width)
        heatmaps = gaussian_heatmaps(kp_driving, height, width, self.kp_variance) - gaussian_heatmaps(
            kp_source, height, width, self.kp_variance
        )
        still = torch.zeros_like(heatmaps[:, :1])
        warped = self._warp(small_source, candidates)
        levels = self.hourglass.levels(torch.cat([still, heatmaps, warped.flatten(1, 2)], dim=1))
        contributions = _contributions(self.maps(levels[-1]).float(), dropout)
        deformation = (candidates * contributions.unsqueeze(-1)).sum(dim=1)
        features = levels[-self.coarse :]
        for up in self.up:
            features.append(up(features[-1]))
        occlusion = [torch.sigmoid(head(x).float()) for head, x in zip(self.occlusion, features, strict=True)]
        return DenseMotion(deformation, contributions, occlusion, warped)

    def candidates(
        self, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, height: int, width: int
    ) -> Tensor:
        """Return the background's motion and that of each spline, (B, K+1, h, w, 2)."""
        batch = len(kp_driving)
        splines = spline_grids(
            kp_driving.view(batch, -1, POINTS, 2), kp_source.reshape(batch, -1, POINTS, 2), height, width
        )
        grid = coordinate_grid(height, width, splines).expand(batch, 1, height, width, 2)
        if background is not None:
            with torch.autocast(grid.device.type, enabled=False):  # half precision would shift the grid
                flat = grid.reshape(batch, -1, 2)
                moved = flat @ background[:, :2, :2].transpose(1, 2) + background[:, None, :2, 2]
                depth = flat @ background[:, 2:, :2].transpose(1, 2) + background[:, None, 2:, 2]
                grid = (moved / depth).view_as(grid)
        return torch.cat([grid, splines], dim=1)

    @staticmethod
    def _warp(small_source: Tensor, candidates: Tensor) -> Tensor:
        """Sample the source at every candidate, (B, K+1, 3, h, w), in one tall grid without copying the source."""
        batch, count, height, width, _ = candidates.shape
        if len(small_source) == 1:
            tall = warp(small_source, candidates.reshape(1, -1, width, 2), align_corners=True)
            return tall.view(3, batch, count, height, width).permute(1, 2, 0, 3, 4)
        tall = warp(small_source, candidates.reshape(batch, -1, width, 2), align_corners=True)
        return tall.view(batch, 3, count, height, width).transpose(1, 2)


def _contributions(logits: Tensor, dropout: float) -> Tensor:
    """Softmax over candidates; in training, splines are dropped at random and the others reweighted (equation 7)."""
    if not dropout:
        return F.softmax(logits, dim=1)
    kept = (torch.rand(logits.shape[:2], device=logits.device) >= dropout).to(logits) / (1 - dropout)
    kept[:, 0] = 1  # the background always stays
    weights = (logits - logits.amax(dim=1, keepdim=True)).exp() * kept[:, :, None, None]
    return weights / (weights.sum(dim=1, keepdim=True) + 1e-6)


class SourceState(NamedTuple):
    """The encoded source: `image`, its reduction, and features from a frame's size to the coarsest."""

    image: Tensor
    small_image: Tensor
    features: list[Tensor]


class InpaintingNetwork(nn.Module):
    """Warps and occludes the source's features at every size and inpaints hidden parts (paper section 3.3)."""

    def __init__(self, config: InpaintingConfig) -> None:
        super().__init__()
        widths = [min(config.max_features, config.block_expansion * 2**i) for i in range(config.num_down_blocks + 1)]
        steps = list(zip(widths[:-1], widths[1:], strict=True))
        self.first = SameBlock2d(3, widths[0], 7, norm=instance_norm)
        self.down_blocks = nn.ModuleList(DownBlock2d(narrow, wide, norm=instance_norm) for narrow, wide in steps)
        # From the coarsest on; after the first, the source's features of that size are concatenated.
        entering = [2 * wide if i else wide for i, (_, wide) in enumerate(reversed(steps))]
        self.up_blocks = nn.ModuleList(
            UpBlock2d(wide, narrow, norm=instance_norm)
            for wide, (narrow, _) in zip(entering, reversed(steps), strict=True)
        )
        self.resblock = nn.ModuleList(ResBlock2d(wide, instance_norm) for wide in entering for _ in range(2))
        self.final = nn.Conv2d(widths[0], 3, 7, padding=3)

    def encode(self, source: Tensor) -> list[Tensor]:
        """Return features of sources (B, 3, H, W), from a frame's size to the coarsest."""
        features = [self.first(source)]
        for block in self.down_blocks:
            features.append(block(features[-1]))
        return features

    def decode(self, state: SourceState, motion: DenseMotion) -> Tensor:
        """Render frames (B, 3, H, W) in [0, 1]; the state holds B sources, or one for all."""
        moved = self.moved(state.features, motion)
        out = moved[0]
        for i, block in enumerate(self.up_blocks):
            out = block(self.resblock[2 * i + 1](self.resblock[2 * i](out)))
            if i < len(self.up_blocks) - 1:
                out = torch.cat([out, moved[i + 1]], dim=1)
        seen = motion.occlusion_maps[-1]
        filled = torch.sigmoid(self.final(out * (1 - seen) + moved[-1]).float())
        return filled * (1 - seen) + _moved(state.image, motion.deformation) * seen

    @staticmethod
    def moved(features: list[Tensor], motion: DenseMotion) -> list[Tensor]:
        """Return warped and occluded features, coarsest first; the warp loss compares them with the driving's."""
        pairs = zip(reversed(features), motion.occlusion_maps, strict=True)
        return [_moved(maps, motion.deformation) * occlusion for maps, occlusion in pairs]


def _moved(maps: Tensor, deformation: Tensor) -> Tensor:
    size = maps.shape[2:]
    if deformation.shape[1:3] != size:
        flow = F.interpolate(deformation.permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True)
        deformation = flow.permute(0, 2, 3, 1)
    return warp(maps.expand(len(deformation), -1, -1, -1), deformation, align_corners=True)


class AVDNetwork(nn.Module):
    """Animation via disentanglement: the source's shape in the driving's pose (paper section 3.5)."""

    def __init__(self, config: AVDConfig, numbers: int) -> None:
        super().__init__()
        self.id_encoder = _perceptron([numbers, *config.hidden, config.identity])
        self.pose_encoder = _perceptron([numbers, *config.hidden, config.pose])
        self.decoder = _perceptron([config.pose + config.identity, *reversed(config.hidden), numbers])

    def forward(self, kp_source: Tensor, kp_driving: Tensor) -> Tensor:
        """Return points (B, N, 2) for points (B, N, 2) of both."""
        pose, identity = self.pose_encoder(kp_driving.flatten(1)), self.id_encoder(kp_source.flatten(1))
        return self.decoder(torch.cat([pose, identity], dim=1)).view_as(kp_driving)


def _perceptron(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (narrow, wide) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        layers += [nn.BatchNorm1d(narrow), nn.ReLU()] if i else []
        layers.append(nn.Linear(narrow, wide))
    return nn.Sequential(*layers)
