"""Thin-Plate Spline motion model, Zhao & Zhang 2022 (arXiv 2203.14367): sizes, network, and the backbone."""

from kinecast.models.tps.config import POINTS, AVDConfig, InpaintingConfig, TPSConfig
from kinecast.models.tps.model import TPS
from kinecast.models.tps.network import DenseMotion, SourceState, spline_basis, spline_grids
from kinecast.models.tps.sizes import infer_config

__all__ = [
    "POINTS",
    "TPS",
    "AVDConfig",
    "DenseMotion",
    "InpaintingConfig",
    "SourceState",
    "TPSConfig",
    "infer_config",
    "spline_basis",
    "spline_grids",
]
