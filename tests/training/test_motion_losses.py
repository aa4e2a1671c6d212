"""The losses of TPS and face-vid2vid: their formulas, what they teach, and that tiny networks learn by them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.models import FOMM, TPS, FaceVid2Vid, Mesh
from kinecast.models.blocks.layers import coordinate_grid
from kinecast.models.fomm import FOMMConfig
from kinecast.models.tps import TPSConfig
from kinecast.training.losses import RandomTransform
from kinecast.training.methods import METHODS, method_named, method_of
from kinecast.training.motion_losses import (
    PUBLISHED_WEIGHTS,
    avd_loss,
    face_losses,
    keypoint_prior,
    tps_losses,
)
from tiny import pictures, tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps

SIZE = (32, 32)


def transform() -> RandomTransform:
    return RandomTransform(4, torch.Generator().manual_seed(0))


def frames() -> tuple[torch.Tensor, torch.Tensor]:
    """Sources, and the same pictures moved to the side."""
    wide = pictures(4, (32, 40))
    return wide[..., :32].contiguous(), wide[..., 6:38].contiguous()


@pytest.mark.parametrize("kind", ["tps", "face-vid2vid", "face-vid2vid original"])
def test_a_tiny_one_learns(kind):
    source, driving = frames()
    model: Any
    losses: Callable[..., Any]
    if kind == "tps":
        model, losses, weights = tiny_tps(), tps_losses, PUBLISHED_WEIGHTS["tps"]
    else:
        model = tiny_face_vid2vid(generator={"spade": 6 if kind == "face-vid2vid" else None})
        losses, weights = face_losses, PUBLISHED_WEIGHTS["face-vid2vid"]
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.999))
    totals, pixels = [], []
    for _ in range(25):
        prediction, parts = losses(model, source, driving, transform())
        pixels.append((prediction - driving).abs().mean())
        total = 10 * pixels[-1] + torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert totals[-1] < 0.7 * totals[0]
    assert pixels[-1] < 0.8 * pixels[0]


def test_the_warp_loss_teaches_the_motion_alone():
    model: Any = tiny_tps()
    source, driving = frames()
    _, parts = tps_losses(model, source, driving, transform(), dropout=0.3)
    assert set(parts) == set(PUBLISHED_WEIGHTS["tps"])
    parts["warp"].backward()
    assert all(p.grad is None for p in model.inpainting_network.parameters())
    assert all(p.grad is None for p in model.dense_motion_network.occlusion.parameters())
    assert model.kp_detector.fg_encoder.fc.weight.grad.abs().max() > 0
    assert model.dense_motion_network.maps.weight.grad.abs().max() > 0


def test_the_background_there_and_back_is_no_motion():
    model: Any = tiny_tps()
    source, driving = frames()
    with torch.no_grad():
        model.bg_predictor.bg_encoder.fc.weight.zero_()
        model.bg_predictor.bg_encoder.fc.bias.copy_(torch.tensor([1.0, 0, 0.5, 0, 1, 0]))
        shifted = tps_losses(model, source, driving, transform())[1]["background"]
        torch.testing.assert_close(shifted, torch.tensor(1 / 9))  # 0.5 there and 0.5 back, in one of nine numbers
        model.bg_predictor.bg_encoder.fc.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
        assert tps_losses(model, source, driving, transform())[1]["background"] == 0
    assert "background" not in tps_losses(tiny_tps(background=None), source, driving, transform())[1]


def test_keypoint_prior():
    points = torch.tensor([[[0.0, 0, 0.33], [1, 0, 0.33], [1, 0.2, 0.33]]])
    torch.testing.assert_close(keypoint_prior(points), torch.tensor(2 * (0.1 - 0.04)))
    torch.testing.assert_close(keypoint_prior(points + torch.tensor([0, 0, 0.5])), torch.tensor(0.12 + 0.5))
    assert keypoint_prior(points * torch.tensor([1.0, 2, 1])) < 1e-6


def test_expression_is_the_sum_of_its_numbers():
    model = tiny_face_vid2vid()
    source, driving = frames()
    with torch.no_grad():
        shifts = model.he_estimator(driving).expression
        found = face_losses(model, source, driving, transform())[1]["expression"]
    assert shifts.shape == (4, 3, 3)
    torch.testing.assert_close(found, shifts.abs().sum() / 4)


def test_head_pose_is_compared_where_it_is_known():
    model = tiny_face_vid2vid()
    source, driving = frames()
    with torch.no_grad():
        rotation = model.he_estimator(driving).rotation
        assert "head_pose" not in face_losses(model, source, driving, transform())[1]
        found = face_losses(model, source, driving, transform(), rotation + 0.25)[1]
    assert set(found) == set(PUBLISHED_WEIGHTS["face-vid2vid"])
    degrees = torch.rad2deg(torch.tensor(0.25))
    torch.testing.assert_close(found["head_pose"], 3 * degrees)  # of yaw, pitch and roll


def test_avd_is_trained_apart():
    model: Any = tiny_tps().train()
    model.kp_detector.eval()
    source, driving = frames()
    optimizer = torch.optim.Adam(model.avd_network.parameters(), lr=1e-2)
    values = []
    for _ in range(40):
        loss = avd_loss(model, source, driving, transform())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    assert all(p.grad is None for name, p in model.named_parameters() if not name.startswith("avd_network."))
    with pytest.raises(ValueError, match="expected a TPS with an AVD network"):
        avd_loss(tiny_tps(avd=None), source, driving, transform())


# --- which backbone is trained how ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [k for k in METHODS if k is not Mesh], ids=lambda kind: kind.__name__)
def test_every_backbone_is_trained_by_losses_of_its_own(kind):
    """The mesh is tested in test_mesh_training: its losses take points."""
    model = {FOMM: tiny_fomm(frame_size=SIZE), TPS: tiny_tps(), FaceVid2Vid: tiny_face_vid2vid()}[kind]
    method = method_of(kind)
    drawn = method.transform(model.config, 4, torch.Generator().manual_seed(0))
    prediction, losses = method.losses(model, *frames(), drawn, 0.3)
    assert prediction.shape == (4, 3, *SIZE)
    unasked = {"head_pose"}  # needs another estimator
    assert set(losses) - {"avd"} == set(method.weights) - unasked
    assert ("avd" in losses) == (kind is TPS)
    assert len(method.parts_of_motion(model)) == {FOMM: 2, TPS: 4, FaceVid2Vid: 3}[kind]


def test_every_backbone_has_the_warp_it_was_published_with():
    points, seed = torch.tensor([[[0.3, -0.7]]]), 5
    controls = coordinate_grid(5, 5, points).view(-1, 2)
    offsets = points[0] - controls
    far, straight = offsets.abs().sum(dim=1), offsets.square().sum(dim=1)
    bases = {"L1": far**2 * torch.log(far + 1e-6), "thin plate": straight * torch.log(straight + 1e-9)}
    for name, basis, corners in (("fomm", "L1", False), ("tps", "thin plate", True), ("face-vid2vid", "L1", False)):
        method = method_named(name)
        drawn = method.transform(method.sizes(), 1, torch.Generator().manual_seed(seed))
        wanted = points[0] @ drawn.affine[0, :, :2].T + drawn.affine[0, :, 2] + (drawn.weights[0] * bases[basis]).sum()
        torch.testing.assert_close(drawn.warp_points(points)[0], wanted)
        assert drawn.align_corners is corners
    aligned = method_named("fomm").transform(FOMMConfig(align_corners=True), 1, torch.Generator())
    assert aligned.align_corners


def test_a_warp_that_moves_nothing_leaves_the_picture_of_tps_as_it_is():
    method, frame = method_named("tps"), pictures(2, (32, 48))
    still = RandomTransform(2, torch.Generator(), 0, 0, **method.warp(TPSConfig()))
    torch.testing.assert_close(still.transform(frame), frame, atol=1e-5, rtol=0)


def test_what_has_no_method_is_not_trained_as_something_else():
    class Other(TPS):
        pass

    with pytest.raises(KinecastError, match="expected a backbone of fomm, tps, face-vid2vid, mesh, found Other"):
        method_of(Other)
    with pytest.raises(KinecastError, match="expected backbone fomm, tps, face-vid2vid, mesh, found 'other'"):
        method_named("other")
