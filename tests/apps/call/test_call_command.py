"""`kinecast call` as a command: its mistakes, and the page's process from start to end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from kinecast.cli import main
from kinecast.models.checkpoints import save_backbone
from tiny import tiny_fomm


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["x", "--server", "http://x"], "expected an invitation or a --server, found both"),
        (["--headless"], "expected --input with --headless, found none"),
        (["--output", "seen.mp4"], "expected --headless with --output"),
        (["--seconds", "3"], "expected --headless with --seconds"),
        (["--repeat"], "expected --headless with --repeat"),
        (["--json"], "expected --headless with --json"),
        (["--turn-user", "me"], "expected --turn with a TURN user"),
        (["--stun", "x" * 300], "ICE server: expected"),
        (["--fps", "1000"], "fps: expected 1 to 60"),
        (["--quality", "0"], "quality: expected 1"),
        (["--avatar", "nothing.png"], "nothing.png: expected a picture, found nothing there"),
        (["--input", "nothing.mp4"], "nothing.mp4: expected a clip, found nothing there"),
    ],
)
def test_a_mistake_is_one_line(arguments, line, capsys):
    assert main(["call", "--no-browser", *arguments]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and line in lines[0]


def test_without_the_extra_the_fix_is_said(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("kinecast.apps.call")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert main(["call", "--no-browser"]) == 1
    assert "pip install 'kinecast[live]'" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_the_page_is_there_until_ctrl_c(tmp_path: Path):
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=3), tmp_path / "tiny.safetensors", {})
    command = [sys.executable, "-m", "kinecast", "call", "--no-browser", "--model", str(tmp_path / "tiny.safetensors")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        address = process.stderr.readline().split()[-1]
        base, token = address.split("#")
        assert base.startswith("http://127.0.0.1:") and len(token) == 43
        with urlopen(Request(base), timeout=10) as page:
            assert b"kinecast call" in page.read() and token.encode() not in page.read()
        process.send_signal(signal.SIGINT)  # while the model may still be loading
        rest = process.communicate(timeout=20)[1]
        assert process.returncode == 0 and "Traceback" not in rest and token not in rest
    finally:
        process.kill()
        process.wait()
