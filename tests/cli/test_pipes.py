"""Whatever a command reads may come through a pipe; what `<` puts on standard input is an input like any other."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import make_clip
from kinecast import Motion
from kinecast.files import pipes
from kinecast.models.checkpoints import load_backbone_file


@pytest.fixture(autouse=True)
def _no_pipes_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipes, "_kept", {})
    monkeypatch.setattr(pipes, "_names", {})


@pytest.fixture
def piped(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """Return a function that makes a named pipe and fills it, as process substitution does."""

    def fill(name: str, data: bytes) -> Path:
        path = tmp_path / name
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
        return path

    return fill


@pytest.mark.parametrize("name", ["pipe", "pipe.kcm"])
def test_a_motion_stream(run: Any, tiny: Path, tmp_path: Path, piped: Any, name: str) -> None:
    assert run("encode", make_clip(tmp_path / "a.mp4"), "-o", tmp_path / "a.kcm", "--model", tiny).code == 0
    path = piped(name, (tmp_path / "a.kcm").read_bytes())
    by = ["decode", path] if name == "pipe" else ["animate", "--driving", path]
    result = run(*by, "-o", tmp_path / "b.mp4", "--model", tiny)
    assert result.code == 0 and (tmp_path / "b.mp4").exists(), result.err


def test_motion(run: Any, tmp_path: Path, piped: Any) -> None:
    Motion("fomm", {"value": torch.rand(12, 3, 2)}, fps=25, clip="a").save(tmp_path / "a.npz")
    path = piped("pipe", (tmp_path / "a.npz").read_bytes())
    result = run("forecast", path, "-o", tmp_path / "b.npz", "--model", "repeat", "--horizon", "4-4")
    assert result.code == 0 and len(Motion.load(tmp_path / "b.npz")) == 12, result.err


def test_weights_and_checkpoints(run: Any, tiny: Path, tmp_path: Path, piped: Any) -> None:
    clip, model = make_clip(tmp_path / "a.mp4"), load_backbone_file(tiny)
    weights = piped("pipe.safetensors", tiny.read_bytes())
    assert run("extract", clip, "-o", tmp_path / "m.npz", "--model", weights).code == 0
    torch.save({part: getattr(model, part).state_dict() for part in ("generator", "kp_detector")}, tmp_path / "a.pth")
    path = piped("pipe", (tmp_path / "a.pth").read_bytes())
    result = run("zoo", "import", path, "-o", tmp_path / "b.safetensors", "--frame-size", 32)
    assert result.code == 0 and (tmp_path / "b.safetensors").exists(), result.err


def test_what_is_wrong_with_a_pipe_is_said_by_its_name(run: Any, tiny: Path, tmp_path: Path, piped: Any) -> None:
    path = piped("pipe", b"text")
    result = run("extract", path, "-o", tmp_path / "m.npz", "--model", tiny)
    assert result.code == 1 and result.error_lines[0].startswith(f"kinecast: {path}: expected a clip or picture")


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_file_on_standard_input_is_not_replaced(tiny: Path, tmp_path: Path, name: str) -> None:
    clip = make_clip(tmp_path / "a.mp4")
    before = clip.read_bytes()
    command = [sys.executable, "-m", "kinecast", "animate", "--driving", name, "-o", str(clip), "--model", str(tiny)]
    with clip.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True)
    assert done.returncode == 1 and b"found an input" in done.stderr, done.stderr
    assert clip.read_bytes() == before
