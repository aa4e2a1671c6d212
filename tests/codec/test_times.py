"""Times of frames in a stream: lossless in milliseconds, compact, bounded, and bearable to lose."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.tracks import profile_of, smooth_levels
from kinecast.codec import FILE, Header, Layout, MotionPacket, StreamReader, TimesUnit, encode_levels
from kinecast.codec.packets import DATAGRAM, EXTENDED
from kinecast.codec.stream import code_picture, write_stream
from kinecast.codec.times import MAX_DURATION, MAX_TIMES, FrameClock, TimesWriter
from kinecast.errors import KinecastError

quick = settings(max_examples=60, deadline=None, derandomize=True)


@quick
@given(
    st.integers(0, 1 << 34),
    st.integers(0, 1 << 34),
    st.lists(st.integers(0, 80) | st.integers(0, MAX_DURATION), min_size=1, max_size=MAX_TIMES),
)
def test_durations_come_back(first, begin, durations):
    unit = TimesUnit(first, begin, tuple(durations))
    assert TimesUnit.parse(bytes(unit) + b"more") == (unit, b"more")
    assert len(bytes(unit)) <= DATAGRAM


def test_worst_durations_fit_a_datagram():
    assert len(bytes(TimesUnit(0, 0, (0, MAX_DURATION) * (MAX_TIMES // 2)))) <= DATAGRAM


@pytest.mark.parametrize("kind, most", [("steps", 0.08), ("browser", 0.21)])
def test_times_cost_little(kind, most):
    """In kbps at 30 frames per second: a phone that slows to 10 a second, and a browser's trembling of +-10 ms."""
    random = np.random.default_rng(0)
    edges = np.concatenate([np.arange(150) / 30, 5 + np.arange(51) / 10])
    if kind == "browser":
        edges = np.arange(301) / 30 + np.append(0, random.uniform(-0.01, 0.01, 300))
    writer = TimesWriter()
    writer.add(edges)
    size = sum(len(bytes(unit)) for unit in writer.units())
    assert 8 * size / edges[-1] / 1000 < most


@quick
@given(st.binary(max_size=60), st.integers(1, MAX_TIMES))
def test_foreign_payloads_give_times_or_one_line(payload, count):
    from kinecast.codec.wire import checksum, put_varint

    data = b"T" + put_varint(0) + put_varint(0) + bytes([count]) + put_varint(len(payload)) + payload
    try:
        unit, rest = TimesUnit.parse(data + checksum(data))
    except KinecastError as error:
        assert "\n" not in str(error)
    else:
        assert len(unit.durations) == count and not rest


def test_a_frame_that_is_shown_for_hours_is_refused():
    writer = TimesWriter()
    writer.add(np.array([0, 20_000]))
    with pytest.raises(KinecastError, match="shown for at most 16777 s, found 20000 s"):
        writer.units()


def test_rounding_does_not_add_up():
    edges = np.arange(1001) / 30
    writer, clock = TimesWriter(), FrameClock((30, 1))
    for start in range(0, 1000, 7):
        writer.add(edges[start : start + 8])
    for unit in writer.units():
        clock.take(unit)
    found = np.concatenate([[0]] + [clock.edges([number])[1:] for number in range(1000)])
    assert np.abs(found - edges).max() <= 0.0005 + 1e-9
    assert clock.seconds == pytest.approx(edges[-1], abs=0.001)


def test_lost_times_are_the_mean_rate_and_later_ones_are_right_again():
    writer, clock = TimesWriter(), FrameClock((10, 1))
    edges = np.cumsum([0, *np.random.default_rng(1).integers(20, 200, 3 * MAX_TIMES)]) / 1000
    writer.add(edges)
    first, _, last = writer.units()
    clock.take(first)
    clock.take(last)
    found = clock.edges(range(3 * MAX_TIMES))
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found[: MAX_TIMES + 1], edges[: MAX_TIMES + 1], atol=1e-6)
    assert found[MAX_TIMES + 5] == pytest.approx(edges[MAX_TIMES] + 0.5)
    np.testing.assert_allclose(found[-1], edges[-1], atol=1e-6)


def test_frames_begin_where_their_unit_says():
    clock = FrameClock((25, 1))
    clock.take(TimesUnit(100, 9000, (40, 500)))
    assert clock.start(100) == 9.0 and clock.edges([100, 101]).tolist() == [9.0, 9.04, 9.54]


def test_times_that_run_backwards_never_stop_the_frames():
    clock = FrameClock((25, 1))
    clock.take(TimesUnit(0, 0, (1000, 1000)))
    clock.take(TimesUnit(2, 500, (10, 10)))
    found = clock.edges(range(4))
    assert found[:3].tolist() == [0.0, 1.0, 2.0] and (np.diff(found) > 0).all()


def test_a_hostile_stream_cannot_fill_the_memory():
    clock = FrameClock((25, 1))
    for first in range(0, 200 * MAX_TIMES * 10, MAX_TIMES):
        clock.take(TimesUnit(first, 0, (1,) * MAX_TIMES))
    assert len(clock._ends) <= 1 << 16 | 200 * 10


def test_times_stand_in_a_stream_and_damage_is_skipped():
    layout = Layout.plain(6)
    data, mime = code_picture(np.zeros((16, 16, 3), np.uint8))
    packets = encode_levels(smooth_levels(layout, 150), layout, profile_of(layout), FILE)
    writer = TimesWriter()
    writer.add(np.arange(151) / 25)
    file = io.BytesIO()
    header = Header(layout, (25, 1), (16, 16), profile="generic", version=EXTENDED)
    sizes = write_stream(file, header, data, mime, [*writer.units(), *packets])
    assert sum(sizes.values()) == file.tell() and sizes["times_bytes"]
    found = list(StreamReader(io.BytesIO(file.getvalue())).units())
    assert sum(len(unit.durations) for unit in found if isinstance(unit, TimesUnit)) == 150
    spoiled = bytearray(file.getvalue())
    spoiled[spoiled.index(bytes(next(unit for unit in found if isinstance(unit, TimesUnit)))) + 6] ^= 1
    reader = StreamReader(io.BytesIO(bytes(spoiled)))
    left = list(reader.units())
    assert reader.skipped and sum(isinstance(unit, MotionPacket) for unit in left) == 2
