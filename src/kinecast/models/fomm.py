r"""First Order Motion Model, Siarohin et al. 2019 (arXiv 2003.00196), with the published state-dict names.

    source ----------> encoder -> features --warp, occlude--> bottleneck -> decoder -> frame
       |                                      ^
       v                                      | deformation, occlusion map
    kp_detector -> p_s, J_s --\               |
                               dense motion --+
    driving -> kp_detector -> p_d, J_d --/

Notation: B batch, T frames, K keypoints, h x w the size that dense motion works at.
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
    invert_2x2,
    multiply_2x2,
    transform_points,
    warp,
)
from kinecast.models.blocks.points import comparable, size_ratio
from kinecast.models.blocks.states import (
    completed,
    count_blocks,
    hourglass_sizes,
    read_config,
    sizes_of,
    untold_settings,
)
from kinecast.motion import Motion


@dataclass(frozen=True)
class HourglassConfig:
    """Numbers of one hourglass and of the down-sampling before it."""

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25


@dataclass(frozen=True)
class GeneratorConfig:
    """Numbers of the generator's encoder, bottleneck and decoder.

    The last four are not published; they make the compact design (docs/architecture.md), whose cost a frame is that of
    a picture of 1/`shuffle` the size. `shuffle`: pixels a side that are taken for channels at the input and back at the
    output. `skips`: the encoder's finer maps are warped too and added in the decoder; their 1x1 projection is the
    source's, so it costs nothing a frame. `num_refine_blocks`: residual blocks at the decoder's finest size.
    `pass_through`: the source's own pixels, warped, are blended in by a mask that the last convolution draws as well.
    """

    block_expansion: int = 64
    max_features: int = 512
    num_down_blocks: int = 2
    num_bottleneck_blocks: int = 6
    shuffle: int = 1
    skips: bool = False
    num_refine_blocks: int = 0
    pass_through: bool = False

    @property
    def widths(self) -> list[int]:
        """Channels from the finest map to the coarsest."""
        return [min(self.max_features, self.block_expansion * 2**i) for i in range(self.num_down_blocks + 1)]

    @property
    def stride(self) -> int:
        """Pixels a side for one place of the coarsest map."""
        return self.shuffle * 2**self.num_down_blocks


@dataclass(frozen=True)
class FOMMConfig:
    """All sizes of a FOMM; the defaults are those of the published vox-256 weights.

    `temperature`, `head_padding`, `kp_variance` and `align_corners` leave no trace in a state dict; the others are
    inferred from it.

    `align_corners` is how the weights were trained to read the sampling grid. The public code leaves it to
    `grid_sample`, whose default was True up to torch 1.2 and is False since, and its requirements named torch 1.0.0
    until 2022: what was trained then wants True. The vectors that the network is checked by, and our own weights, are
    of False.
    """

    frame_size: tuple[int, int] = (256, 256)
    num_keypoints: int = 10
    estimate_jacobian: bool = True
    single_jacobian_map: bool = False
    estimate_occlusion: bool = True
    temperature: float = 0.1
    head_padding: int = 0
    kp_variance: float = 0.01
    align_corners: bool = False
    detector: HourglassConfig = field(default_factory=HourglassConfig)
    dense_motion: HourglassConfig = field(default_factory=lambda: HourglassConfig(block_expansion=64))
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        for name in ("num_keypoints", "temperature", "kp_variance"):
            if getattr(self, name) <= 0:
                raise KinecastError(f"FOMM config: expected {name} above 0, found {getattr(self, name)}")
        for part in (self.detector, self.dense_motion):
            if not 0 < part.scale_factor <= 1 or abs(1 / part.scale_factor - round(1 / part.scale_factor)) > 1e-6:
                raise KinecastError(f"FOMM config: expected scale_factor 1/n, found {part.scale_factor}")

    @property
    def frame_multiple(self) -> int:
        """What frame height and width must be multiples of."""
        strides = [2**part.num_blocks * round(1 / part.scale_factor) for part in (self.detector, self.dense_motion)]
        return math.lcm(*strides, self.generator.stride)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "FOMMConfig":
        """Build from nested plain values (JSON or TOML).

        Raises:
            KinecastError: an unknown key.
        """
        parts = {"detector": HourglassConfig, "dense_motion": HourglassConfig, "generator": GeneratorConfig}
        return read_config(FOMMConfig, "FOMM", values, parts)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain values."""
        return asdict(self)


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
        # A heatmap's logits are divided by the temperature: in half precision their rounding moves the points.
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
        return self.combine(sparse, *self.judge(maps))

    def candidates(self, small_source: Tensor, kp_driving: Keypoints, kp_source: Keypoints) -> tuple[Tensor, Tensor]:
        """Return what the hourglass looks at, (B, 4(K+1), h, w), and all candidate motions (B, K+1, h, w, 2)."""
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

    def judge(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return logits of the mask (B, K+1, h, w) and of the occlusion map (B, 1, h, w), or None."""
        features = self.hourglass(maps)
        return self.mask(features).float(), None if self.occlusion is None else self.occlusion(features).float()

    @staticmethod
    def combine(sparse: Tensor, mask: Tensor, occlusion: Tensor | None) -> DenseMotion:
        """Mix the candidate motions (B, K+1, h, w, 2) by the logits that `judge` gave."""
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
    """What depends on the source image alone: `small_image` for dense motion, encoder `features`, coarsest first.

    `image` is the source itself, if its pixels are passed through.
    """

    small_image: Tensor
    features: tuple[Tensor, ...]
    image: Tensor | None = None


class OcclusionAwareGenerator(nn.Module):
    """Warps the source's features by the dense motion, hides what was not seen, and decodes (paper section 3.3)."""

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
            others: those of skips, coarsest first; then, with `pass_through`, the warped source (B, 3, H, W).
        """
        out = self.bottleneck(features)
        for i, block in enumerate(self.up_blocks):
            out = block(out) + others[i] if self.skips else block(out)
        drawn = F.pixel_shuffle(self.final(self.refine(out)), self.shuffle).float()
        return blend(drawn, others[-1]) if self.pass_through else torch.sigmoid(drawn)

    def forward(self, source: Tensor, kp_driving: Keypoints, kp_source: Keypoints) -> tuple[Tensor, DenseMotion]:
        """Animate sources (B, 3, H, W) as published, everything computed anew: the frames and the dense motion."""
        state = self.encode(source)
        motion = self.dense_motion_network(state.small_image, kp_driving, kp_source)
        return self.decode(state, motion), motion


class FOMM(Backbone):
    """FOMM behind the `Backbone` contract; the flat layout of one frame is [x y j11 j12 j21 j22] K times."""

    name = "fomm"
    chunk = 8  # frames in one forward pass: bounds memory, gains nothing beyond on a CPU

    def __init__(self, config: FOMMConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        self.kp_detector = KPDetector(config)
        self.generator = OcclusionAwareGenerator(config)

    @property
    def motion_dim(self) -> int:
        """D: 6 K with Jacobians, 2 K without."""
        return self.config.num_keypoints * (6 if self.config.estimate_jacobian else 2)

    def reconstruct(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Keypoints, Keypoints]:
        """Rebuild driving frames (B, 3, H, W) from sources of the same clips, with gradient: training's forward.

        Returns the prediction, the driving and the source keypoints.
        """
        both = self.kp_detector(torch.cat([source, driving]))
        values, jacobians = both.value.chunk(2), (None, None) if both.jacobian is None else both.jacobian.chunk(2)
        kp_source, kp_driving = (Keypoints(v, j) for v, j in zip(values, jacobians, strict=True))
        prediction, _ = self.generator(source, kp_driving, kp_source)
        return prediction, kp_driving, kp_source

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Detect keypoints in frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        found = [self.find(chunk) for chunk in frames.split(self.chunk)]
        components = {"value": torch.cat([kp.value for kp in found])}
        if self.config.estimate_jacobian:
            components["jacobian"] = torch.cat([kp.jacobian for kp in found if kp.jacobian is not None])
        return Motion(self.name, components, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        return self.encode(image)

    @torch.inference_mode()
    def animate(self, state: SourceState, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1]."""
        self._check_pair(source_motion, driving_motion)
        source = _keypoints(source_motion)
        frames = []
        for start in range(0, len(driving_motion), self.chunk):
            driving = _keypoints(driving_motion[start : start + self.chunk])
            frames.append(self.draw(state, source, driving))
        return torch.cat(frames)

    def find(self, frames: Tensor) -> Keypoints:
        """Return the keypoints of frames (B, 3, H, W)."""
        return self.kp_detector(frames)

    def encode(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W)."""
        return self.generator.encode(image)

    def draw(self, state: SourceState, source: Keypoints, driving: Keypoints) -> Tensor:
        """Return frames (B, 3, H, W) of the source by the keypoints of B frames."""
        motion = self.generator.dense_motion_network(state.small_image, driving, source)
        return self.generator.decode(state, motion)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return v = s (v_d - v_d0) + v_source and J = (J_d J_d0^-1) J_source, section 3.4; s from hull areas."""
        src, drv, ini = _keypoints(source), _keypoints(driving), _keypoints(initial)
        scale = size_ratio(src.value, ini.value) if adapt_scale else 1.0
        components = {"value": scale * (drv.value - ini.value) + src.value}
        if drv.jacobian is not None and ini.jacobian is not None and src.jacobian is not None:
            change = multiply_2x2(drv.jacobian, invert_2x2(ini.jacobian))
            components["jacobian"] = multiply_2x2(change, src.jacobian)
        return replace(driving, components=components)

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return whether the keypoints of both poses span areas that can be compared."""
        return comparable(source.components["value"], initial.components["value"])

    def settings(self) -> dict[str, Any]:
        """Return the config's numbers that no tensor tells, where they are not the published ones."""
        return untold_settings(self.config, infer_config(self.state_dict()))

    def _template(self) -> Motion:
        count = self.config.num_keypoints
        components = {"value": torch.zeros(0, count, 2)}
        if self.config.estimate_jacobian:
            components["jacobian"] = torch.zeros(0, count, 2, 2)
        return Motion(self.name, components, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "FOMM":
        """Build from tensors named `kp_detector.*` and `generator.*`, all sizes inferred from them.

        `extras` are the config's keys that leave no trace in tensors (frame_size, temperature, ...).
        """
        config = FOMMConfig.from_dict(completed(extras or {}, infer_config(state)))
        model = cls(config)
        model.load_state_dict(dict(state))
        return model.eval()


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a FOMM's sizes from its tensors.

    Raises:
        KinecastError: a tensor that every FOMM has is missing.
    """
    with sizes_of("FOMM"):
        points = len(state["kp_detector.kp.bias"])
        jacobian = state.get("kp_detector.jacobian.bias")
        dense = "generator.dense_motion_network"
        down_blocks = count_blocks(state, "generator.down_blocks.")
        widths = [len(state[f"generator.down_blocks.{i}.conv.bias"]) for i in range(down_blocks)]
        first, pixels = state["generator.first.conv.weight"].shape[:2]
        return {
            "num_keypoints": points,
            "estimate_jacobian": jacobian is not None,
            "single_jacobian_map": jacobian is not None and len(jacobian) == 4 and points > 1,
            "estimate_occlusion": f"{dense}.occlusion.weight" in state,
            "detector": hourglass_sizes(state, "kp_detector.predictor", "kp_detector.down.weight"),
            "dense_motion": hourglass_sizes(state, f"{dense}.hourglass", f"{dense}.down.weight"),
            "generator": {
                "block_expansion": first,
                "max_features": max([first, *widths]),
                "num_down_blocks": down_blocks,
                "num_bottleneck_blocks": count_blocks(state, "generator.bottleneck."),
                "shuffle": math.isqrt(pixels // 3),
                "skips": "generator.skips.0.weight" in state,
                "num_refine_blocks": count_blocks(state, "generator.refine."),
                "pass_through": len(state.get("generator.final.bias", ())) > pixels,
            },
        }


def warp_pixels(image: Tensor, flow: Tensor) -> Tensor:
    """Warp sources (B, 3, H, W), or one for all, by flows (B, 2, h, w) in full size: (B, 3, H, W).

    What differs from standing still is resized, so a flow of no motion leaves every pixel what it was. `warp` does not
    without `align_corners`: its grid, which runs from corner to corner of the pixels' centres, is then read as if from
    edge to edge. Beyond the border the source's outermost pixels go on.
    """
    height, width = image.shape[2:]
    h, w = flow.shape[2:]
    motion = _edge_to_edge(flow.permute(0, 2, 3, 1) - coordinate_grid(h, w, flow)).permute(0, 3, 1, 2)
    motion = F.interpolate(motion, size=(height, width), mode="bilinear", align_corners=False)
    grid = _edge_to_edge(coordinate_grid(height, width, flow)) + motion.permute(0, 2, 3, 1)
    sources = image.to(flow.dtype).expand(len(flow), -1, -1, -1)
    return F.grid_sample(sources, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _edge_to_edge(grid: Tensor) -> Tensor:
    """Scale a grid (..., h, w, 2) whose -1 and 1 are the outermost centres to one where they are the edges."""
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


def _keypoints(motion: Motion) -> Keypoints:
    return Keypoints(motion.components["value"], motion.components.get("jacobian"))


def _resize(maps: Tensor, size: torch.Size) -> Tensor:
    return maps if maps.shape[2:] == size else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
