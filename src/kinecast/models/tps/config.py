"""Sizes of a TPS."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from kinecast.errors import KinecastError
from kinecast.models.blocks.states import read_config
from kinecast.models.fomm.config import HourglassConfig

POINTS = 5  # of one spline


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
