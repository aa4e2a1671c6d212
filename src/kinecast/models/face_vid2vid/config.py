"""Sizes of a face-vid2vid."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kinecast.errors import KinecastError
from kinecast.models.blocks.states import read_config


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
