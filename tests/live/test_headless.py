"""`run_headless`, and two processes that call each other."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers import make_clip
from kinecast.backbones.checkpoints import save_backbone
from kinecast.errors import KinecastError
from kinecast.live.capture import play_clip
from kinecast.live.config import CameraFrame
from kinecast.live.headless import HeadlessOptions, run_headless
from kinecast.live.rooms import Server
from kinecast.video import probe
from live.ends import config, models, run
from tiny import tiny_fomm

END = Path(__file__).with_name("headless_end.py")


@pytest.fixture
def clip(tmp_path) -> Path:
    return make_clip(tmp_path / "camera.mp4", frames=30, fps=12)


def test_a_clip_is_a_camera_in_real_time(clip):
    frames: list[CameraFrame] = []
    started = time.monotonic()
    assert run(play_clip(clip, frames.append)) == 30
    assert time.monotonic() - started >= 29 / 12
    assert 1 <= len(frames) <= 30 and [f.number for f in frames] == sorted({f.number for f in frames})
    assert all(b.captured - a.captured > 0.08 for a, b in zip(frames, frames[1:], strict=False))


def test_a_clip_that_cannot_be_read_is_said_in_a_line(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"no clip")
    with pytest.raises(KinecastError, match="expected a clip"):
        run_headless(HeadlessOptions(tmp_path / "no.mp4"), config(), print, models=models())
    with pytest.raises(KinecastError, match="found both"):
        HeadlessOptions(tmp_path / "no.mp4", server="http://a", invitation="b")
    with pytest.raises(KinecastError, match="seconds: expected above 0"):
        HeadlessOptions(tmp_path / "no.mp4", seconds=0)


def test_a_server_that_is_not_there_ends_it(clip):
    with pytest.raises(KinecastError, match="expected an answer"):
        run_headless(HeadlessOptions(clip, server="http://127.0.0.1:9"), config(), print, models=models())


def test_two_headless_ends_call_each_other(clip, tmp_path, monkeypatch):
    """In one process, each in a thread with an event loop of its own, as two programs would."""
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path / "cache"))
    results: dict[str, dict] = {}
    said: list[str] = []
    figures: list[dict] = []
    stop, address = threading.Event(), []

    def serve() -> None:
        async def work() -> None:
            async with Server() as server:
                address.append(server.address)
                while not stop.is_set():
                    await asyncio.sleep(0.05)

        run(work(), 60)

    def host() -> None:
        options = HeadlessOptions(clip, tmp_path / "seen.mp4", server=address[0], seconds=4, repeat=True)
        results["host"] = run_headless(options, config(), said.append, figures.append, models())

    def guest() -> None:
        invitation = next(line for line in said if line.startswith("invitation: ")).removeprefix("invitation: ")
        results["guest"] = run_headless(
            HeadlessOptions(clip, invitation=invitation, seconds=30, repeat=True), config(), print, models=models()
        )

    def wait_for(what) -> None:
        end = time.monotonic() + 20
        while not what():
            assert time.monotonic() < end
            time.sleep(0.02)

    threads = [threading.Thread(target=work, daemon=True) for work in (serve, host, guest)]
    threads[0].start()
    wait_for(lambda: address)
    threads[1].start()
    wait_for(lambda: any("invitation: " in line for line in said))
    threads[2].start()
    for thread in threads[1:]:
        thread.join(40)
    stop.set()
    threads[0].join(10)
    assert set(results) == {"host", "guest"}
    assert results["host"]["shown"].get("received", 0) > 3 < results["guest"]["shown"].get("received", 0)
    assert results["guest"]["states"][-1][1] == "ended" and results["guest"]["seconds"] < 25  # the host hung up
    assert probe(tmp_path / "seen.mp4").width == 64
    assert figures and figures[-1]["bytes_sent"]["total"] > 0


def ends_of(process: subprocess.Popen) -> dict:
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error[-2000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.slow
def test_a_process_that_is_killed_and_started_again_is_back_in_the_call(clip, tmp_path):
    """Three processes: a server, a host, and a guest that is killed with -9 and started anew."""
    model = tmp_path / "tiny.safetensors"
    save_backbone(tiny_fomm(), model, {})

    def start(*arguments: str) -> subprocess.Popen:
        environment = {**os.environ, "KINECAST_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(END), *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    server = subprocess.Popen(
        [sys.executable, "-m", "kinecast", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    processes = [server]
    try:
        assert server.stderr is not None
        address = server.stderr.readline().split()[2].rstrip(";")
        host = start(str(clip), str(model), "--server", address, "--seconds", "25")
        processes.append(host)
        assert host.stdout is not None
        invitation = host.stdout.readline().removeprefix("invitation: ").strip()
        guest = start(str(clip), str(model), "--invitation", invitation, "--seconds", "60")
        processes.append(guest)
        assert guest.stdout is not None
        assert guest.stdout.readline().strip() == "first frame"
        time.sleep(1)
        guest.send_signal(signal.SIGKILL)
        guest.wait(10)
        again = start(str(clip), str(model), "--invitation", invitation, "--seconds", "60")
        processes.append(again)
        result, other = ends_of(again), ends_of(host)
        assert result["shown"].get("received", 0) > 10
        states = [state for _, state in other["states"]]
        assert "interrupted" in states and states[-1] == "ended" and states.count("connected") >= 2
        assert result["states"][-1][1] == "ended"
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)
