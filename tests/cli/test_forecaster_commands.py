"""`train forecaster`, `forecast` and `evaluate keypoints` from the command line."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ar_motion import ar_motion, ar_series
from kinecast.forecasting import build_forecaster
from kinecast.motion import Motion


@pytest.fixture
def series(tmp_path):
    path = tmp_path / "series.npz"
    arrays: dict[str, Any] = {clip: motion.numpy() for clip, motion in ar_series().items()}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def motion_file(tmp_path):
    values = ar_motion(22, 4).view(22, 2, 2)
    path = tmp_path / "motion.npz"
    Motion("fomm", {"value": values}, fps=25.0, frame_size=(64, 64), clip="blob.mp4").save(path)
    return path


def train(run, series, out, *more):
    small = ("--set", "hidden=6", "--set", "read_out=6", "--batch-size", 8, "--device", "cpu")
    return run("train", "forecaster", "--data", series, "-o", out, "--model", "gru", "--horizon", "5-4", *small, *more)


def test_train_then_forecast(run, series, motion_file, tmp_path):
    out = tmp_path / "new" / "gru.safetensors"
    result = train(run, series, out, "--steps", 3, "--validate", "id1", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["steps"] == 3
    assert sorted(path.name for path in out.parent.iterdir()) == ["gru.json", "gru.safetensors"]
    assert json.loads(out.with_suffix(".json").read_text())["config"]["validate"] == "id1"

    target = tmp_path / "forecast.npz"
    result = run("forecast", motion_file, "-o", target, "--model", out, "--horizon", "5-4", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    figures = json.loads(result.out)
    true, forecast = Motion.load(motion_file).vectors(), Motion.load(target).vectors()
    changed = (true != forecast).any(dim=1)
    assert changed.tolist() == [False] * 5 + [True] * 4 + [False] * 5 + [True] * 4 + [False] * 4
    assert figures["forecast_frames"] == 8
    assert figures["mae"] == pytest.approx(float((true - forecast)[changed].abs().mean()), rel=1e-4)


def test_training_on_several_rates(run, series, tmp_path):
    out = tmp_path / "gru.safetensors"
    result = train(run, series, out, "--steps", 1, "--every", 2, "--every", 1, "--amplitude", 0.1)
    assert result.code == 0, result.err
    config = json.loads(out.with_suffix(".json").read_text())["config"]
    assert (config["every"], config["also_every"], config["amplitude"]) == (2, [1], 0.1)


def test_several_samples_are_numbered(run, series, motion_file, tmp_path):
    out = tmp_path / "climatology.safetensors"
    assert (
        run("train", "forecaster", "--data", series, "-o", out, "--model", "climatology", "--horizon", "5-4").code == 0
    )
    result = run(
        "forecast", motion_file, "-o", tmp_path / "f.npz", "--model", out, "--horizon", "5-4", "--samples", 3, "--json"
    )
    assert result.code == 0, result.err
    assert json.loads(result.out)["crps"] > 0
    futures = [Motion.load(tmp_path / f"f-{i:02d}.npz").vectors() for i in (1, 2, 3)]
    assert not torch.equal(futures[0], futures[1]) and not (tmp_path / "f.npz").exists()


def test_a_forecast_sees_only_the_block_before_it(run, motion_file, tmp_path):
    motion = Motion.load(motion_file)
    changed = motion.vectors().clone()
    changed[5:9] += 7  # the first block that is forecast
    motion.with_vectors(changed).save(tmp_path / "changed.npz")
    for name in ("motion", "changed"):
        call = ("forecast", tmp_path / f"{name}.npz", "-o", tmp_path / f"{name}-out.npz", "--model", "velocity")
        assert run(*call, "--horizon", "5-4").code == 0
    first, second = (Motion.load(tmp_path / f"{name}-out.npz").vectors() for name in ("motion", "changed"))
    assert torch.equal(first, second)


# The command, which the system kills right after its first checkpoint, on however fast a machine.
KILLED = """
import os, signal, sys
from kinecast.training import forecaster
save_state = forecaster.save_state
def save_and_die(path, state):
    save_state(path, state)
    os.kill(os.getpid(), signal.SIGKILL)
