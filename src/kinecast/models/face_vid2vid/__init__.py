"""face-vid2vid, Wang, Mallya & Liu 2021 (arXiv 2011.15126): sizes, network, and the backbone."""

from kinecast.models.face_vid2vid.config import (
    DenseMotionConfig,
    DetectorConfig,
    FaceVid2VidConfig,
    GeneratorConfig,
    HeadPoseConfig,
)
from kinecast.models.face_vid2vid.model import FaceVid2Vid
from kinecast.models.face_vid2vid.network import DenseMotion, SourceState
from kinecast.models.face_vid2vid.sizes import infer_config

__all__ = [
    "DenseMotion",
    "DenseMotionConfig",
    "DetectorConfig",
    "FaceVid2Vid",
    "FaceVid2VidConfig",
    "GeneratorConfig",
    "HeadPoseConfig",
    "SourceState",
    "infer_config",
]
