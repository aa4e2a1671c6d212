"""Frames left out by the sender: schedules, how packets tell of them, and what receivers show instead."""

from dataclasses import replace

import numpy as np
import pytest

from codec.tracks import profile_of, smooth_levels
from kinecast.codec import (
    FILE,
    LIVE,
    Layout,
    MotionDecoder,
    MotionEncoder,
    MotionPacket,
    Packing,
    decode_motion,
    dequantize,
    encode_levels,
)
from kinecast.codec.entropy import MAX_SKIP, Decoder, Encoder, GapModel
from kinecast.codec.filling import Expectation, damped, fill, hold, interpolate
from kinecast.codec.schedule import Blocks, ClosedLoop, EveryKth, RateControl, in_pictures, in_steps
from kinecast.errors import KinecastError

LAYOUT = Layout.fomm(2)
PROFILE = profile_of(LAYOUT)
LEVELS = smooth_levels(LAYOUT, 90, noise=0.3)
SKIPS = replace(FILE, skips=True)
PACKINGS = {"live": LIVE, "file": SKIPS, "short": Packing(4, 20, skips=True)}


def schedules():
    return {
        "every third": EveryKth(3),
        "6-6": Blocks(6, 6),
        "closed loop": ClosedLoop(damped, in_steps(LAYOUT), 1.0),
        "seldom": EveryKth(MAX_SKIP + 1),
        "rate": RateControl(ClosedLoop(hold, in_steps(LAYOUT), 0), 0.5, 30),
    }


def send(schedule, packing=SKIPS):
    packets = list(encode_levels(LEVELS, LAYOUT, PROFILE, packing, schedule))
    return [MotionPacket.parse(bytes(packet))[0] for packet in packets]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", schedules())
def test_frames_that_are_sent_come_back_bit_for_bit_and_at_their_time(name, packing):
    asked = schedules()[name]
    vectors = dequantize(LEVELS, LAYOUT)
    packets = send(schedules()[name], PACKINGS[packing])
    frames = list(decode_motion(packets, LAYOUT, PROFILE))
    assert [frame.index for frame in frames] == list(range(90))
    assert sum(packet.count for packet in packets) == sum(not frame.concealed for frame in frames) < 90
    for frame in frames:
        assert frame.concealed == frame.skipped
        assert frame.concealed or np.array_equal(frame.levels, LEVELS[frame.index])
    assert not frames[-1].concealed  # or nobody would know how long the clip is
    if name != "rate":  # whose decisions follow from the bits of the packing
        sent = [asked.wants(vector, 0) for vector in vectors]
        assert [not frame.concealed for frame in frames[:-1]] == sent[:-1]


def test_frames_left_out_are_told_from_lost_ones():
    packets = send(EveryKth(2), LIVE)
    decoder = MotionDecoder(LAYOUT, PROFILE)
    frames = [f for packet in packets[:3] + packets[4:] for f in decoder.push(packet)]
    frames += decoder.flush()
    assert [f.skipped for f in frames[:6]] == [False, True, False, True, False, False]
    assert decoder.losses.lost == 1 and decoder.losses.skipped == 16


def test_a_lost_packet_with_gaps_is_concealed_when_the_next_comes():
    packets = send(Blocks(2, 2), Packing(4, 8, skips=True))
    frames = list(decode_motion(packets[:2] + packets[3:], LAYOUT, PROFILE))
    assert [f.index for f in frames] == list(range(90))
    for frame in frames:
        assert frame.concealed or np.array_equal(frame.levels, LEVELS[frame.index])


def test_every_frame_sent_costs_next_to_nothing_more_where_skipping_is_possible():
    plain = sum(len(bytes(p)) for p in encode_levels(LEVELS, LAYOUT, PROFILE, FILE))
    able = sum(len(bytes(p)) for p in encode_levels(LEVELS, LAYOUT, PROFILE, SKIPS))
    assert able <= plain + 0.1 * len(LEVELS)


def test_gaps_survive_and_regular_ones_become_cheap():
    gaps = [0, MAX_SKIP, 5, 1, *([2] * 300)]
    encoder, model = Encoder(), GapModel()
    for gap in gaps:
        encoder.gap(model.frequencies(), gap)
        model.note(gap)
    payload = encoder.finish()
    decoder, model = Decoder(payload), GapModel()
    for gap in gaps:
        assert model.frequencies().sum() == 1 << 16 and model.frequencies().min() >= 1
        assert decoder.gap(model.frequencies()) == gap
        model.note(gap)
    assert len(payload) < 30


def test_what_a_packing_cannot_tell_is_refused():
    with pytest.raises(KinecastError, match="expected a packing with skips=True"):
        list(encode_levels(LEVELS, LAYOUT, PROFILE, FILE, EveryKth(2)))
    encoder = MotionEncoder(LAYOUT, PROFILE)
    with pytest.raises(KinecastError, match="none before the first"):
        encoder.push(LEVELS[0], 1)
    encoder.push(LEVELS[0])
    with pytest.raises(KinecastError, match="0 to 63 skipped frames"):
        encoder.push(LEVELS[1], MAX_SKIP + 1)


