"""First Order Motion Model, Siarohin et al. 2019 (arXiv 2003.00196): sizes, network, and the backbone."""

from kinecast.models.fomm.config import FOMMConfig, GeneratorConfig, HourglassConfig
from kinecast.models.fomm.model import FOMM
from kinecast.models.fomm.network import (
    DenseMotion,
    DenseMotionNetwork,
    Keypoints,
    KPDetector,
    OcclusionAwareGenerator,
    SourceState,
    blend,
    warp_pixels,
)
from kinecast.models.fomm.sizes import infer_config

__all__ = [
    "FOMM",
    "DenseMotion",
    "DenseMotionNetwork",
    "FOMMConfig",
    "GeneratorConfig",
    "HourglassConfig",
    "KPDetector",
    "Keypoints",
    "OcclusionAwareGenerator",
    "SourceState",
    "blend",
    "infer_config",
    "warp_pixels",
]
