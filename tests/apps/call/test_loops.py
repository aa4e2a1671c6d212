"""The loops of a call in virtual time: announcements at any moment, and frames and messages that fail here."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from apps.call.ends import FakePeer, camera_frames, config, models
from apps.call.virtual_time import VirtualLoop, run_virtually
from kinecast.apps.call.config import CameraFrame, ShownFrame
from kinecast.apps.call.exchange import Exchange
from kinecast.apps.call.messages import Again, Have, Ping, parse_control, split_signals, write_control, write_signal
from kinecast.apps.call.sending import Sender
from kinecast.codec import MotionPacket, split_picture
from kinecast.codec.stream import code_picture
from kinecast.errors import KinecastError

FPS = 25.0
PLAY_S = 0.015  # that drawing takes, of 40 ms


class Here:
    """One end without a network: what it says and shows, and a far sender whose messages come when a test says."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop, self.loaded = loop, models()
        self.said: list[tuple[str, str]] = []
        self.shown: list[ShownFrame] = []
        self.on_frame: Callable[[ShownFrame], None] = self.shown.append
        self.exchange = Exchange(
            config(fps=FPS),
            self.loaded,
            lambda frame: self.on_frame(frame),
            lambda kind, line: self.said.append((kind, line)),
            lambda reason: self.said.append(("bye", reason)),
            lambda line: self.said.append(("unusable", line)),
            lambda secret: None,
            loop.time,
        )
        self.number = 0
        self.attach()

    def attach(self) -> None:
        """Be connected, anew: another sender begins."""
        self.peer = FakePeer()
        self.far = Sender(self.loaded.backbone, self.loaded.identity, config(fps=FPS), None, self.loop.time)
        self.exchange.attach(self.peer)

    async def send(self, frames: int, late: float = 0.0) -> None:
        """Have the far sender send frames; what is not motion comes `late` seconds after the packet of the moment."""
        for _ in range(frames):
            picture = camera_frames()[self.number % 24]
            peer, out = self.peer, self.far.process(CameraFrame(picture, self.loop.time(), self.number))
            for channel, data in out:
                delay = 0.0 if channel == "motion" else late
                self.loop.call_later(delay, self.exchange.take, peer, channel, data)
            self.number += 1
            await asyncio.sleep(1 / FPS)
            for _, data in self.peer.answers:
                if data[:1] == b"{" and isinstance(message := parse_control(data), Have):
                    self.far.have = message.picture

    async def film(self, frames: int) -> None:
        """Be this end's camera."""
        for _ in range(frames):
            self.exchange.submit(CameraFrame(camera_frames()[self.number % 24], self.loop.time(), self.number))
            self.number += 1
            await asyncio.sleep(1 / FPS)

    def lines(self, kind: str) -> list[str]:
        return [line for found, line in self.said if found == kind]

    def packets(self) -> int:
        """Return how many packets of motion were sent."""
        return sum(channel == "motion" and split_signals(data)[1] != b"" for channel, data in self.peer.answers)


def virtually(work: Callable[[Here], Any], takes: float = PLAY_S) -> None:
    @asynccontextmanager
    async def opened(loop: VirtualLoop):
        here = Here(loop)
        try:
            yield here
        finally:
            await here.exchange.close()

    async def whole(loop: VirtualLoop) -> None:
        async with opened(loop) as here:
            await work(here)

    run_virtually(whole, takes)


# --- announcements of pictures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("late_ms", [0, 3, 6, 12, 14, 20, 30, 39])
def test_a_picture_is_drawn_on_whenever_it_is_announced(late_ms):
    """Also between two frames: nothing else is due then."""

    async def work(here: Here) -> None:
        receiver: Any = here.exchange._receiver
        await here.send(12, late_ms / 1000)
        assert sum(frame.state == "received" for frame in here.shown) >= 8
        here.far.avatar = np.ascontiguousarray(255 - camera_frames()[0])
        await here.send(12, late_ms / 1000)
        assert receiver._drawn is receiver._references[1] and receiver._avatar
        assert here.said == [] and receiver.queues()["uses"] == 0

    virtually(work)


