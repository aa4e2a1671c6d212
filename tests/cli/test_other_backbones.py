"""All backbones from the command line: import, extract, animate, forecast, encode, decode."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kinecast.apps.stream.clips import profile_for
from kinecast.codec import StreamReader, decode_motion
from kinecast.codec.packets import MotionPacket
from kinecast.media.video import probe
from kinecast.models import FOMM, TPS, Backbone, FaceVid2Vid
from kinecast.models.checkpoints import save_backbone
from kinecast.motion import Motion
from kinecast.motion_spec import motion_spec
from kinecast.zoo import load_backbone
from tiny import pictures, tiny_fomm
from tiny_backbones import tiny_face_vid2vid, tiny_tps

KINDS: dict[str, Callable[[], TPS | FaceVid2Vid]] = {"tps": tiny_tps, "face-vid2vid": tiny_face_vid2vid}
ALL: dict[str, Callable[[], Backbone]] = {"fomm": lambda: tiny_fomm(frame_size=(32, 32)), **KINDS}


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


@pytest.mark.parametrize("kind", ALL)
def test_a_forecaster_learns_and_the_codec_sends_their_motion(run, kind, clip, tmp_path):
    """From a clip to motion, to a VRNN of it, to a forecast picture and to a stream of a budget that it fills."""
    model, weights, motion = ALL[kind](), tmp_path / "model.safetensors", tmp_path / "motion.npz"
    save_backbone(model, weights, {})
    result = run("extract", clip, "-o", motion, "--model", weights)
    assert result.code == 0, result.err
    vrnn = tmp_path / "vrnn.safetensors"
    learn = ("train", "forecaster", "--model", "vrnn", "--horizon", "4-2", "--batch-size", 2, "--device", "cpu")
    result = run(*learn, "--data", motion, "-o", vrnn, "--steps", 2, "--set", "hidden=4", "--set", "mlp=4")
    assert result.code == 0, result.err

    call = ("animate", "--driving", clip, "--model", weights, "--forecast", vrnn, "--horizon", "4-2", "--samples", 2)
    result = run(*call, "-o", tmp_path / "futures.mp4", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert (report["forecaster"], report["frames_sent"], report["samples"]) == ("vrnn", 8, 2)
    assert report["rate"]["published_kbps"] == pytest.approx(model.motion_dim * 32 * 25 * 4 / 6 / 1000)

    stream = tmp_path / "all.kcm"
    result = run("encode", clip, "-o", stream, "--model", weights, "--quality", 9, "--json")
    assert result.code == 0, result.err
    found, true = _decoded(stream), Motion.load(motion).vectors()
    assert json.loads(result.out)["profile"] == "generic" and found.shape == true.shape
    coarsest = max(component.step for component in motion_spec(model.name))
    assert (found - true).abs().max() <= coarsest / 2**9 / 2 + 1e-6
    stream = tmp_path / "few.kcm"
    result = run("encode", clip, "-o", stream, "--model", weights, "--kbps", 1, "--forecast", vrnn, "--json")
    assert result.code == 0, result.err
    sent = json.loads(result.out)["frames_sent"]
    assert 2 <= sent < 12
    result = run("decode", stream, "-o", tmp_path / "few.mp4", "--model", weights, "--forecast", vrnn, "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    assert (figures["frames"], figures["skipped"], figures["concealed"]) == (12, 12 - sent, 0)


def _decoded(stream: Path) -> torch.Tensor:
    with stream.open("rb") as file:
        reader = StreamReader(file)
        packets = [unit for unit in reader.units() if isinstance(unit, MotionPacket)]
        header = reader.header
    frames = decode_motion(packets, header.layout, profile_for(header))
    return torch.stack([torch.from_numpy(frame.vector) for frame in frames])


def test_tps_moves_the_background_and_keeps_the_shape(run, clip, tmp_path):
    model, weights = tiny_tps(), tmp_path / "tps.safetensors"
    save_backbone(model, weights, {})
    call = ("animate", "--driving", clip, "--model", weights, "--json", "-o", tmp_path / "out.mp4")
    for options, numbers in (
        (("--background", "--forecast", "velocity", "--horizon", "4-2"), 26),
        (("--source", clip, "--relative", "--best-frame", "--background"), 26),
        (("--source", clip, "--avd", "--background", "--forecast", "velocity", "--horizon", "4-2", "--compare"), 26),
        (("--source", clip, "--avd"), 20),
    ):
        result = run(*call, *options)
        assert result.code == 0, result.err
        assert json.loads(result.out)["motion_dim"] == numbers
    save_backbone(tiny_face_vid2vid(), weights, {})
    for option, part in (("avd", "avd_network"), ("background", "bg_predictor")):
        result = run(*call, "--source", clip, f"--{option}")
        assert result.code == 1
        assert result.error_lines == [
            f"kinecast: {option}: expected TPS weights with {part}, found face-vid2vid: drop --{option}"
        ]
    result = run(*call, "--source", clip, "--avd", "--relative")
    assert result.error_lines == ["kinecast: motion: expected relative or avd, found both: drop --relative or --avd"]


@pytest.mark.parametrize("kind", KINDS)
def test_zoo_import(run, kind, tmp_path):
    model = KINDS[kind]()
    published(model, tmp_path / "vox.pth.tar")
    result = run("zoo", "import", tmp_path / "vox.pth.tar", "--frame-size", 32, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["backbone"] == kind
    imported = load_backbone(tmp_path / "vox.safetensors", "cpu")
    frames = pictures(2, (32, 32))
    assert torch.equal(imported.detect(frames).vectors(), model.detect(frames).vectors())


def published(model: Backbone, path) -> None:
    """Write a checkpoint as the published ones are."""
    parts: dict = {"epoch": 99, "optimizer": {"state": {}}}
    for name, tensor in model.state_dict().items():
        part, name = name.split(".", 1)
        parts.setdefault(part, {})[name] = tensor
    torch.save(parts, path)


@pytest.mark.parametrize(
    ("flags", "corners"), [((), True), (("--align-corners",), True), (("--no-align-corners",), False)], ids=str
)
def test_zoo_import_of_a_fomm_says_how_its_grid_is_read(run, flags, corners, tmp_path):
    published(ALL["fomm"](), tmp_path / "vox.pth.tar")
    result = run("zoo", "import", tmp_path / "vox.pth.tar", "--frame-size", 32, "--json", *flags)
    assert result.code == 0, result.err
    assert json.loads(result.out)["config"]["align_corners"] is corners
    imported = load_backbone(tmp_path / "vox.safetensors", "cpu", "eager")
    assert isinstance(imported, FOMM) and imported.config.align_corners is corners
