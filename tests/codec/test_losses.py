"""Reordered, duplicated, lost, damaged and hostile packets."""

import time
import tracemalloc
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from codec.tracks import profile_of, smooth_levels
from kinecast.codec import Layout, MotionDecoder, MotionPacket, Packing, decode_motion, encode_levels, parse_unit
from kinecast.codec.packets import MAX_FRAMES
from kinecast.codec.schedule import Blocks
from kinecast.errors import KinecastError

LAYOUT = Layout.plain(6)
PROFILE = profile_of(LAYOUT)
LEVELS = smooth_levels(LAYOUT, 60)
PACKETS = list(encode_levels(LEVELS, LAYOUT, PROFILE, Packing(1, 10)))
SKIPPING = list(encode_levels(LEVELS, LAYOUT, PROFILE, Packing(4, 10, skips=True), Blocks(2, 3)))


def decode(packets, reorder=4):
    decoder = MotionDecoder(LAYOUT, PROFILE, reorder)
    frames = [frame for packet in packets for frame in decoder.push(packet)]
    return [*frames, *decoder.flush()], decoder.losses


def assert_never_wrong(frames):
    """Frames come once and in order; one that is not the sender's is marked."""
    assert [frame.index for frame in frames] == list(range(len(frames)))
    for frame in frames:
        assert frame.concealed or np.array_equal(frame.levels, LEVELS[frame.index])


def test_a_packet_is_decoded_when_it_is_given():
    """Whether its frames are looked at or not: the next packet starts from it."""
    decoder = MotionDecoder(LAYOUT, PROFILE)
    for packet in PACKETS[:-2]:
        decoder.push(packet)
    decoder.push(PACKETS[-1])  # waits for the one before it
    assert decoder.losses.decoded == 58
    decoder.flush()
    assert (decoder.losses.decoded, decoder.losses.useless, decoder.losses.lost) == (58, 1, 1)


def test_order_within_the_window_does_not_matter():
    shuffled = [PACKETS[i + j] for i in range(0, 60, 4) for j in (2, 0, 3, 1) if i + j < 60]
    frames, losses = decode(shuffled)
    assert np.array_equal(np.stack([f.levels for f in frames]), LEVELS)
    assert losses.lost == losses.useless == losses.concealed == 0


def test_copies_are_dropped():
    frames, losses = decode([packet for packet in PACKETS for _ in range(3)])
    assert np.array_equal(np.stack([f.levels for f in frames]), LEVELS)
    assert losses.late == 120 and losses.decoded == 60


def test_a_lost_packet_conceals_until_the_next_key_packet():
    frames, losses = decode(PACKETS[:13] + PACKETS[14:])
    assert [f.index for f in frames if f.concealed] == list(range(13, 20))
    assert all(np.array_equal(f.levels, LEVELS[12]) for f in frames if f.concealed)
    assert (losses.lost, losses.useless, losses.concealed) == (1, 6, 7)
    assert_never_wrong(frames)
    assert len(frames) == 60


def test_a_lost_key_packet_conceals_until_the_next():
    frames, losses = decode(PACKETS[:10] + PACKETS[11:])
    assert [f.index for f in frames if f.concealed] == list(range(10, 20))
    assert losses.lost == 1


def test_the_last_packets_are_given_without_those_that_never_came():
    frames, losses = decode(PACKETS[:50] + PACKETS[58:])
    assert len(frames) == 60 and losses.lost == 8
    assert all(f.concealed for f in frames[50:])


def test_a_receiver_joins_at_a_key_packet():
    frames, losses = decode(PACKETS[14:])
    assert np.array_equal(np.stack([f.levels for f in frames]), LEVELS[20:])
    assert losses.useless == 6


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.3])
def test_random_loss_is_never_silent(share):
    random = np.random.default_rng(1)
    frames, losses = decode([p for i, p in enumerate(PACKETS) if i == 0 or random.random() > share])
    assert_never_wrong(frames)
    assert losses.lost > 0 and sum(not f.concealed for f in frames) == losses.decoded


def test_numbers_wrap_around():
    packets = [replace(p, sequence=(p.sequence + 65500) % 65536, frame=(p.frame + 65520) % 65536) for p in PACKETS]
    frames, losses = decode(packets)
    assert np.array_equal(np.stack([f.levels for f in frames]), LEVELS) and losses.lost == 0


def test_a_sender_that_begins_anew_is_followed():
    moved = [replace(p, sequence=(p.sequence + 30000) % 65536) for p in PACKETS]
    frames, _ = decode([*moved, *(PACKETS * 3)])
    assert sum(not frame.concealed for frame in frames) > 90