def test_frames_of_a_new_connection_are_shown_whatever_was_drawn_meanwhile(monkeypatch):
    """Its frames are numbered anew: the number of a frame that was drawn when it came means nothing."""

    async def work(here: Here) -> None:
        await here.send(40)
        receiver: Any = here.exchange._receiver
        play = receiver.play

        def interrupted(*args: Any) -> Any:
            here.loop.call_later(PLAY_S / 2, here.attach)
            monkeypatch.undo()
            return play(*args)

        monkeypatch.setattr(receiver, "play", interrupted)
        await here.send(20)
        assert here.shown[-1].state == "received" and 10 < here.shown[-1].number < 25

    virtually(work)


# --- what fails ------------------------------------------------------------------------------------------------------


def failing(real: Callable[..., Any], when: Callable[[], bool], error: Exception) -> Callable[..., Any]:
    def call(*args: Any, **named: Any) -> Any:
        if when():
            raise error
        return real(*args, **named)

    return call


ERRORS = [
    KinecastError("adapt scale: expected 3 or more keypoints"),
    RuntimeError("CUDA out of memory.\nTried to allocate"),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("part", ["detect", "encode_source"])
def test_a_camera_frame_that_fails_is_passed_over(monkeypatch, part, error):
    """The first of all too, on which the stream's beginning hangs."""

    async def work(here: Here) -> None:
        bad = {0}
        real = getattr(here.loaded.backbone, part)
        monkeypatch.setattr(here.loaded.backbone, part, failing(real, lambda: here.number - 1 in bad, error))
        await here.film(4)
        assert {data[:1] for channel, data in here.peer.answers if channel == "picture"} >= {b"{", b"K", b"R"}
        here.exchange.take(here.peer, "picture", write_control(Have(0)))
        bad.add(6)
        await here.film(10)
        detected = part == "detect"  # a picture that cannot be encoded takes no motion with it
        assert here.packets() == (9 if detected else 10)
        assert here.exchange.failed == (2 if detected else 1)
        (line,) = here.lines("notice")
        reason = "CUDA out of memory. Tried" if isinstance(error, RuntimeError) else "adapt scale: expected 3"
        assert line.startswith("a camera frame was skipped: ") and reason in line and "\n" not in line
        assert not here.lines("error") and not here.lines("unusable")

    virtually(work)


def test_a_camera_whose_frames_all_fail_says_why_once_and_that_it_is_over(monkeypatch):
    async def work(here: Here) -> None:
        broken = [True]
        real = here.loaded.backbone.detect
        error = KinecastError("frames: expected what this model reads, found other frames")
        monkeypatch.setattr(here.loaded.backbone, "detect", failing(real, lambda: broken[0], error))
        await here.film(250)
        assert here.lines("error") == [f"no camera frame can be sent: {error}"]
        assert len(here.lines("notice")) == 1 and here.exchange.failed == 250
        broken[0] = False
        await here.film(3)
        here.exchange.take(here.peer, "picture", write_control(Have(0)))
        await here.film(5)
        assert here.lines("notice")[1:] == ["it works again"] and here.packets() == 5 and not here.lines("unusable")

    virtually(work)


@pytest.mark.parametrize("part", ["animate", "show"])
def test_a_frame_that_cannot_be_drawn_or_shown_is_passed_over(monkeypatch, part):
    async def work(here: Here) -> None:
        bad = [False]
        error = RuntimeError("this one only")
        here.on_frame = failing(here.shown.append, lambda: bad[0] and part == "show", error)
        draw = failing(here.loaded.backbone.animate, lambda: bad[0] and part == "animate", error)
        monkeypatch.setattr(here.loaded.backbone, "animate", draw)
        await here.send(8)
        bad[0] = True
        await here.send(1)
        bad[0] = False
        before = len(here.shown)
        await here.send(10)
        assert [frame.state for frame in here.shown[before:]].count("received") >= 9
        assert here.exchange.failed == 1 and here.lines("notice") == [
            "a frame was not shown: RuntimeError: this one only"
        ]

    virtually(work)


def test_a_forecast_that_fails_shows_nothing_new(monkeypatch):
    async def work(here: Here) -> None:
        await here.send(8)
        receiver: Any = here.exchange._receiver
        monkeypatch.setattr(receiver._concealment, "_forecast", failing(len, lambda: True, ValueError("no future")))
        await asyncio.sleep(0.2)  # nothing comes
        assert here.lines("notice") == ["a frame was not shown: ValueError: no future"]
        here.far.request_key()
        before = len(here.shown)
        await here.send(8)
        assert [frame.state for frame in here.shown[before:]].count("received") >= 6

    virtually(work)


def test_a_picture_that_this_side_cannot_encode_leaves_the_one_before(monkeypatch):
    async def work(here: Here) -> None:
        await here.send(8)
        error = RuntimeError("out of memory")
        monkeypatch.setattr(here.loaded.backbone, "encode_source", failing(len, lambda: True, error))
        (chunk,) = split_picture(*code_picture(camera_frames()[0], 5), 9)
        here.exchange.take(here.peer, "picture", bytes(chunk))
        before = len(here.shown)
        await here.send(8)
        assert [frame.state for frame in here.shown[before:]].count("received") >= 7
        assert here.exchange.failed == 1 and here.peer.refused == 0
        assert ("picture", write_control(Again(9))) in here.peer.answers

    virtually(work)


def test_a_receiver_that_can_draw_nothing_says_why_and_the_call_goes_on(monkeypatch):
    async def work(here: Here) -> None:
        broken = [True]
        real = here.loaded.backbone.animate
        failed = failing(real, lambda: broken[0], RuntimeError("no such engine"))
        monkeypatch.setattr(here.loaded.backbone, "animate", failed)
        await here.send(150)
        assert here.lines("error") == ["nothing new can be shown: RuntimeError: no such engine"]
        assert here.exchange.failed > 100 and here.shown == [] and not here.lines("unusable")
        broken[0] = False
        await here.send(5)
        assert here.shown and here.lines("notice")[-1] == "it works again"

    virtually(work)


def test_a_packet_that_fails_inside_costs_a_key(monkeypatch):
    """Half of it may have been learnt: the decoder begins anew, and a key packet is asked for."""

    async def work(here: Here) -> None:
        await here.send(8)
        receiver: Any = here.exchange._receiver
        decoder = receiver._decoder
        monkeypatch.setattr(decoder._model, "code_frame", failing(len, lambda: True, MemoryError("half a frame")))
        await here.send(1)
        assert receiver._decoder is not decoder
        asked = [data for channel, data in here.peer.answers if channel == "motion" and data == b"C\x01"]
        assert asked and here.exchange.failed == 1
        here.far.request_key()
        before = len(here.shown)
        await here.send(6)
        assert [frame.state for frame in here.shown[before:]].count("received") >= 4

    virtually(work)


def test_a_message_that_fails_here_is_not_held_against_the_other_side(monkeypatch):
    """Raised in aiortc's loop it would end the connection."""

    async def work(here: Here) -> None:
        monkeypatch.setattr(here.exchange._receiver, "take_packet", failing(len, lambda: True, ZeroDivisionError("x")))
        here.exchange.take(here.peer, "motion", bytes(MotionPacket(0, 0, 1, b"x")))
        here.exchange.take(here.peer, "motion", write_signal(Ping(1)))
        assert here.exchange.failed == 1 and here.peer.refused == 0
        assert here.lines("notice") == ["a message was skipped: ZeroDivisionError: x"]

    virtually(work)


def test_the_heartbeat_outlives_a_failure(monkeypatch):
    async def work(here: Here) -> None:
        checked = failing(lambda: None, lambda: here.loop.time() < 1001, AttributeError("x"))
        monkeypatch.setattr(here.peer, "check_memory", checked)
        await asyncio.sleep(3)
        pings = [data for _, data in here.peer.answers if data[:2] == b"C\x02"]
        assert len(pings) >= 4 and here.exchange.failed >= 3 and not here.lines("unusable")

    virtually(work)
