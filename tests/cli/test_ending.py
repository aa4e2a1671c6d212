"""A command that is ended from outside leaves nothing half written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import make_clip


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_half_written_file(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    clip, folder = make_clip(tmp_path / "a.mp4", frames=3000), tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "kinecast", "animate", "--driving", str(clip), "-o", str(folder / "b.mp4")]
    with subprocess.Popen([*command, "--model", str(tiny)], stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not any(map(_begun, folder.iterdir())):  # until the clip is being written
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert list(folder.iterdir()) == []


def _begun(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # what was tried whether it can be written is removed again
        return False