def test_a_foreign_packet_of_endless_gaps_is_refused():
    encoder, model = Encoder(), None
    from kinecast.codec.predictor import MotionModel

    model = MotionModel(LAYOUT, PROFILE)
    for index in range(64):
        if index:
            model.code_gap(encoder, MAX_SKIP)
        model.code_frame(encoder, LEVELS[0], 1 if not index else MAX_SKIP + 1)
    decoder = MotionDecoder(LAYOUT, PROFILE)
    assert list(decoder.push(MotionPacket(0, 0, 64, encoder.finish(), 0, True, True))) == []
    assert decoder.losses.refused == 1


def test_the_receiver_shows_what_the_sender_expected():
    """Closed loop: no frame is further off than the tolerance, though the two sides share nothing but bytes."""
    distance = in_steps(LAYOUT)
    frames = decode_motion(send(ClosedLoop(damped, distance, 1.5)), LAYOUT, PROFILE)
    shown = np.stack([frame.vector for frame in fill(frames, damped)])
    errors = [distance(vector, one) for vector, one in zip(dequantize(LEVELS, LAYOUT), shown, strict=True)]
    assert max(errors) <= 1.5 and max(errors) > 0


def test_a_loop_in_rendered_terms_sends_what_shows():
    """Pictures that only the first number moves: changes of the others are never worth a packet."""

    def render(vectors):
        assert vectors.shape == (2, LAYOUT.dim)
        return np.broadcast_to(100 + 40 * vectors[:, :1, None, None], (2, 10, 9, 3))

    distance = in_pictures(render)
    start, shown, unseen = np.zeros((3, LAYOUT.dim))
    shown[0], unseen[1:] = 0.5, 0.5
    assert distance(start, shown) == pytest.approx(20) and distance(start, unseen) == 0
    loop = ClosedLoop(hold, distance, 10.0)
    wanted = [loop.wants(vector, 0) for vector in (start, unseen, start, shown, start + shown, unseen)]
    assert wanted == [True, False, False, True, False, True]


def test_a_budget_is_kept():
    levels = smooth_levels(LAYOUT, 240, noise=0.3)
    kilobits = 8 * 30 / len(levels) / 1000

    def rate(budget):
        control = RateControl(ClosedLoop(damped, in_steps(LAYOUT), 0), budget, 30)
        packets = list(encode_levels(levels, LAYOUT, PROFILE, SKIPS, control))
        return sum(len(bytes(p)) for p in packets) * kilobits, sum(p.count for p in packets)

    every = sum(len(bytes(p)) for p in encode_levels(levels, LAYOUT, PROFILE, FILE)) * kilobits
    for share in (0.4, 0.7):
        assert 0.7 * share * every < rate(share * every)[0] < share * every * (1 + 1 / 8)  # a second of the eight
    assert rate(3 * every)[1] > 220


def test_forecasts_of_a_gap_do_not_see_beyond_it():
    received = list(decode_motion(send(Blocks(5, 5)), LAYOUT, PROFILE))
    changed = [frame if frame.index < 10 else replace(frame, vector=frame.vector + 1) for frame in received]
    for forecast in (hold, damped):
        one, other = list(fill(received, forecast)), list(fill(changed, forecast))
        assert all(np.array_equal(a.vector, b.vector) for a, b in zip(one[:10], other[:10], strict=True))
    assert not np.array_equal(list(interpolate(received))[9].vector, list(interpolate(changed))[9].vector)


def test_interpolation_is_a_straight_line():
    frames = list(interpolate(decode_motion(send(EveryKth(4)), LAYOUT, PROFILE)))
    vectors = dequantize(LEVELS, LAYOUT)
    assert len(frames) == 90
    assert np.allclose(frames[5].vector, 0.75 * vectors[4] + 0.25 * vectors[8], atol=1e-5)


def test_damped_goes_on_and_slows_down():
    path = damped(np.array([[0.0], [1.0]], np.float32), 3)[:, 0]
    assert np.allclose(path, [1.43, 1.43 + 0.43**2, 1.43 + 0.43**2 + 0.43**3])
    assert np.allclose(damped(np.ones((1, 2), np.float32), 2), 1)


def test_a_jump_out_of_a_gap_is_not_taken_for_speed():
    expectation = Expectation(damped)
    for value in (0.0, 0.0):
        expectation.came(np.array([value], np.float32))
    for _ in range(3):
        assert expectation.missed() == 0
    expectation.came(np.array([4.0], np.float32))  # four frames at a speed of 1
    assert expectation.expected() == pytest.approx(4.43)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EveryKth(0),
        lambda: EveryKth(65),
        lambda: Blocks(0, 3),
        lambda: Blocks(3, 64),
        lambda: ClosedLoop(hold, in_steps(LAYOUT), -1.0),
        lambda: ClosedLoop(hold, in_steps(LAYOUT), float("nan")),
        lambda: RateControl(ClosedLoop(hold, in_steps(LAYOUT), 1), 0, 30),
    ],
)
def test_schedules_out_of_range_are_refused(make):
    with pytest.raises(KinecastError, match="expected"):
        make()
