"""`kinecast camera`: what is refused before any work, and a run in a terminal, steered by keys."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from faces_in_motion import face_frames, tiny_mesh
from helpers import write_clip
from kinecast.media.pictures import to_uint8, write_image
from kinecast.models.checkpoints import save_backbone

pytest.importorskip("pyvirtualcam")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("camera")
    save_backbone(tiny_mesh(), folder / "tiny.safetensors", {})
    write_image(folder / "me.png", np.ascontiguousarray(astronaut()[:256, 96:352]))
    write_image(folder / "other.png", np.ascontiguousarray(astronaut()[:256, 351:95:-1]))
    write_clip(folder / "clip.mp4", to_uint8(face_frames(4)), fps=10)
    return folder


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--resolution", "1280"), "resolution: expected width and height, even and from 128 to 1920"),
        (("--resolution", "641x480"), "found '641x480'"),
        (("--fps", "0"), "fps: expected a number above 0"),
        (("--seconds", "nan"), "seconds: expected a number above 0"),
        (("--repeat",), "repeat: expected a clip as --input, found none"),
        (("--strength", "9"), "strength of pose: expected a number from 0 to 3"),
        (("--camera", "63"), "camera 63: expected /dev/video63, found none there"),
        (("--input", "none.mp4"), "none.mp4"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(run, files, options, line):
    if sys.platform != "linux":
        pytest.skip("devices are named as on Linux")
    result = run(
        "camera", "--source", files / "me.png", "--model", "no-such-model", "--virtual-camera", "none", *options
    )
    assert result.code == 1 and len(result.error_lines) == 1 and line in result.err


def test_without_a_driver_it_says_what_to_install(run, files, monkeypatch):
    monkeypatch.setattr(sys.modules["pyvirtualcam.camera"], "BACKENDS", {})
    result = run("camera", "--source", files / "me.png", "--input", files / "clip.mp4", "--model", "no-such-model")
    assert result.code == 1 and "virtual camera: expected a device, found none that can be used" in result.err
    assert "install " in result.err and len(result.err.splitlines()) == 1


def command(files: Path, *options: object) -> list[str]:
    given = ("--source", files / "me.png", "--source", files / "other.png", "--input", files / "clip.mp4", "--repeat")
    own = ("--model", files / "tiny.safetensors", "--virtual-camera", "none", "--resolution", "320x180")
    return [
        sys.executable,
        "-m",
        "kinecast",
        "camera",
        *map(str, (*given, *own, "--engine", "fast", "--precision", "exact", "--json", *options)),
    ]


def test_a_run_of_a_second_tells_its_figures(files):
    done = subprocess.run(
        command(files, "--seconds", "1.5", "--no-page"),
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert 1 <= figures["sent"] <= figures["arrived"] <= 20 and figures["seconds"] < 10
    assert "1: me, 2: other" in done.stderr and "Ctrl-C ends it" in done.stderr


def test_keys_of_a_terminal_steer_and_end_it(files):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    process = subprocess.Popen(
        command(files, "--no-browser"), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None and process.stdout is not None
    lines: list[str] = []
    while not lines or "keys:" not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    assert any("http://127.0.0.1:" in line for line in lines)
    time.sleep(0.3)
    os.write(ours, b"2c?x1q")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["seconds"] < 30
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_ctrl_c_ends_it_with_its_figures(files):
    process = subprocess.Popen(
        command(files, "--no-page"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "Ctrl-C ends it" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and json.loads(out)["seconds"] < 30, err
