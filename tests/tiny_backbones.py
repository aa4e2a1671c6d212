"""TPS and face-vid2vid small enough for tests, with every tensor away from its initial value."""

from typing import Any

import torch
from torch import nn

from kinecast.models.blocks.spade import SpectralConv2d
from kinecast.models.face_vid2vid import FaceVid2Vid, FaceVid2VidConfig
from kinecast.models.tps import TPS, TPSConfig
from tiny import shake

_PART = {"block_expansion": 4, "num_blocks": 2, "max_features": 16}
TPS_SETTINGS: dict[str, Any] = {
    "frame_size": (32, 32),
    "num_splines": 2,
    "detector": 4,
    "background": 3,
    "dense_motion": {**_PART, "scale_factor": 0.5},
    "inpainting": {"block_expansion": 4, "max_features": 16, "num_down_blocks": 2},
    "avd": {"hidden": (6, 9), "identity": 5, "pose": 3},
}
FACE_SETTINGS: dict[str, Any] = {
    "frame_size": (32, 32),
    "num_keypoints": 3,
    "detector": {**_PART, "depth": 4, "scale_factor": 0.5},
    "head_pose": {"width": 4, "bins": 66, "blocks": (1, 1, 2, 1)},
    "dense_motion": {**_PART, "compress": 2},
    "generator": {
        "block_expansion": 4,
        "max_features": 16,
        "num_down_blocks": 2,
        "channels": 4,
        "depth": 4,
        "volume_blocks": 1,
        "blocks": 1,
        "spade": 6,
    },
}


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return settings with some changed; changes of a part are merged into it."""
    out = dict(settings)
    for name, value in changes.items():
        out[name] = {**out[name], **value} if isinstance(value, dict) else value
    return out


def tiny_tps(seed: int = 0, **changes: Any) -> TPS:
    """Build a TPS of two splines at 32x32 unless changed."""
    model = TPS(TPSConfig.from_dict(merged(TPS_SETTINGS, changes)))
    shake(model, seed)
    with torch.no_grad():
        model.kp_detector.fg_encoder.fc.weight.mul_(0.3)  # points away from the border
        if model.bg_predictor is not None:
            model.bg_predictor.bg_encoder.fc.weight.mul_(0.02)  # and a background near rest, as training has them
    return model.eval()


def tiny_face_vid2vid(seed: int = 0, **changes: Any) -> FaceVid2Vid:
    """Build a face-vid2vid of three keypoints at 32x32 unless changed."""
    model = FaceVid2Vid(FaceVid2VidConfig.from_dict(merged(FACE_SETTINGS, changes)))
    shake(model, seed)
    estimator = model.he_estimator
    with torch.no_grad():
        for head, scale in (("fc_yaw", 0.2), ("fc_pitch", 0.2), ("fc_roll", 0.2), ("fc_t", 0.05), ("fc_exp", 0.05)):
            estimator.get_submodule(head).get_parameter("weight").mul_(scale)
    settle(model)
    return model.eval()


def settle(model: nn.Module) -> None:
    """Give spectral normalisation the true singular vectors of its kernels."""
    for part in model.modules():
        if isinstance(part, SpectralConv2d):
            u, _, v = torch.linalg.svd(part.weight_orig.detach().flatten(1), full_matrices=False)
            part.weight_u.copy_(u[:, 0])
            part.weight_v.copy_(v[0])