forecaster.save_state = save_and_die
from kinecast.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_killed_training_goes_on(run, series, tmp_path):
    out = tmp_path / "gru.safetensors"
    arguments = [
        "train",
        "forecaster",
        "--data",
        series,
        "-o",
        out,
        "--model",
        "gru",
        "--horizon",
        "5-4",
        "--steps",
        300,
    ]
    arguments += ["--set", "hidden=6", "--set", "read_out=6", "--batch-size", 8, "--device", "cpu"]
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    killed = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    assert killed.returncode == -signal.SIGKILL and out.with_suffix(".ckpt").exists() and not out.exists()
    resumed = run(*arguments)
    assert resumed.code == 0 and "resuming from step" in resumed.err
    whole = tmp_path / "whole.safetensors"
    arguments[5] = whole
    assert run(*arguments).code == 0
    first, second = load_file(out), load_file(whole)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_evaluate_keypoints_writes_its_tables(run, series, tmp_path):
    folder = tmp_path / "released"
    folder.mkdir()
    model = build_forecaster("vrnn-released", 4, hidden=8, latent=3, fc=8)
    save_file(model.state_dict(), folder / "vrnn_vox_4-3.safetensors")
    common = ("--data", series, "--validate", "id1", "--horizon", "4-3", "--released", folder, "--samples", 5, "--json")
    result = run("research", "keypoints", *common, "-o", tmp_path / "honest", "--steps", 2, "--models", "gru")
    assert result.code == 0, result.err
    results = json.loads((tmp_path / "honest/results.json").read_text())
    assert {"command", "date", "machine", "config", "tables"} <= set(results)
    text = (tmp_path / "honest/keypoints.md").read_text()
    assert "| vrnn released, as released * |" in text and "| gru (kinecast) | kinecast |" in text

    result = run("research", "keypoints", *common, "-o", tmp_path / "released-reading", "--protocol", "as-released")
    assert result.code == 0, result.err
    assert "previous true frame *" in (tmp_path / "released-reading/keypoints.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--horizon", "20-20"], ["22 frames", "20-20", "at least 40"]),
        (["--horizon", "twelve"], ["expected OBSERVED-FORECAST", "'twelve'"]),
        (["--model", "oracle"], ["'oracle'", "expected"]),
        (["--samples", "0"], ["at least 1"]),
    ],
)
def test_a_forecast_that_cannot_be_made(run, motion_file, tmp_path, arguments, words):
    base = {"--model": "repeat", "--horizon": "5-4"} | dict(zip(arguments[::2], arguments[1::2], strict=True))
    options = [part for pair in base.items() for part in pair]
    result = run("forecast", motion_file, "-o", tmp_path / "out.npz", *options)
    assert result.code == 1 and len(result.error_lines) == 1
    assert all(word in result.error_lines[0] for word in words)
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "oracle"], ["'oracle'", "expected one of repeat"]),
        (["--set", "wings=2"], ["found wings"]),
        (["--preset", "huge"], ["expected a preset of kinecast, paper"]),
        (["--validate", "nobody"], ["persons are id0, id1, id2"]),
        (["--every", "0"], ["expected every of at least 1, found 0"]),
        (["--horizon", "90-90"], ["horizon 90-90 needs at least 180"]),
        (["--data", "missing.npz"], ["missing.npz", "found nothing there"]),
    ],
)
def test_a_training_that_cannot_be_made(run, series, tmp_path, arguments, words):
    base = {"--data": series, "--model": "gru", "--steps": 1} | dict(zip(arguments[::2], arguments[1::2], strict=True))
    options = [part for pair in base.items() for part in pair]
    result = run("train", "forecaster", "-o", tmp_path / "out.safetensors", *options)
    assert result.code == 1 and len(result.error_lines) == 1
    assert all(word in result.error_lines[0] for word in words)
