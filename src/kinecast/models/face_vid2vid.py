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

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.models.blocks.head_pose import (
    HeadPose,
    HeadPoseEstimator,
    posed_keypoints,
    rotation_angles,
    rotation_matrix,
)
from kinecast.models.blocks.layers import AntiAliasDownsample, DownBlock2d, ResBlock2d, SameBlock2d, UpBlock2d
from kinecast.models.blocks.spade import SpadeDecoder
from kinecast.models.blocks.states import (
    completed,
    count_blocks,
    hourglass_sizes,
    read_config,
    settings_beyond_tensors,
    sizes_of,
)
from kinecast.models.blocks.volumes import (
    Conv3d,
    Hourglass3d,
    ResBlock3d,
    UpBlock3d,
    coordinate_volume,
    gaussian_volumes,
    warp_volume,
)
from kinecast.motion import Motion


@dataclass(frozen=True)
class DetectorConfig:
    """Sizes of the canonical keypoint detector; `depth` is that of its volume."""

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    depth: int = 16
    scale_factor: float = 0.25


@dataclass(frozen=True)
class HeadPoseConfig:
    """Sizes of the head pose estimator."""

    width: int = 64
    bins: int = 66
    blocks: tuple[int, int, int, int] = (3, 3, 5, 2)


@dataclass(frozen=True)
class DenseMotionConfig:
    """Sizes of the dense motion network; it reads `compress` channels of the feature volume."""

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    compress: int = 4


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the generator: a volume of `channels` x `depth` from the encoder's features.

    `spade` is the width of the conditioning layers; None is the original decoder of plain residual blocks.
    `first_kernel` is the side of the first convolution's kernel; None is the published one, 3 with SPADE and 7 without.
    """

    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 2
    channels: int = 32
    depth: int = 16
    volume_blocks: int = 6
    blocks: int = 6
    spade: int | None = 128
    estimate_occlusion: bool = True
    first_kernel: int | None = None

    @property
    def first_side(self) -> int:
        """Side of the first convolution's kernel."""
        return self.first_kernel or self.published_side

    @property
    def published_side(self) -> int:
        """Side of that kernel in published weights."""
        return 7 if self.spade is None else 3


