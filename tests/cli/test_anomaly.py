"""`kinecast anomaly` from files to a timeline, and what it says of unfit input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import draw_frames, write_clip
from kinecast.apps.anomaly.defect_set import read_set
from kinecast.media.video import probe
from kinecast.motion import Motion

SHORT = ("--observe", "4", "--ahead", "2", "--samples", "4", "--steps", "5", "--frame-rate", "0.1")


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 circles of unequal rates, as motion (16, 2)."""
    folder = tmp_path_factory.mktemp("normal")
    random = np.random.default_rng(0)
    for i in range(24):
        phase = random.uniform(0, 6) + np.arange(16) * random.uniform(0.3, 0.4)
        np.save(folder / f"circle-{i:02d}.npy", np.stack([np.cos(phase), np.sin(phase)], axis=1))
    return folder


def test_motion_to_timeline(run: Callable[..., Any], normal: Path, tmp_path: Path) -> None:
    motion = np.load(normal / "circle-00.npy")
    motion[10:] += 3
    np.save(tmp_path / "jump.npy", motion)
    done = run("anomaly", tmp_path / "jump.npy", "--normal", normal, "-o", tmp_path / "out", *SHORT, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["first_alarm"]["nll"] == 10 and told["primary"] == "nll" and told["calibration_clips"] == 12
    assert "first alarm at frame 10" in done.err
    written = json.loads((tmp_path / "out/anomaly.json").read_text())
    assert [row["frame"] for row in written["scores"]] == list(range(16)) and "nll" in written["scores"][10][
        "clip_alarms"
    ]
    assert (tmp_path / "out/timeline.png").stat().st_size > 1000

    assert told["fault_at"] is None and told["lead"] is None
    assert told["pictures"] == {"drawn": False, "why": "motion without pictures: name the clip"}

    model = tmp_path / "out/model.safetensors"
    again = run(
        *("anomaly", "score", tmp_path / "jump.npy", "--normal", normal, "-o", tmp_path / "2", "--model", model),
        *(*SHORT, "--svg", "--fault-at", 12),
    )
    assert again.code == 0, again.err
    assert json.loads((tmp_path / "2/anomaly.json").read_text())["lead"]["nll"] == {"frames": 2, "seconds": None}
    assert "jump.npy: 2 frames before the fault" in again.err
    assert json.loads((tmp_path / "2/anomaly.json").read_text())["scores"] == written["scores"]
    assert (tmp_path / "2/timeline.svg").read_text().startswith("<?xml")


def test_clips_through_a_backbone(run: Callable[..., Any], tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    for i in range(8):
        write_clip(tmp_path / f"normal/{i}.mp4", np.roll(draw_frames(10, (32, 32)), i, axis=0))
    rates = ("--frame-rate", "0.3", "--clip-rate", "0.3")
    options = (*SHORT, *rates, "--backbone", tiny, "--model", "velocity", "--limit", 8)
    done = run("anomaly", tmp_path / "normal/3.mp4", "--normal", tmp_path / "normal", "-o", tmp_path / "out", *options)
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "out/anomaly.json").read_text())
    assert told["frames"] == 8 and told["primary"] == "distance" and "distance" in told["scores"][-1]
    pictures = told["pictures"]
    assert pictures["drawn"] and pictures["made_at"] >= 3 and pictures["frames"][-1] <= 7
    assert pictures["surprise"].keys() == {str(frame) for frame in pictures["frames"]}
    assert (tmp_path / "out/forecasts.png").read_bytes().startswith(b"\x89PNG")

    made: tuple[Any, ...] = (
        "anomaly",
        "synthesize",
        "--normal",
        tmp_path / "normal",
        "-o",
        tmp_path / "set",
        "--backbone",
        tiny,
    )
    made += ("--model", "velocity", "--observe", 4, "--ahead", 3, "--count", 1, "--samples", 2, "--part", 6)
    done = run(*made, "--kinds", "normal,freeze", "--clips", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["written"] == 2
    assert {path.name for path in (tmp_path / "set/clips").iterdir()} == {"normal-00000.mp4", "freeze-00000.mp4"}
    assert probe(tmp_path / "set/clips/freeze-00000.mp4").frames == 7
    motion = Motion.load(tmp_path / "set/motion/freeze-00000.npz")
    assert len(motion) == 7 and motion.backbone == "fomm" and motion.clip == "freeze-00000"
    assert run(*made, "--kinds", "normal,freeze", "--clips", "--json").out.count('"written": 0') == 1


def test_defects_are_synthesized_from_motion(run: Callable[..., Any], normal: Path, tmp_path: Path) -> None:
    options = ("--normal", normal, "-o", tmp_path / "set", "--observe", 4, "--ahead", 5, "--samples", 4, "--steps", 3)
    done = run("anomaly", "synthesize", *options, "--count", 2)
    assert done.code == 0 and "10 samples written, 0 were there" in done.err, done.err
    motion, rows = read_set(tmp_path / "set")
    assert len(rows) == 10 and all(each.shape == (9, 2) for each in motion.values())
    assert {row["onset"] for row in rows.values()} == {"4"}

    again = run("anomaly", "synthesize", *options, "--count", 3)  # the forecaster is the folder's own, not trained anew
    assert again.code == 0 and "5 samples written, 10 were there" in again.err and "training" not in again.err
    refused = run("anomaly", "synthesize", *options, "--seed", 1)
    assert refused.code == 1 and "found another: name another folder" in refused.error_lines[0]


def test_unfit_input_is_one_line(run: Callable[..., Any], normal: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out", *SHORT)
    cases = {
        "found 12: add clips": (normal / "circle-00.npy", "--normal", normal, *out, "--clip-rate", "0.01"),
        "expected /dev/video99": ("99", "--normal", normal, *out),
        "at least 2 clips": (normal / "circle-00.npy", "--normal", normal / "circle-01.npy", *out),
        "expected a path or one of": (normal / "circle-00.npy", "--normal", normal, *out, "--model", "nothing"),
        "a frame from 1 on, found 0": (normal / "circle-00.npy", "--normal", normal, *out, "--fault-at", "0"),
        "normal clips with pictures": ("synthesize", "--normal", normal, "-o", tmp_path / "set", "--clips"),
        "found tail, leak": ("synthesize", "--normal", normal, "-o", tmp_path / "set", "--kinds", "tail,leak"),
        "divides the 2 numbers": ("synthesize", "--normal", normal, "-o", tmp_path / "set", "--part", "4"),
    }
    for words, arguments in cases.items():
        done = run("anomaly", *arguments)
        assert done.code == 1 and len(done.error_lines) == 1 and words in done.error_lines[0], done.err
