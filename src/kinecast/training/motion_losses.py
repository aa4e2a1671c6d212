"""Motion losses of each backbone, beside the image losses.

FOMM (Siarohin et al. 2019, section 3.4), TPS (Zhao & Zhang 2022, section 3.4) and face-vid2vid (Wang et al. 2021,
section 3.5). Each function reconstructs driving frames and returns its losses by name, unweighted; the weights are
`PUBLISHED_WEIGHTS`. `kinecast.training.methods` assigns them to backbones.

Notation: B batch, K keypoints, N = 5 K points of TPS.
"""

import torch
from torch import Tensor

from kinecast.models import FOMM, TPS, FaceVid2Vid
from kinecast.models.blocks.head_pose import HeadPose, posed_keypoints
from kinecast.models.fomm import Keypoints
from kinecast.training.losses import RandomTransform, equivariance_losses

PUBLISHED_WEIGHTS = {
    "fomm": {"equivariance_value": 10.0, "equivariance_jacobian": 10.0},
    "tps": {"equivariance_value": 10.0, "warp": 10.0, "background": 10.0},
    "face-vid2vid": {"equivariance_value": 20.0, "prior": 10.0, "head_pose": 20.0, "expression": 5.0},
}

_DISTANCE, _DEPTH = 0.1, 0.33  # the keypoints' minimum squared distance, and their mean depth


def fomm_losses(
    model: FOMM, source: Tensor, driving: Tensor, transform: RandomTransform
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruct driving frames (B, 3, H, W): the prediction, and the losses of points and local frames."""
    prediction, kp_driving, _ = model.reconstruct(source, driving)
    transformed = model.kp_detector(transform.transform(driving))
    value, jacobian = equivariance_losses(kp_driving, transformed, transform)
    losses = {"equivariance_value": value}
    return prediction, losses if jacobian is None else losses | {"equivariance_jacobian": jacobian}


def tps_losses(
    model: TPS, source: Tensor, driving: Tensor, transform: RandomTransform, dropout: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruct driving frames (B, 3, H, W): prediction and losses of points, warped features and background.

    The warp loss trains the motion, not the encoder: features and, on the driving's side, occlusion pass no gradient.
    `dropout` is the share of splines dropped (Zhao & Zhang 2022, equation 7).
    """
    prediction, kp_driving, _, motion = model.reconstruct(source, driving, dropout)
    transformed = model.kp_detector(transform.transform(driving))
    value, _ = equivariance_losses(Keypoints(kp_driving, None), Keypoints(transformed, None), transform)
    losses = {"equivariance_value": value}
    network = model.inpainting_network
    with torch.no_grad():
        features, wanted = network.encode(source), network.encode(driving)
    fixed = motion._replace(occlusion_maps=[occlusion.detach() for occlusion in motion.occlusion_maps])
    moved = network.moved(features, fixed)
    pairs = zip(moved, reversed(wanted), fixed.occlusion_maps, strict=True)
    losses["warp"] = torch.stack([(a - b * occlusion).abs().mean() for a, b, occlusion in pairs]).sum()
    if model.bg_predictor is not None:
        there, back = model.bg_predictor(source, driving), model.bg_predictor(driving, source)
        losses["background"] = (there @ back - torch.eye(3, device=there.device)).abs().mean()
    return prediction, losses


def face_losses(
    model: FaceVid2Vid,
    source: Tensor,
    driving: Tensor,
    transform: RandomTransform,
    head_pose: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Reconstruct driving frames (B, 3, H, W): the prediction, and the losses of keypoints, pose and expression.

    `head_pose` (B, 3) is the driving's yaw, pitch and roll in radians from another estimator; without it that loss is
    omitted. As in the public code, expression is the sum over its 3 K numbers and pose the sum of its three angles in
    degrees: a mean would weight them 45 and 172 times less for K = 15.
    """
    prediction, kp_driving, _, pose = model.reconstruct(source, driving)
    moved: HeadPose = model.he_estimator(transform.transform(driving))
    transformed = posed_keypoints(model.kp_detector(source), moved)
    losses = {
        "equivariance_value": equivariance_losses(
            Keypoints(kp_driving[..., :2], None), Keypoints(transformed[..., :2], None), transform
        )[0],
        "prior": keypoint_prior(kp_driving),
        "expression": pose.expression.abs().sum(dim=(1, 2)).mean(),
    }
    if head_pose is not None:
        losses["head_pose"] = torch.rad2deg(pose.rotation - head_pose).abs().sum(dim=1).mean()
    return prediction, losses


def keypoint_prior(keypoints: Tensor) -> Tensor:
    """Return how far keypoints (B, K, 3) are from being spread out at a mean depth of 0.33 (Wang et al., eq. 9)."""
    squared = (keypoints[:, :, None] - keypoints[:, None]).square().sum(dim=-1)
    others = 1 - torch.eye(keypoints.shape[1], device=keypoints.device)
    crowded = (torch.relu(_DISTANCE - squared) * others).sum(dim=(1, 2))
    return (crowded + (keypoints[..., 2].mean(dim=1) - _DEPTH).abs()).mean()


def avd_loss(model: TPS, source: Tensor, driving: Tensor, transform: RandomTransform) -> Tensor:
    """Return AVD's error on points of `driving`, given the shape of `source` and a deformed driving's pose.

    Trained separately from everything else: the detector passes no gradient (Zhao & Zhang 2022, section 3.5).

    Raises:
        ValueError: the model has no AVD network.
    """
    if model.avd_network is None:
        raise ValueError("expected a TPS with an AVD network, found one without")
    with torch.no_grad():
        shape, wanted = model.kp_detector(torch.cat([source, driving])).chunk(2)
        pose = transform.warp_points(wanted)
    return (model.avd_network(shape, pose) - wanted).abs().mean()
