"""Sizes of a FOMM."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kinecast.errors import KinecastError
from kinecast.models.blocks.states import read_config


@dataclass(frozen=True)
class HourglassConfig:
    """Sizes of one hourglass and of the down-sampling before it."""

    block_expansion: int = 32
    num_blocks: int = 5
    max_features: int = 1024
    scale_factor: float = 0.25


@dataclass(frozen=True)
class GeneratorConfig:
    """Sizes of the generator's encoder, bottleneck and decoder.

    The last four are not published; they make the compact design (docs/architecture.md), whose cost per frame is that
    of a picture of 1/`shuffle` the size. `shuffle`: pixels per side turned into channels at the input and back at the
    output. `skips`: the encoder's finer maps are warped too and added in the decoder; their 1x1 projection is part of
    the encoded source, so it costs nothing per frame. `num_refine_blocks`: residual blocks at the decoder's finest
    size. `pass_through`: the source's own pixels, warped, are blended in by a mask, an extra output of the last
    convolution.
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
        """Pixels per side for one cell of the coarsest map."""
        return self.shuffle * 2**self.num_down_blocks


@dataclass(frozen=True)
class FOMMConfig:
    """All sizes of a FOMM; the defaults are those of the published vox-256 weights.

    `temperature`, `head_padding`, `kp_variance` and `align_corners` are not in a state dict; the others are inferred
    from it.

    `align_corners` is how the weights were trained to read the sampling grid. The public code leaves it to
    `grid_sample`, whose default was True up to torch 1.2 and is False since, and its requirements named torch 1.0.0
    until 2022: weights trained then need True. The network's test vectors and our own weights use False.
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
        """Required multiple of frame height and width."""
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
