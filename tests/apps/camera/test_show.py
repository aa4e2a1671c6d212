"""From a camera to a virtual camera in real time: newest frame first, and what ends it."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from apps.camera.stage_parts import GREY, Kept, bring, moving, performer
from helpers import write_clip
from kinecast import KinecastError
from kinecast.apps.camera.feed import Captured, Newest, read_camera, read_clip
from kinecast.apps.camera.figures import Figures
from kinecast.apps.camera.show import Show


def run(show, feed, seconds=60.0):
    return asyncio.run(asyncio.wait_for(show.run(feed), seconds))


def test_the_newest_frame_wins():
    newest = Newest()
    for i in range(3):
        newest.put(Captured(GREY, float(i)))
    assert newest.take() == Captured(GREY, 2.0) and newest.arrived == 3
    newest.put(Captured(GREY, 4.0))
    newest.close()
    assert newest.take() is not None and newest.take() is None  # what waits is still shown


def test_a_camera_that_gives_nothing_is_told_of():
    with pytest.raises(KinecastError, match="camera: expected frames, found none for 0.05 seconds: plug it in"):
        Newest().take(0.05)


def test_a_clip_in_the_cameras_place(tmp_path):
    clip = write_clip(tmp_path / "face.mp4", np.concatenate([moving(), moving()[::-1]]), fps=5)
    kept = Kept()
    began = time.monotonic()
    figures = run(Show(performer(), kept), lambda newest: read_clip(clip, newest))
    assert time.monotonic() - began > 1.3  # at its own times
    assert figures["sent"] == len(kept.frames) <= figures["arrived"] <= 8
    assert kept.frames[0].shape == (128, 160, 3) and figures["without_a_face"] == 0
    assert figures["latency_ms"]["mean"] < 1000


def test_a_slow_device_drops_frames_and_latency_stays_bounded():
    kept = Kept(seconds=0.2)
    pictures = [moving()[i % 4] for i in range(60)]
    figures = run(Show(performer(), kept), lambda newest: bring(newest, pictures, 0.02))
    assert figures["arrived"] == 60 and figures["sent"] < 30
    # One frame is being drawn and sent, and the next waits no longer than that takes: nothing queues.
    drawing = figures["seconds"] / figures["sent"]
    assert figures["latency_ms"]["max"] < 1000 * (2.5 * drawing + 0.3)


def test_orders_between_frames_and_the_end():
    kept = Kept()
    chosen: list[dict[str, Any]] = []

    async def feed(newest):
        show.choose(1)
        assert not show.choose(2) and not show.choose(-1)
        show.calibrate()
        while len(kept.frames) < 3:
            await bring(newest, [moving()[0]], 0.02)
        chosen.append(show.described())
        show.end()
        await asyncio.sleep(60)

    show = Show(performer(), kept)
    run(show, feed)
    assert chosen[0]["current"] == 1 and chosen[0]["calibrated"] and chosen[0]["seen"]
    assert chosen[0]["camera"] == "kept" and chosen[0]["avatars"] == ["astronaut", "mirrored"]


def test_a_camera_that_is_unplugged_ends_it_with_its_line():
    def frames():
        yield moving()[0]
        raise KinecastError("camera 0: expected frames of /dev/video0, found it gone")

    kept = Kept()
    with pytest.raises(KinecastError, match="camera 0: expected frames of /dev/video0, found it gone"):
        run(Show(performer(), kept), lambda newest: read_camera(frames(), newest))
    assert len(kept.frames) == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "kinecast-camera" and thread.is_alive()]


def test_a_camera_is_let_go_at_the_end():
    closed = []

    def frames():
        try:
            while True:
                time.sleep(0.02)
                yield moving()[0]
        finally:
            closed.append(True)

    class Ends(Kept):
        def send(self, frame):
            super().send(frame)
            if len(self.frames) == 3:
                show._ended.set()

    kept = Ends()
    show = Show(performer(), kept)
    figures = run(show, lambda newest: read_camera(frames(), newest))
    assert figures["sent"] == len(kept.frames) >= 3 and figures["arrived"] >= 3
    assert not [thread for thread in threading.enumerate() if thread.name == "kinecast-camera" and thread.is_alive()]
    assert closed == [True]


def test_a_virtual_camera_that_is_gone_ends_it_with_its_line():
    class Gone(Kept):
        def send(self, frame):
            raise KinecastError("virtual camera: expected kept, found it gone")

    with pytest.raises(KinecastError, match="found it gone"):
        run(Show(performer(), Gone()), lambda newest: bring(newest, [moving()[0]] * 100, 0.02))


def test_a_clip_that_cannot_be_read(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no film")
    with pytest.raises(KinecastError, match="x.mp4"):
        run(Show(performer(), Kept()), lambda newest: read_clip(tmp_path / "x.mp4", newest))


def test_figures_in_constant_memory():
    now = [0.0]
    figures = Figures(lambda: now[0])
    for i in range(1, 101):
        now[0] = i / 10
        figures.add(0.001 * i, held=i > 90)
    total = figures.total(120)
    assert total["sent"] == 100 and total["arrived"] == 120 and total["without_a_face"] == 10 and total["fps"] == 10
    assert total["latency_ms"] == {"mean": 50.5, "p50": 50, "p95": 95, "max": 100.0}
    assert figures.now() == {"fps": pytest.approx(10.5), "latency_ms": 90}
    figures.add(1e6)  # beyond what is counted apart
    assert figures.total(1)["latency_ms"]["max"] == 1e9
