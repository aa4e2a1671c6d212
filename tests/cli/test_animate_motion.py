"""`kinecast animate` by motion itself: what `extract`, `forecast` and `encode` wrote can be seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import make_clip
from kinecast.media.video import probe, read_frames
from kinecast.models.checkpoints import save_backbone
from tiny import tiny_fomm


@pytest.fixture
def motion(run: Callable[..., Any], tiny: Path, clip: Path, tmp_path: Path) -> Path:
    assert run("extract", clip, "-o", tmp_path / "motion.npz", "--model", tiny).code == 0
    return tmp_path / "motion.npz"


def test_a_forecast_can_be_seen(run: Callable[..., Any], tiny: Path, clip: Path, motion: Path, tmp_path: Path) -> None:
    """Held frames stand still in the clip; the frames before them are those of the true motion."""
    filled, shown, true = tmp_path / "filled.npz", tmp_path / "filled.mp4", tmp_path / "true.mp4"
    assert run("forecast", motion, "-o", filled, "--model", "repeat", "--horizon", "8-4").code == 0
    for driving, output in ((filled, shown), (motion, true)):
        result = run("animate", "--driving", driving, "--source", clip, "-o", output, "--model", tiny, "--quality", 0)
        assert result.code == 0, result.err
    frames, others = (np.stack(list(read_frames(each, crop="none"))).astype(int) for each in (shown, true))
    assert len(frames) == len(others) == 12 and probe(shown).fps == 25
    assert abs(frames[:8] - others[:8]).max() <= 2  # the encoder looks ahead
    assert abs(frames[8:] - frames[7]).max() <= 2 < abs(others[8:] - others[7]).max()


@pytest.mark.parametrize(
    "flags", [(), ("--relative", "--adapt-scale", "--best-frame"), ("--fps", "10", "--limit", "5")]
)
def test_motion_moves_a_picture(
    run: Callable[..., Any], tiny: Path, clip: Path, motion: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    source = make_clip(tmp_path / "source.mp4", frames=1, size=(48, 40))
    arguments = ("--source", source, "--model", tiny, "--json", *flags)
    by_motion, by_clip = (
        run("animate", "--driving", driving, "-o", tmp_path / name, *arguments)
        for driving, name in ((motion, "a.mp4"), (clip, "b.mp4"))
    )
    assert by_motion.code == 0, by_motion.err
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    reports = [json.loads(result.out) | {"seconds": {}} for result in (by_motion, by_clip)]
    assert reports[0] == reports[1] and reports[0]["mode"] == "transfer"


def test_a_stream_moves_its_own_picture_or_another(
    run: Callable[..., Any], tiny: Path, clip: Path, tmp_path: Path
) -> None:
    stream = tmp_path / "s.kcm"
    assert run("encode", clip, "-o", stream, "--model", tiny, "--quality", 9).code == 0
    assert run("decode", stream, "-o", tmp_path / "decoded.mp4", "--model", tiny).code == 0
    result = run("animate", "--driving", stream, "-o", tmp_path / "own.mp4", "--model", tiny, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["mode"] == "reconstruction" and json.loads(result.out)["truth"] is None
    assert (tmp_path / "own.mp4").read_bytes() == (tmp_path / "decoded.mp4").read_bytes()
    source = make_clip(tmp_path / "source.mp4", frames=1, size=(48, 40))
    result = run("animate", "--driving", stream, "--source", source, "-o", tmp_path / "o.mp4", "--model", tiny)
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected --source with a motion file"),
        (["--source", "CLIP", "--mode", "reconstruction"], "drop --mode"),
        (["--source", "CLIP", "--compare"], "compare: expected a clip as --driving"),
        (
            ["--source", "CLIP", "--model", "OTHER"],
            "expected motion of fomm with 30 numbers per frame, found fomm with 18",
        ),
        (["--source", "MOTION"], "expected a clip or picture"),
    ],
)
def test_motion_that_cannot_be_animated(
    run: Callable[..., Any],
    tiny: Path,
    clip: Path,
    motion: Path,
    tmp_path: Path,
    arguments: list[str],
    words: str,
) -> None:
    other = tmp_path / "other.safetensors"
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=5), other, {})
    named = {"CLIP": clip, "MOTION": motion, "OTHER": other}
    given = [named.get(word, word) for word in arguments]
    model = () if "--model" in arguments else ("--model", tiny)
    result = run("animate", "--driving", motion, "-o", tmp_path / "o.mp4", *given, *model)
    assert result.code == 1 and len(result.error_lines) == 1 and words in result.error_lines[0], result.err
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize(
    "command", ["animate --driving CLIP -o o.mp4", "extract CLIP -o o.npz", "encode CLIP -o o.kcm"]
)
def test_the_engine_can_be_chosen(
    run: Callable[..., Any], tiny: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [str(clip) if word == "CLIP" else word for word in command.split()]
    for engine, precision in (("eager", "exact"), ("fast", "exact")):
        result = run(*words, "--model", tiny, "--engine", engine, "--precision", precision)
        assert result.code == 0 and f"engine {engine} {precision}" in result.err
    result = run(*words, "--model", tiny, "--engine", "eager", "--precision", "bf16")
    assert result.code == 1 and "engine eager: expected precision exact" in result.error_lines[0]
