"""TPS and face-vid2vid from the command line: import, extract, animate, forecast."""

import json
from collections.abc import Callable

import pytest
import torch

from kinecast.backbones import TPS, FaceVid2Vid
from kinecast.backbones.checkpoints import save_backbone
from kinecast.motion import Motion
from kinecast.video import probe
from kinecast.zoo import load_backbone
from tiny import pictures
from tiny_backbones import tiny_face_vid2vid, tiny_tps

KINDS: dict[str, Callable[[], TPS | FaceVid2Vid]] = {"tps": tiny_tps, "face-vid2vid": tiny_face_vid2vid}


@pytest.fixture(params=KINDS)
def weights(request, tmp_path):
    path = tmp_path / f"{request.param}.safetensors"
    save_backbone(KINDS[request.param](), path, {})
    return path


def test_extract_and_animate(run, weights, clip, tmp_path):
    model = load_backbone(weights, "cpu")
    result = run("extract", clip, "-o", tmp_path / "motion.npz", "--model", weights, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["motion_dim"] == model.motion_dim
    motion = Motion.load(tmp_path / "motion.npz")
    assert (motion.backbone, len(motion)) == (model.name, 12)

    call = ("animate", "--driving", clip, "--model", weights, "--json")
    result = run(*call, "-o", tmp_path / "plain.mp4")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["mode"] == "reconstruction" and report["motion_dim"] == model.motion_dim
    assert probe(tmp_path / "plain.mp4").frames == 12
    result = run(*call, "-o", tmp_path / "moved.mp4", "--source", clip, "--relative", "--best-frame")
    assert result.code == 0, result.err
    result = run(*call, "-o", tmp_path / "forecast.mp4", "--forecast", "velocity", "--horizon", "4-2")
    assert result.code == 0, result.err
    assert json.loads(result.out)["frames_sent"] == 8


@pytest.mark.parametrize("kind", KINDS)
def test_zoo_import(run, kind, tmp_path):
    model = KINDS[kind]()
    parts: dict = {"epoch": 99, "optimizer": {"state": {}}}
    for name, tensor in model.state_dict().items():
        part, name = name.split(".", 1)
        parts.setdefault(part, {})[name] = tensor
    torch.save(parts, tmp_path / "vox.pth.tar")
    result = run("zoo", "import", tmp_path / "vox.pth.tar", "--frame-size", 32, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["backbone"] == kind
    imported = load_backbone(tmp_path / "vox.safetensors", "cpu")
    frames = pictures(2, (32, 32))
    assert torch.equal(imported.detect(frames).vectors(), model.detect(frames).vectors())
