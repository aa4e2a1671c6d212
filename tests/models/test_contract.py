"""What every backbone must do, whichever it is: the contract, and weight files."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors import safe_open

from kinecast.errors import KinecastError
from kinecast.models import BACKBONES
from kinecast.models.checkpoints import import_published, load_backbone_file, save_backbone
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion
from tiny import pictures, tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps

SIZE = (32, 32)
KINDS: dict[str, Callable[[], Any]] = {
    "fomm": lambda: tiny_fomm(frame_size=SIZE),
    "tps": tiny_tps,
    "tps bare": lambda: tiny_tps(background=None, avd=None),
    "face-vid2vid": tiny_face_vid2vid,
    "face-vid2vid original": lambda: tiny_face_vid2vid(generator={"spade": None}),
}


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return KINDS[request.param]()


def outputs(model, frames=None):
    frames = pictures(3, SIZE) if frames is None else frames
    motion = model.detect(frames)
    return [motion.vectors(), model.animate(model.encode_source(frames[:1]), motion[:1], motion)]


def assert_same(found, wanted):
    assert found.config == wanted.config
    assert not found.training
    for a, b in zip(outputs(found), outputs(wanted), strict=True):
        assert torch.equal(a, b)


def test_every_backbone_is_here(model):
    assert BACKBONES[model.name] is type(model)
    assert {name.split()[0] for name in KINDS} | {"mesh"} == set(BACKBONES)  # that needs faces: mesh/test_model.py


def test_vectors_come_and_go(model, tmp_path):
    motion = model.detect(pictures(3, SIZE))
    vectors = model.flatten(motion)
    assert vectors.shape == (3, model.motion_dim)
    again = model.unflatten(vectors)
    assert all(torch.equal(again.components[name], motion.components[name]) for name in motion.components)
    motion.save(tmp_path / "motion.npz")
    assert torch.equal(Motion.load(tmp_path / "motion.npz").vectors(), vectors)
    with pytest.raises(KinecastError, match=r"motion vectors: expected \(T, "):
        model.unflatten(vectors[:, 1:])


def test_a_batch_equals_its_frames_one_at_a_time(model):
    frames = pictures(model.chunk + 1, SIZE)  # more than one pass
    motion = model.detect(frames)
    state = model.encode_source(frames[:1])
    video = model.animate(state, motion[:1], motion)
    assert video.shape == frames.shape and not video.requires_grad
    for i in range(len(frames)):
        alone = model.detect(frames[i : i + 1])
        torch.testing.assert_close(alone.vectors()[0], motion.vectors()[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(model.animate(state, motion[0], motion[i])[0], video[i], atol=1e-5, rtol=0)


def test_relative_motion_without_change_is_the_source(model):
    frames = pictures(2, SIZE)
    source, initial = model.detect(frames[:1]), model.detect(frames[1:])
    driving = initial.with_vectors(initial.vectors().expand(3, -1))
    found = model.relative_motion(source, driving, initial, adapt_scale=False)
    assert len(found) == 3
    torch.testing.assert_close(found.vectors(), source.vectors().expand(3, -1), atol=1e-4, rtol=0)


def test_a_backbone_says_whether_it_can_adapt_the_scale(model):
    """It can exactly where relative motion does so without an error."""
    motion = model.detect(pictures(2, SIZE))
    one_place = motion.with_vectors(torch.zeros_like(motion.vectors()))
    for source, initial in ((motion[0], motion[1]), (motion[0], one_place[0]), (one_place[0], motion[0])):
        if model.adapts_scale(source, initial):
            found = model.relative_motion(source, motion, initial, adapt_scale=True)
            assert torch.isfinite(found.vectors()).all()
        else:
            with pytest.raises(KinecastError, match="adapt scale: expected"):
                model.relative_motion(source, motion, initial, adapt_scale=True)
    assert not model.adapts_scale(one_place[0], motion[0])
    assert model.adapts_scale(motion[0], motion[0]) == (model.name != "face-vid2vid")


def test_what_does_not_fit_is_refused(model):
    frames = pictures(2, SIZE)
    with pytest.raises(KinecastError, match="frames: expected height and width in multiples of"):
        model.detect(frames[:, :, :30])
    with pytest.raises(KinecastError, match=r"source: expected one image \(1, 3, H, W\), found 2"):
        model.encode_source(frames)
    other = (tiny_tps if model.name == "fomm" else tiny_fomm)(frame_size=SIZE).detect(frames)
    with pytest.raises(
        KinecastError, match=f"expected motion of {model.name} with {model.motion_dim} numbers per frame"
    ):
        model.animate(model.encode_source(frames[:1]), other, other)


def test_our_files_keep_every_bit(model, tmp_path):
    save_backbone(model, tmp_path / "a.safetensors", {"licence": "CC0-1.0"})
    assert_same(load_backbone_file(tmp_path / "a.safetensors"), model)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata()["backbone"] == model.name


def test_half_precision_files_round_once(model, tmp_path):
    save_backbone(model, tmp_path / "a.safetensors", {}, half=True)
    again = load_backbone_file(tmp_path / "a.safetensors").state_dict()
    for name, tensor in model.state_dict().items():
        wanted = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(again[name], wanted), name


@pytest.mark.parametrize("prefix", ["", "module."])
def test_published_checkpoints_give_identical_outputs(model, tmp_path, prefix):
    checkpoint: dict = {}
    for name, tensor in model.state_dict().items():
        part, name = name.split(".", 1)
        checkpoint.setdefault(part, {})[prefix + name] = tensor
    foreign = {"discriminator": {"a": torch.zeros(1)}, "optimizer": {"state": {}, "param_groups": [{"lr": 1.0}]}}
    for more in ({}, foreign | {"epoch": 99}):
        torch.save(checkpoint | more, tmp_path / "a.pth.tar")
        corners = False if model.name == "fomm" else None  # the tiny one is as today's
        found = import_published(tmp_path / "a.pth.tar", SIZE[0], corners)
        assert_same(found, model)


def test_gradient_reaches_every_parameter(model):
    """Through detection and animation both, as in training."""
    source, driving = pictures(2, SIZE, seed=1), pictures(2, SIZE, seed=2)
    prediction = model.reconstruct(source, driving)[0]
    # A constant on a whole heatmap changes nothing after the softmax over its points; AVD has a loss of its own.
    silent = {"kp_detector.kp.bias"} | {n for n, _ in model.named_parameters() if n.startswith("avd_network.")}
    (prediction - driving).abs().mean().backward()
    found = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    model.zero_grad(set_to_none=True)
    assert found <= silent


def test_retargeting_is_the_published_relative_motion(model):
    motion = model.detect(pictures(3, SIZE))
    source, initial = motion[0], motion[1]
    adapt = model.adapts_scale(source, initial)
    wanted = model.relative_motion(source, motion, initial, adapt).vectors()
    retarget = model.retarget(source, initial)
    assert torch.equal(torch.cat([retarget(motion[:2]).vectors(), retarget(motion[2:]).vectors()]), wanted)
    assert model.retarget(source, initial, Transfer("absolute"))(motion) is motion
    with pytest.raises(KinecastError, match=f"with {model.name}, found mode mixed, mouth: use the model mesh"):
        model.retarget(source, initial, Transfer("mixed", mouth=0.5))