def test_a_foreign_payload_is_refused_and_concealed():
    # A payload of 0xff bytes is a number outside every interval.
    packets = list(PACKETS)
    packets[5] = replace(packets[5], payload=b"\xff" * 200)
    frames, losses = decode(packets)
    assert_never_wrong([f for f in frames if f.index < 5])
    assert losses.refused + losses.decoded + losses.useless == 60


def test_a_long_silence_is_not_filled_with_copies():
    late_key = replace(PACKETS[10], sequence=1, frame=40000)
    frames, _ = decode([PACKETS[0], late_key])
    assert len(frames) == 2
    late_delta = replace(PACKETS[11], sequence=1, frame=30000)
    frames, losses = decode([PACKETS[0], late_delta])
    assert len(frames) == 1 and losses.refused == 1


def _cases(count, seed=0):
    """A stream on its way, so that the decoder stands in the middle of it, among copies, damage and forgeries.

    Forgeries have a good checksum, sequence and frame numbers near the stream's or anywhere, and arbitrary payloads.
    """
    random = Random(seed)
    plain, skipping = [bytes(packet) for packet in PACKETS], [bytes(packet) for packet in SKIPPING]
    position = 0
    for index in range(count):
        units = skipping if index // 500 % 2 else plain
        kind = random.randrange(10)
        if kind < 4:  # what the sender sends next; rarely something is lost
            position += 1 + (random.random() < 0.05)
            yield units[position % len(units)]
            continue
        data = bytearray(units[random.randrange(len(units))])
        if kind == 5:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        elif kind == 6:
            data = data[: random.randrange(1, len(data))]
        elif kind == 7:
            data = bytearray(random.randbytes(random.randrange(1, 60)))
            data[0] = 0x80 | data[0] & 31
        elif kind == 8:
            data += random.randbytes(random.randrange(1, 9))
        elif kind == 9:
            near = position % len(units) if random.random() < 0.8 else random.randrange(65536)
            sequence, frame = (min(near + random.randrange(4), 65535) for _ in range(2))
            frames, back = random.choice([1, 1, 1, 2, 64]), random.choice([0, 1, 1, 2, 255])
            payload, flags = random.randbytes(random.randrange(24)), (random.random() < 0.5, random.random() < 0.5)
            data = bytearray(bytes(MotionPacket(sequence, frame, frames, payload, back, *flags)))
        yield bytes(data)


def _fuzz(count):
    """Return outcomes and the CPU seconds; every case is an error of one line, or frames that are well formed."""
    decoder = MotionDecoder(LAYOUT, PROFILE)
    tracemalloc.start()
    started = time.process_time()
    outcomes = {"unreadable": 0, "packets": 0, "frames": 0}
    for data in _cases(count):
        while data:
            try:
                unit, data = parse_unit(data)
            except KinecastError as error:
                assert "\n" not in str(error)
                outcomes["unreadable"] += 1
                break
            if not isinstance(unit, MotionPacket):
                break
            outcomes["packets"] += 1
            for frame in decoder.push(unit):
                assert frame.levels.shape == (6,) and np.isfinite(frame.vector).all()
                outcomes["frames"] += 1
    outcomes["frames"] += sum(1 for _ in decoder.flush())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64e6
    # Each way out is taken often: a decoder that only ever refuses would pass otherwise.
    assert outcomes["unreadable"] > count / 8 and outcomes["packets"] > count / 4
    assert (
        decoder.losses.decoded > count / 50 and decoder.losses.lost and decoder.losses.late and decoder.losses.useless
    )
    return time.process_time() - started, outcomes | vars(decoder.losses) | {"peak_bytes": peak}


def test_hostile_packets_give_an_error_or_a_frame():
    assert _fuzz(2000)[0] < 30


@pytest.mark.slow
def test_a_hundred_thousand_hostile_packets(capsys):
    seconds, outcomes = _fuzz(100_000)
    with capsys.disabled():
        print(f"\n100 000 cases in {seconds:.0f} s of CPU time: {outcomes}")
    assert seconds < 600


def test_one_hostile_packet_costs_little_time_and_memory():
    """The most frames of the widest layout from a payload of nothing."""
    layout = Layout.plain(256)
    decoder = MotionDecoder(layout, profile_of(layout))
    tracemalloc.start()
    started = time.process_time()
    frames = list(decoder.push(MotionPacket(0, 0, MAX_FRAMES, b"")))
    frames += decoder.push(MotionPacket(1, 1000, MAX_FRAMES, b"\x55" * 1100, 1))
    assert len(frames) <= 2 * MAX_FRAMES + 1024
    assert time.process_time() - started < 10
    assert tracemalloc.get_traced_memory()[1] < 64e6
    tracemalloc.stop()


def test_decode_motion_takes_an_iterator():
    assert sum(1 for _ in decode_motion(iter(PACKETS), LAYOUT, PROFILE)) == 60
