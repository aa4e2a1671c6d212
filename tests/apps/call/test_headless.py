"""`run_headless`, and two processes that call each other."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.call.ends import MARGIN_S, RECOVERY_S, config, models, run
from apps.call.headless_end import EndProcess
from apps.call.network import Network, missing
from clips_with_sound import write_timed
from helpers import make_clip
from kinecast.apps.call.capture import play_clip
from kinecast.apps.call.config import CameraFrame, LinkFaults
from kinecast.apps.call.headless import HeadlessOptions, run_headless
from kinecast.apps.call.rooms import Server
from kinecast.errors import KinecastError
from kinecast.media.video import probe
from kinecast.models.checkpoints import save_backbone
from tiny import tiny_fomm


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


def test_frames_of_a_variable_rate_come_at_their_times(tmp_path):
    times = [0.0, 0.1, 0.2, 0.7]
    clip = write_timed(tmp_path / "camera.mkv", times, 0.8, 0.7)
    frames: list[CameraFrame] = []
    started = time.time()
    assert run(play_clip(clip, frames.append)) == 4
    assert time.time() - started >= 0.7
    assert frames and frames[-1].number == 3
    assert frames[-1].captured - frames[0].captured == pytest.approx(0.7 - times[frames[0].number], abs=1e-6)


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


# --- processes -------------------------------------------------------------------------------------------------------


@contextmanager
def processes(clip: Path, folder: Path, network: Network | None = None):
    """Yield a function that starts ends, and the address of a room server, the host's neighbour in its namespace."""
    model, started = folder / "tiny.safetensors", list[subprocess.Popen]()
    save_backbone(tiny_fomm(), model, {})

    def start(who: int, *arguments: str) -> EndProcess:
        prefix = network.command(who) if network else ()
        end = EndProcess(clip, model, folder / f"cache-{who}", *arguments, prefix=prefix)
        started.append(end.process)
        return end

    where = [*network.command(0), "--host", network.address(0)] if network else []
    command = [*where[:-2], sys.executable, "-m", "kinecast", "serve", "--port", "0", *where[-2:]]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    started.append(server)
    try:
        assert server.stderr is not None
        yield start, server.stderr.readline().split()[2].rstrip(";")
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait(10)


def called(start, address: str) -> tuple[EndProcess, EndProcess]:
    """Start a host and a guest, and wait until both see each other."""
    host = start(0, "--server", address, "--seconds", "40")
    host.wait_for(lambda: host.invitation)
    guest = start(1, "--invitation", host.invitation, "--seconds", "60")
    for end in (guest, host):
        end.wait_for(lambda end=end: end.received)
    return host, guest


@pytest.mark.slow
def test_a_process_that_is_killed_and_started_again_is_back_in_the_call(clip, tmp_path):
    """Three processes: a server, a host, and a guest that is killed with -9 and started anew.

    Asserted: both see frames again at most RECOVERY_S later than after a first start, and MARGIN_S for tests that run
    on the same cores. A start, which imports torch, cannot be shorter than itself; how long it took here, beside other
    tests, the first one says.
    """
    with processes(clip, tmp_path) as (start, address):
        host, guest = called(start, address)
        first = guest.received[0] - guest.started
        time.sleep(1)
        guest.kill()
        time.sleep(1)  # what it had sent is shown
        again = start(1, "--invitation", host.invitation, "--seconds", "60")
        assert again.first_after(again.started) < first + RECOVERY_S + MARGIN_S
        assert host.first_after(again.started) < first + RECOVERY_S + MARGIN_S
        again.wait_for(lambda: len(again.received) > 3)
        host.process.send_signal(signal.SIGINT)
        other, result = host.end(), again.end()
    states = [state for _, state in other["states"]]
    assert "interrupted" in states and states[-1] == "ended" and states.count("connected") >= 2
    assert result["states"][-1][1] == "ended" and result["shown"].get("received", 0) > 3


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_network_that_goes_down_for_five_seconds_is_borne(clip, tmp_path):
    """Two namespaces, 20 % of all IP packets lost, then the host's link down: both say so and are back.

    Asserted: frames within RECOVERY_S of the link being up, and MARGIN_S for tests that run on the same cores.
    """
    with Network() as network, processes(clip, tmp_path, network) as (start, address):
        ends = called(start, address)
        network.set(LinkFaults(loss=0.2, seed=3))
        time.sleep(3)
        network.set(LinkFaults())
        network.down(0)
        time.sleep(5)
        silent_since = [max(end.received) for end in ends]
        up = network.up(0)
        assert all(up - last > 4 for last in silent_since)
        assert max([end.first_after(up) for end in ends]) < RECOVERY_S + MARGIN_S
        ends[0].process.send_signal(signal.SIGINT)
        for end in ends:
            figures = end.end()
            assert "interrupted" in [state for _, state in figures["states"]]
            assert figures["refused"] == 0 and figures["queues"]["jitter_buffer"] < 10