@dataclass(frozen=True)
class FaceVid2VidConfig:
    """All sizes of a face-vid2vid; the defaults are those of the published vox-256 weights with the SPADE generator.

    `temperature`, `kp_variance` and `frame_size` are not in a state dict; the others are inferred from it.
    """

    frame_size: tuple[int, int] = (256, 256)
    num_keypoints: int = 15
    temperature: float = 0.1
    kp_variance: float = 0.01
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    head_pose: HeadPoseConfig = field(default_factory=HeadPoseConfig)
    dense_motion: DenseMotionConfig = field(default_factory=DenseMotionConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        for name in ("num_keypoints", "temperature", "kp_variance"):
            if getattr(self, name) <= 0:
                raise KinecastError(f"face-vid2vid config: expected {name} above 0, found {getattr(self, name)}")
        for what, depth in (("detector", self.detector.depth), ("generator", self.generator.depth)):
            if depth < 2:
                raise KinecastError(f"face-vid2vid config: expected a {what} depth of 2 or more, found {depth}")
        scale = self.detector.scale_factor
        if not 0 < scale <= 1 or abs(1 / scale - round(1 / scale)) > 1e-6:
            raise KinecastError(f"face-vid2vid config: expected scale_factor 1/n, found {scale}")

    @property
    def frame_multiple(self) -> int:
        """Required multiple of frame height and width."""
        detector = 2**self.detector.num_blocks * round(1 / self.detector.scale_factor)
        return math.lcm(detector, 2 ** (self.generator.num_down_blocks + self.dense_motion.num_blocks))

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "FaceVid2VidConfig":
        """Build from nested plain values (JSON or TOML).

        Raises:
            KinecastError: an unknown key.
        """
        parts: dict[str, Any] = {
            "detector": DetectorConfig,
            "head_pose": _head_pose_config,
            "dense_motion": DenseMotionConfig,
            "generator": GeneratorConfig,
        }
        return read_config(FaceVid2VidConfig, "face-vid2vid", values, parts)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values."""
        return asdict(self)


def _head_pose_config(**values: Any) -> HeadPoseConfig:
    if "blocks" in values:
        one, two, three, four = values["blocks"]
        values["blocks"] = (int(one), int(two), int(three), int(four))
    return HeadPoseConfig(**values)


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


class FaceVid2Vid(Backbone):
    """face-vid2vid behind the `Backbone` contract; one frame is [dx dy dz] K times, yaw, pitch, roll, t_x, t_y, t_z."""

    name = "face-vid2vid"
    chunk = 2  # frames per forward pass: bounds memory, since volumes are large

    def __init__(self, config: FaceVid2VidConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        pose = config.head_pose
        self.kp_detector = KPDetector(config)
        self.he_estimator = HeadPoseEstimator(config.num_keypoints, pose.width, pose.bins, pose.blocks)
        self.generator = Generator(config)

    @property
    def motion_dim(self) -> int:
        """D: 3 K + 6."""
        return 3 * self.config.num_keypoints + 6

    def forward(self, source: Tensor, kp_driving: Tensor, kp_source: Tensor) -> tuple[Tensor, DenseMotion]:
        """Animate sources (B, 3, H, W) as published, without caching, with gradient; keypoints (B, K, 3)."""
        volume = self.generator.encode(source)
        dense = self.generator.dense_motion_network
        motion = dense(dense.compressed(volume), kp_driving, kp_source)
        return self.generator.decode(volume, motion), motion

    def reconstruct(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor, Tensor, HeadPose]:
        """Reconstruct driving frames (B, 3, H, W) from sources of the same clips, with gradient: training's forward.

        Returns the prediction, the driving and the source keypoints (B, K, 3), and the driving's pose.
        """
        canonical = self.kp_detector(source)
        pose = self.he_estimator(torch.cat([source, driving]))
        halves = zip(*(part.chunk(2) for part in pose), strict=True)
        pose_source, pose_driving = (HeadPose(*half) for half in halves)
        kp_source, kp_driving = posed_keypoints(canonical, pose_source), posed_keypoints(canonical, pose_driving)
        prediction, _ = self.forward(source, kp_driving, kp_source)
        return prediction, kp_driving, kp_source, pose_driving

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Estimate expression and head pose of frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        found = [self.he_estimator(chunk) for chunk in frames.split(self.chunk)]
        components = {name: torch.cat([getattr(pose, name) for pose in found]) for name in _COMPONENTS}
        return Motion(self.name, components, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        volume = self.generator.encode(image)
        return SourceState(self.kp_detector(image), volume, self.generator.dense_motion_network.compressed(volume))

    @torch.inference_mode()
    def animate(self, state: SourceState, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1]."""
        self._check_pair(source_motion, driving_motion)
        kp_source = posed_keypoints(state.canonical, _pose(source_motion))
        frames = []
        for start in range(0, len(driving_motion), self.chunk):
            kp_driving = posed_keypoints(state.canonical, _pose(driving_motion[start : start + self.chunk]))
            motion = self.generator.dense_motion_network(state.compressed, kp_driving, kp_source)
            frames.append(self.generator.decode(state.volume, motion))
        return torch.cat(frames)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return R = R_d R_d0^-1 R_source, and the change of expression and translation added to the source's.

        Raises:
            KinecastError: `adapt_scale`, since this motion moves the source's own keypoints and already has its size.
        """
        if adapt_scale:
            raise KinecastError(
                "adapt scale: expected a backbone whose motion has the driving's size, found face-vid2vid, which moves "
                "the source's own keypoints: drop --adapt-scale"
            )
        src, drv, ini = _pose(source), _pose(driving), _pose(initial)
        turned = (
            rotation_matrix(drv.rotation)
            @ rotation_matrix(ini.rotation).transpose(1, 2)
            @ rotation_matrix(src.rotation)
        )
        components = {
            "expression": drv.expression - ini.expression + src.expression,
            "rotation": rotation_angles(turned),
            "translation": drv.translation - ini.translation + src.translation,
        }
        return replace(driving, components=components)

    def settings(self) -> dict[str, Any]:
        """Return the config's values that tensors do not determine, where they differ from the published ones."""
        return settings_beyond_tensors(self.config, infer_config(self.state_dict()))

    def _template(self) -> Motion:
        components = {
            "expression": torch.zeros(0, self.config.num_keypoints, 3),
            "rotation": torch.zeros(0, 3),
            "translation": torch.zeros(0, 3),
        }
        return Motion(self.name, components, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "FaceVid2Vid":
        """Build from tensors named by part (`kp_detector.*`, ...), all sizes inferred from them.

        `extras` are the config's keys that tensors do not determine (frame_size, temperature, kp_variance).
        """
        model = cls(FaceVid2VidConfig.from_dict(completed(extras or {}, infer_config(state))))
        model.load_state_dict(dict(state))
        return model.eval()


_COMPONENTS = ("expression", "rotation", "translation")


def _pose(motion: Motion) -> HeadPose:
    return HeadPose(**{name: motion.components[name] for name in _COMPONENTS})


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a face-vid2vid's sizes from its tensors.

    Raises:
        KinecastError: a tensor that every face-vid2vid has is missing.
    """
    with sizes_of("face-vid2vid"):
        generator, dense = "generator", "generator.dense_motion_network"
        return {
            "num_keypoints": len(state["kp_detector.kp.bias"]),
            "detector": _detector_sizes(state),
            "head_pose": {
                "width": len(state["he_estimator.conv1.bias"]),
                "bins": len(state["he_estimator.fc_yaw.bias"]),
                "blocks": tuple(count_blocks(state, f"he_estimator.block{i}.b{i}_") for i in (1, 3, 5, 7)),
            },
            "dense_motion": {
                **hourglass_sizes(state, f"{dense}.hourglass"),
                "compress": len(state[f"{dense}.compress.bias"]),
            },
            "generator": _generator_sizes(state, generator),
        }


def _detector_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    prefix = "kp_detector.predictor"
    blocks = count_blocks(state, f"{prefix}.down_blocks.")
    widths = [len(state[f"{prefix}.down_blocks.down{i}.conv.bias"]) for i in range(blocks)]
    return {
        "block_expansion": len(state[f"{prefix}.up_blocks.up{blocks - 1}.conv.bias"]),
        "num_blocks": blocks,
        "max_features": max(widths),
        "depth": len(state[f"{prefix}.conv.bias"]) // widths[-1],
        "scale_factor": AntiAliasDownsample.scale_of(state.get("kp_detector.down.weight")),
    }


def _generator_sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    downs = count_blocks(state, f"{prefix}.down_blocks.")
    first = len(state[f"{prefix}.first.conv.bias"])
    widths = [first, *(len(state[f"{prefix}.down_blocks.{i}.conv.bias"]) for i in range(downs))]
    lifted = len(state[f"{prefix}.second.bias"])
    hidden = state.get(f"{prefix}.decoder.up_0.norm_0.mlp_shared.0.bias")
    # Without blocks in the volume, the compressing network still determines its channels.
    channels = state[f"{prefix}.dense_motion_network.compress.weight"].shape[1]
    spade = None if hidden is None else len(hidden)
    side = state[f"{prefix}.first.conv.weight"].shape[-1]
    return {
        "block_expansion": first,
        "max_features": max(widths),
        "num_down_blocks": downs,
        "channels": channels,
        "depth": lifted // channels,
        "volume_blocks": count_blocks(state, f"{prefix}.resblocks_3d."),
        "blocks": count_blocks(state, f"{prefix}.decoder.G_middle_")
        if hidden is not None
        else count_blocks(state, f"{prefix}.resblocks_2d."),
        "spade": spade,
        "first_kernel": None if side == GeneratorConfig(spade=spade).published_side else side,
        "estimate_occlusion": f"{prefix}.dense_motion_network.occlusion.weight" in state,
    }
