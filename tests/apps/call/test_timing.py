"""Jitter buffer, link faults, faults here, figures: by a clock of their own."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest

from apps.call.ends import run
from kinecast.apps.call.config import LinkFaults
from kinecast.apps.call.faults import Faults, repeat
from kinecast.apps.call.figures import Allowance, Quantiles, Rate
from kinecast.apps.call.jitter import MAX_WAITING, JitterBuffer
from kinecast.apps.call.links import FaultyLink
from kinecast.apps.call.losses import Losses
from kinecast.codec.packets import MotionPacket
from kinecast.errors import KinecastError

FPS = 25.0


def packet(sequence: int, frame: int | None = None, key: bool = False) -> MotionPacket:
    frame = sequence if frame is None else frame
    return MotionPacket(sequence & 0xFFFF, frame & 0xFFFF, 1, b"x", back=int(not key), wide=False)


def test_frames_are_due_a_period_apart_and_as_late_as_packets_were():
    buffer, random = JitterBuffer(FPS, 100), np.random.default_rng(0)
    for n in range(200):
        buffer.push(packet(n, key=n == 0), 10 + n / FPS + 0.05 * random.random())
    assert 0.04 < buffer.delay < 0.06
    shown = [buffer.due(18 + k / 1000) or 0 for k in range(200)]
    assert set(np.diff(shown)) == {0, 1} and shown[-1] - shown[0] == pytest.approx(200 / 40, abs=1)


def test_the_wait_is_bounded():
    buffer = JitterBuffer(FPS, 60)
    for n in range(100):
        buffer.push(packet(n, key=n == 0), n / FPS + (0.5 if n % 2 else 0.0))
    assert buffer.delay <= 0.06


def test_order_is_restored_and_late_packets_still_lead_on():
    buffer = JitterBuffer(FPS, 0)
    for n in (0, 2, 3):
        buffer.push(packet(n, key=n == 0), n / FPS)
    assert [w.number for w in buffer.take(3)] == [0]
    assert buffer.blocked(3) and not buffer.blocked(1)
    buffer.push(packet(1), 4 / FPS)  # its turn is over, but those after it start from it
    assert [w.number for w in buffer.take(3)] == [1, 2, 3]
    assert buffer.lost == 0


def test_a_key_packet_ends_the_wait_for_what_is_missing():
    buffer = JitterBuffer(FPS, 0)
    for n in (0, 3, 4, 5):
        buffer.push(packet(n, key=n in (0, 4)), n / FPS)
    assert [w.number for w in buffer.take(3)] == [0]
    assert [w.number for w in buffer.take(5)] == [4, 5]
    assert (buffer.lost, buffer.received) == (2, 4)  # 1 and 2 never came; 3 came in vain
    assert buffer.take_counts() == (4, 2) and buffer.take_counts() == (0, 0)


def test_numbers_go_on_beyond_16_bits():
    buffer, given = JitterBuffer(FPS, 0), []
    for n in range(65_500, 65_600):
        buffer.push(packet(n, key=n == 65_500), n / FPS)
        given += [w.number for w in buffer.take(n)]
    assert given == list(range(65_500, 65_600))


def test_it_holds_a_bounded_number_whatever_comes():
    buffer, random = JitterBuffer(FPS, 60), np.random.default_rng(0)
    buffer.push(packet(0, key=True), 0.0)
    for n in range(5000):
        buffer.push(packet(int(random.integers(1, 1 << 16)), int(random.integers(1 << 16))), n / 100)
        assert len(buffer) <= MAX_WAITING
    buffer.push(packet(7, 9, key=True), 500.0)  # a new beginning, whatever was before
    number = buffer.due(500.1)
    assert number is not None and buffer.take(number)


def test_a_pause_of_minutes_is_a_new_beginning_only_in_time():
    buffer = JitterBuffer(FPS, 0)
    buffer.push(packet(0, key=True), 0.0)
    assert buffer.take(0)
    buffer.push(packet(1, 25 * 600, key=True), 600.0)  # muted for ten minutes
    assert [w.number for w in buffer.take(25 * 600)] == [25 * 600]


def test_without_a_key_packet_nothing_begins_and_it_says_so():
    buffer = JitterBuffer(FPS, 0)
    assert [buffer.push(packet(n), n / FPS) for n in (1, 2)] == [False, False]  # the first, a key, was lost
    assert buffer.due(1.0) is None and buffer.push(packet(3, key=True), 3 / FPS) and buffer.push(packet(4), 4 / FPS)
    assert not buffer.push(packet(5, 5), 600.0)  # another beginning, whose key was lost
    assert buffer.push(packet(4), 5 / FPS)  # late, which a key would not mend


def test_the_delay_falls_again_after_a_bad_stretch():
    """Slowly, for each change of it is seen; and only once the bad packets are out of sight."""
    buffer, random = JitterBuffer(FPS, 100), np.random.default_rng(0)
    delays = []
    for n in range(1200):
        late = 0.05 * float(random.random()) if n < 200 else 0.0
        buffer.push(packet(n, key=n == 0), 10 + n / FPS + late)
        delays.append(buffer.delay)
    assert min(delays[50:200]) > 0.04
    assert delays[1199] < 0.006 and all(b <= a for a, b in pairwise(delays[460:]))


# --- link faults -----------------------------------------------------------------------------------------------------


def sent_over(faults: LinkFaults, count: int, pause: float = 0.0) -> list[int]:
    async def work() -> list[int]:
        came: list[int] = []
        link = FaultyLink(faults, lambda data: came.append(int(data)))
        for n in range(count):
            link.send(str(n).encode())
            await asyncio.sleep(pause)
        await asyncio.sleep((faults.delay_ms + faults.jitter_ms) / 1000 + 0.02)
        assert len(link) == 0
        link.close()
        return came

    return run(work())


@pytest.mark.parametrize("burst", [1.0, 5.0])
def test_losses_have_their_share_and_their_bursts(burst):
    came = sent_over(LinkFaults(loss=0.3, burst=burst), 6000)
    assert 1 - len(came) / 6000 == pytest.approx(0.3, abs=0.04)
    gaps = np.diff(came) - 1
    expected = burst if burst > 1 else 1 / 0.7  # independent losses come in runs too
    assert gaps[gaps > 0].mean() == pytest.approx(expected, rel=0.35)
    assert sent_over(LinkFaults(loss=0.3, burst=burst), 300) == [n for n in came if n < 300]  # seeded


def test_jitter_reorders_only_if_asked():
    assert sent_over(LinkFaults(jitter_ms=30), 50, 0.001) == list(range(50))
    shuffled = sent_over(LinkFaults(jitter_ms=30, reorder=True), 50, 0.001)
    assert sorted(shuffled) == list(range(50)) != shuffled


def test_nothing_passes_in_an_outage():
    came = sent_over(LinkFaults(outages=((0.05, 0.15),)), 50, 0.005)
    assert 0 in came and 49 in came and 5 < 50 - len(came) < 40


def test_impossible_links_are_refused():
    for wrong in ({"loss": 1.0}, {"burst": 0}, {"jitter_ms": -1}):
        with pytest.raises(KinecastError, match="link faults"):
            LinkFaults(**wrong)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_one_fault_is_a_notice_many_are_seldom_told_and_lasting_ones_are_an_error():
    now, said = [50.0], []
    faults = Faults("one was passed over", "none can be sent", lambda *line: said.append(line), lambda: now[0])
    faults.failed(RuntimeError("out of\nmemory"))
    assert said == [("notice", "one was passed over: RuntimeError: out of memory")]
    for _ in range(90):  # every second one: never more than a line in ten seconds
        faults.worked()
        now[0] += 0.1
        faults.failed(KinecastError("frames: expected others"))
    assert len(said) == 1 and faults.total == 91
    faults.worked()
    now[0] += 2
    for _ in range(60):
        faults.failed(KinecastError("frames: expected others"))
        now[0] += 0.1
    assert said[1:] == [
        ("notice", "one was passed over: frames: expected others"),
        ("error", "none can be sent: frames: expected others"),
    ]
    faults.worked()
    faults.worked()
    assert said[3:] == [("notice", "it works again")]


def test_a_step_that_fails_is_repeated():
    steps: list[int] = []

    async def step() -> None:
        steps.append(len(steps))
        await asyncio.sleep(0)
        if len(steps) % 2:
            raise ValueError("odd")
        if len(steps) > 3:
            await asyncio.Event().wait()

    async def work() -> None:
        said: list[str] = []
        task = asyncio.ensure_future(repeat(step, Faults("a", "b", lambda kind, line: said.append(line))))
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(steps) == 4 and said == ["a: ValueError: odd"] and task.cancelled()

    run(work())


# --- figures ---------------------------------------------------------------------------------------------------------


def test_rates_are_of_the_last_seconds_and_take_constant_memory():
    now = [100.0]
    rate = Rate(lambda: now[0])
    for _ in range(1000):
        now[0] += 0.04
        rate.add(2)
    assert rate.per_second() == pytest.approx(50, rel=0.03) and rate.total == 2000
    assert len(rate._bins) <= 17
    now[0] += 10
    assert rate.per_second() == 0


def test_a_rate_can_be_read_while_a_camera_counts():
    now = [100.0]
    rate = Rate(lambda: now[0])

    class Amount(float):
        """Whoever adds it up is interrupted by another thread that counts."""

        def __radd__(self, other: float) -> float:
            now[0] += 0.3
            rate.add()
            return other + 1.0

    for _ in range(5):
        now[0] += 0.3
        rate.add(Amount(1.0))
    assert rate.recent() > 0


def test_quantiles_and_allowances():
    latency = Quantiles(kept=100)
    assert latency(0.5) is None
    for n in range(1000):
        latency.add(n)
    assert latency(0.5) == pytest.approx(949.5)
    now = [0.0]
    allowance = Allowance(10, 5, lambda: now[0])
    assert [allowance.take() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] = 0.2
    assert [allowance.take() for _ in range(3)] == [True, True, False]


def test_the_line_is_reported_once_a_second_while_anything_comes():
    now = 10.0
    losses, jitter = Losses(lambda: now), JitterBuffer(25, 300)
    assert losses.due() is None and losses.share == 0  # nothing to tell
    losses.transit.received.add(1000)
    jitter.received, jitter.lost = 3, 1
    losses.count(jitter)
    assert losses.share == 0.25
    report = losses.due()
    assert report is not None and report.share == 64 and report.kbps_tenths > 0 and losses.due() is None
    now = 12.0
    jitter.received = 3 + 10**6
    losses.count(jitter)
    over = losses.due()
    assert over is not None and over.share == 0
    now = 20.0
    assert losses.due() is None
