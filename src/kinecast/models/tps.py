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

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone, check_frames, check_source
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
from kinecast.models.blocks.points import comparable, size_ratio
from kinecast.models.blocks.resnet import ResNet18
from kinecast.models.blocks.states import (
    completed,
    count_blocks,
    hourglass_sizes,
    read_config,
    settings_beyond_tensors,
    sizes_of,
)
from kinecast.models.fomm import HourglassConfig
from kinecast.motion import Motion

POINTS = 5  # of one spline
_RIDGE = 0.01  # added to the diagonal of a spline's system: points may coincide


@dataclass(frozen=True)
class InpaintingConfig:
    """Sizes of the inpainting network: widths double from `block_expansion` up to `max_features`."""

    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 3


@dataclass(frozen=True)
class AVDConfig:
    """Sizes of the network that applies the driving pose to the source's shape."""

    hidden: tuple[int, ...] = (256, 512, 1024)
    identity: int = 128
    pose: int = 128


@dataclass(frozen=True)
class TPSConfig:
    """All sizes of a TPS; the defaults are those of the published vox-256 weights.

    `kp_variance` and `frame_size` are not in a state dict; the others are inferred from it. `background` is the width
    of the background predictor; it and `avd` are None without such a part.
    """

    frame_size: tuple[int, int] = (256, 256)
    num_splines: int = 10
    kp_variance: float = 0.01
    detector: int = 64
    background: int | None = 64
    dense_motion: HourglassConfig = field(default_factory=lambda: HourglassConfig(block_expansion=64))
    inpainting: InpaintingConfig = field(default_factory=InpaintingConfig)
    avd: AVDConfig | None = field(default_factory=AVDConfig)

    def __post_init__(self) -> None:
        for name in ("num_splines", "kp_variance", "detector"):
            if getattr(self, name) <= 0:
                raise KinecastError(f"TPS config: expected {name} above 0, found {getattr(self, name)}")
        part, levels = self.dense_motion, self.inpainting.num_down_blocks
        if not 0 < part.scale_factor <= 1 or 2**self.ups != 1 / part.scale_factor:
            raise KinecastError(f"TPS config: expected scale_factor 1, 1/2, 1/4, ..., found {part.scale_factor}")
        if not self.ups <= levels < self.ups + part.num_blocks:
            raise KinecastError(
                f"TPS config: expected {self.ups} to {self.ups + part.num_blocks - 1} down blocks of the inpainting "
                f"network, for dense motion of {part.num_blocks} blocks at scale {part.scale_factor:g}, found {levels}"
            )

    @property
    def ups(self) -> int:
        """How often dense motion is upsampled by 2 to reach the size of a frame."""
        return round(math.log2(1 / self.dense_motion.scale_factor))

    @property
    def frame_multiple(self) -> int:
        """Required multiple of frame height and width."""
        return 2 ** max(self.dense_motion.num_blocks + self.ups, self.inpainting.num_down_blocks)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "TPSConfig":
        """Build from nested plain values (JSON or TOML).

        Raises:
            KinecastError: an unknown key.
        """
        parts: dict[str, Any] = {"dense_motion": HourglassConfig, "inpainting": InpaintingConfig}
        if values.get("avd") is not None:
            parts["avd"] = _avd_config
        return read_config(TPSConfig, "TPS", values, parts)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values."""
        return asdict(self)


def _avd_config(**values: Any) -> AVDConfig:
    if "hidden" in values:
        values["hidden"] = tuple(int(width) for width in values["hidden"])
    return AVDConfig(**values)


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


class TPS(Backbone):
    """TPS behind the `Backbone` contract; the flat layout of one frame is [x y] of 5 points of each spline."""

    name = "tps"
    chunk = 4  # frames per forward pass: bounds memory

    def __init__(self, config: TPSConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        self.kp_detector = KPDetector(config)
        self.bg_predictor = None if config.background is None else BackgroundPredictor(config.background)
        self.dense_motion_network = DenseMotionNetwork(config)
        self.inpainting_network = InpaintingNetwork(config.inpainting)
        self.avd_network = None if config.avd is None else AVDNetwork(config.avd, self.motion_dim)

    @property
    def motion_dim(self) -> int:
        """D: 10 numbers per spline."""
        return self.config.num_splines * POINTS * 2

    def forward(
        self,
        source: Tensor,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None = None,
        dropout: float = 0,
    ) -> tuple[Tensor, DenseMotion]:
        """Animate sources (B, 3, H, W) as published, without caching, with gradient."""
        state = self._encode(source)
        motion = self.dense_motion_network(state.small_image, kp_driving, kp_source, background, dropout)
        return self.inpainting_network.decode(state, motion), motion

    def reconstruct(
        self, source: Tensor, driving: Tensor, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor, DenseMotion]:
        """Reconstruct driving frames (B, 3, H, W) from sources of the same clips, with gradient: training's forward.

        Returns the prediction, the driving and the source points, and the dense motion.
        """
        kp_source, kp_driving = self.kp_detector(torch.cat([source, driving])).chunk(2)
        background = None if self.bg_predictor is None else self.bg_predictor(source, driving)
        prediction, motion = self.forward(source, kp_driving, kp_source, background, dropout)
        return prediction, kp_driving, kp_source, motion

    def _encode(self, source: Tensor) -> SourceState:
        return SourceState(source, self.dense_motion_network.down(source), self.inpainting_network.encode(source))

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Detect points in frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        points = torch.cat([self.kp_detector(chunk) for chunk in frames.split(self.chunk)])
        return Motion(self.name, {"value": points}, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def background(self, source: Tensor, frames: Tensor) -> Tensor:
        """Return the background's affine motion (T, 3, 3) from frames (T, 3, H, W) to a source (1, 3, H, W).

        Raises:
            KinecastError: these weights have no background predictor.
        """
        if self.bg_predictor is None:
            raise KinecastError("expected weights with bg_predictor, found none: drop --background")
        check_frames(frames, self.config.frame_multiple)
        parts = frames.split(self.chunk)
        return torch.cat([self.bg_predictor(source.expand_as(part), part) for part in parts])

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        return self._encode(image)

    @torch.inference_mode()
    def animate(
        self,
        state: SourceState,
        source_motion: Motion,
        driving_motion: Motion,
        background: Tensor | None = None,
    ) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1].

        `background` (T, 3, 3) is the result of `background` for the same frames; without it the background is still.
        """
        self._check_pair(source_motion, driving_motion)
        source, frames = source_motion.components["value"], []
        for start in range(0, len(driving_motion), self.chunk):
            chunk = slice(start, start + self.chunk)
            affine = None if background is None else background[chunk]
            points = driving_motion.components["value"][chunk]
            motion = self.dense_motion_network(state.small_image, points, source, affine)
            frames.append(self.inpainting_network.decode(state, motion))
        return torch.cat(frames)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return p = s (p_d - p_d0) + p_source; s from hull areas."""
        src, drv, ini = (motion.components["value"] for motion in (source, driving, initial))
        scale = size_ratio(src, ini) if adapt_scale else 1.0
        return replace(driving, components={"value": scale * (drv - ini) + src})

    @torch.inference_mode()
    def avd_motion(self, source: Motion, driving: Motion) -> Motion:
        """Return motion with the shape of `source` (1) and the pose of each frame of `driving` (T): the AVD mode.

        Raises:
            KinecastError: these weights have no AVD network.
        """
        if self.avd_network is None:
            raise KinecastError("AVD mode: expected weights with avd_network, found none: use relative motion")
        points = driving.components["value"]
        shape = source.components["value"].expand_as(points)
        return replace(driving, components={"value": self.avd_network(shape, points)})

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return whether the keypoints of both poses span comparable areas."""
        return comparable(source.components["value"], initial.components["value"])

    def settings(self) -> dict[str, Any]:
        """Return the config's values that tensors do not determine, where they differ from the published ones."""
        return settings_beyond_tensors(self.config, infer_config(self.state_dict()))

    def _template(self) -> Motion:
        points = torch.zeros(0, self.config.num_splines * POINTS, 2)
        return Motion(self.name, {"value": points}, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "TPS":
        """Build from tensors named by part (`kp_detector.*`, ...), all sizes inferred from them.

        `extras` are the config's keys that tensors do not determine (frame_size, kp_variance).
        """
        model = cls(TPSConfig.from_dict(completed(extras or {}, infer_config(state))))
        model.load_state_dict(dict(state))
        return model.eval()


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a TPS's sizes from its tensors.

    Raises:
        KinecastError: a tensor that every TPS has is missing.
    """
    with sizes_of("TPS"):
        dense = "dense_motion_network"
        downs = count_blocks(state, "inpainting_network.down_blocks.")
        first = len(state["inpainting_network.first.conv.bias"])
        widths = [len(state[f"inpainting_network.down_blocks.{i}.conv.bias"]) for i in range(downs)]
        background, avd = state.get("bg_predictor.bg_encoder.conv1.weight"), None
        if "avd_network.decoder.0.weight" in state:
            widths_of = {
                part: [len(t) for n, t in state.items() if n.startswith(f"avd_network.{part}.") and t.ndim == 2]
                for part in ("id_encoder", "pose_encoder")
            }
            *hidden, identity = widths_of["id_encoder"]
            avd = {"hidden": hidden, "identity": identity, "pose": widths_of["pose_encoder"][-1]}
        return {
            "num_splines": len(state[f"{dense}.maps.bias"]) - 1,
            "detector": len(state["kp_detector.fg_encoder.conv1.weight"]),
            "background": None if background is None else len(background),
            "dense_motion": hourglass_sizes(state, f"{dense}.hourglass", f"{dense}.down.weight"),
            "inpainting": {
                "block_expansion": first,
                "max_features": max([first, *widths]),
                "num_down_blocks": downs,
            },
            "avd": avd,
        }
