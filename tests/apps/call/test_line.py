"""A thin line: how a budget is spent, what is estimated of the line, and calls through lines of a given rate."""

import asyncio
from typing import Any

import numpy as np
import pytest

from apps.call.ends import FPS, camera_frames
from apps.call.shaped import Side, joined
from apps.call.virtual_time import VirtualLoop, run_virtually
from kinecast.apps.call.config import CallConfig
from kinecast.apps.call.line import LineEstimate, Plan, Transit
from kinecast.apps.call.messages import KeyRequest, LineReport, Signal, Stamp, split_signals, write_signal
from kinecast.apps.call.sending import Sender
from kinecast.errors import KinecastError


def test_less_rate_means_fewer_messages_of_more_frames_and_smaller_pictures():
    plans = [Plan.of(kbps, 25) for kbps in (3, 10, 30, 100)]
    assert [plan.frames for plan in plans] == [25, 8, 3, 1]
    assert [plan.picture_bytes for plan in plans] == [150, 500, 1500, 5000]
    assert Plan.of(None, 25) == Plan() and Plan().frames == 1
    for kbps, plan in zip((3, 10, 30, 100), plans, strict=True):
        headers = 8 * 186 * 25 / plan.frames / 1000
        assert headers <= 0.5 * kbps


@pytest.mark.parametrize("kbps", [1.9, -3, float("nan"), 1e9])
def test_an_impossible_rate_is_refused(kbps):
    with pytest.raises(KinecastError, match="rate: expected 2 to 10000 kbps"):
        CallConfig(kbps=kbps)


def test_a_growing_delay_cuts_the_rate_and_a_short_one_lets_it_grow():
    line = LineEstimate()
    line.take(LineReport(25, 20, 150))
    assert line.kbps is None  # nothing was met
    line.take(LineReport(0, 400, 100))
    assert line.kbps == pytest.approx(8.5)
    for _ in range(6):
        line.take(LineReport(0, 450, 80))  # of the queue that was there before
    assert line.kbps == pytest.approx(8.5)
    line.take(LineReport(0, 450, 80))
    assert line.kbps == pytest.approx(6.8)
    for delay in (400, 300, 200, 120):  # falls, but is not short yet
        line.take(LineReport(0, delay, 60))
    assert line.kbps == pytest.approx(6.8)
    for _ in range(20):
        line.take(LineReport(25, 30, 100))  # a tenth of all is lost at random
    assert line.kbps == pytest.approx(30)  # three times what came
    line.take(LineReport(255 // 2, 30, 100))
    assert line.kbps is not None and line.kbps < 24
    line.take(LineReport(0, 2000, 80))
    assert line.kbps == 4  # a queue of two seconds has to be emptied
    for _ in range(7):
        line.take(LineReport(0, 65535, 0))
    assert line.kbps == 2


def test_a_line_that_reports_nothing_is_taken_for_jammed():
    line = LineEstimate()
    assert not line.starved(10.0, 40.0) and not line.starved(12.0, 40.0)
    assert line.starved(14.1, 40.0) and line.kbps == 20
    line.take(LineReport(0, 0, 200))
    assert not line.starved(16.0, 40.0) and not line.starved(19.9, 40.0)
    assert not LineEstimate().starved(10.0, 0.0)


def test_a_budget_is_never_exceeded():
    line = LineEstimate(5.0)
    for _ in range(50):
        line.take(LineReport(0, 0, 60000))
    assert line.kbps == 5
    line.take(LineReport(0, 500, 30))
    assert line.kbps == pytest.approx(2.55)


def test_the_delay_is_that_beyond_the_fastest_message():
    now = 100.0
    transit = Transit(lambda: now)
    assert transit.delay == 0
    for queued in (0.05, 0.01, 0.03, 0.5, 0.6, 0.7):
        now += 40.0  # the stamps go round twice
        transit.stamp(int(1000 * (now - queued - 7)) & 0xFFFF)
    assert transit.delay == pytest.approx(0.1, abs=0.002)  # the fast ones are over a minute ago
    transit.stamp(int(1000 * (now - 7)) & 0xFFFF)
    assert transit.delay == pytest.approx(0.6, abs=0.002)


def test_signals_are_read_up_to_the_motion_behind_them():
    signals: list[Signal] = [LineReport(1, 2, 3), Stamp(4), KeyRequest()]
    data = b"".join(map(write_signal, signals))
    assert split_signals(data + b"\x80rest") == (signals, b"\x80rest")
    assert split_signals(b"") == ([], b"")
    for hostile in (b"C", b"C\x09", data[:-1], b"C\x05\x01"):
        with pytest.raises(KinecastError, match="signal: expected"):
            split_signals(hostile)


async def talk(sides: tuple[Side, Side], seconds: float, frames: Any = None) -> None:
    """Be both cameras."""
    frames = camera_frames() if frames is None else frames
    for n in range(int(seconds * FPS)):
        for side in sides:
            side.film(frames[n % len(frames)])
        await asyncio.sleep(1 / FPS)


async def closed(sides: tuple[Side, Side]) -> None:
    for side in sides:
        await side.exchange.close()


@pytest.mark.parametrize(("kbps", "loss"), [(3, 0.0), (10, 0.1)])
def test_a_call_with_a_budget_fits_its_line(kbps, loss):
    async def work(loop: VirtualLoop) -> None:
        sides = joined(loop, kbps, loss, kbps=0.9 * kbps)
        await talk(sides, 12)
        for side in sides:
            line = side.peer.out
            assert not line.dropped and line.bytes < 125 * kbps * 12
            late = [frame for at, frame in side.shown if at > loop.time() - 6]
            received = sum(frame.state == "received" for frame in late)
            assert received > (0.6 if loss else 0.85) * 6 * FPS, (kbps, loss, received)
        await closed(sides)

    run_virtually(work, 0.01)


def test_the_rate_of_an_unknown_line_is_found():
    kbps = 10

    async def work(loop: VirtualLoop) -> None:
        sides = joined(loop, kbps)
        await talk(sides, 12)
        before = [(side.peer.out.bytes, side.peer.out.dropped) for side in sides]
        await talk(sides, 6)
        for side, (size, dropped) in zip(sides, before, strict=True):
            assert side.peer.out.dropped == dropped  # the queue is not full any more
            assert 0.3 * kbps < (side.peer.out.bytes - size) * 8 / 6000 < kbps
            assert side.exchange.line.kbps < 1.1 * kbps
            received = sum(frame.state == "received" for at, frame in side.shown if at > loop.time() - 6)
            assert received > 0.6 * 6 * FPS
        await closed(sides)

    run_virtually(work, 0.01)


def test_a_change_of_scene_is_repaired_within_a_second(monkeypatch):
    """Through 30 kbps: from the first frame of the new scene to the first that is drawn from a picture of it."""
    monkeypatch.setattr(Sender, "_gain", lambda self, tensor, motion: 0.1)  # a tiny network draws noise
    took: list[float] = []

    async def work(loop: VirtualLoop) -> None:
        sides = joined(loop, 30, kbps=27)
        await talk(sides, 4)
        other = np.ascontiguousarray(255 - camera_frames()[:, ::-1])
        receiver: Any = sides[1].exchange._receiver
        before, cut = receiver._drawn, loop.time()
        assert before is not None
        for n in range(int(2 * FPS)):
            sides[0].film(other[n % len(other)])
            sides[1].film(camera_frames()[n % 24])
            await asyncio.sleep(1 / FPS)
            if receiver._drawn is not before:
                took.append(loop.time() - cut)
                break
        await closed(sides)

    run_virtually(work, 0.01)
    assert took and took[0] < 1.0, took
