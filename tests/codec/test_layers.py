"""Layers: round trips, what is left when some are dropped or lost, and streams that no encoder writes."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.tracks import LADDER, layered_vectors, profile_of, smooth_levels
from kinecast.codec import (
    FILE,
    EveryKth,
    Header,
    LayeredDecoder,
    Layout,
    MotionDecoder,
    MotionPacket,
    StreamReader,
    decode_motion,
    encode_layers,
    encode_motion,
    keep_layers,
    quantize,
    split_picture,
    stream_decoder,
)
from kinecast.codec.packets import LAYERED, REFERENCES, parse_unit
from kinecast.codec.quantizer import check_nested, coarser, windows
from kinecast.codec.references import ChoiceUnit, PictureLayerUnit
from kinecast.errors import KinecastError

GOLDEN = Path(__file__).parents[1] / "golden"
EVERY, PROFILE, PACKING = (4, 2, 1), profile_of(LADDER[0]), replace(FILE, frames=20)
HEADER = Header(LADDER[0], (25, 1), (64, 64), profile="generic", version=LAYERED, layers=LADDER[1:])


def encoded(vectors, layouts=LADDER, every=EVERY, packing=PACKING):
    return list(encode_layers(vectors, layouts, profile_of(layouts[0]), every, packing))


def decoded(packets, layouts=LADDER):
    decoder = LayeredDecoder(layouts, profile_of(layouts[0]))
    return [frame for packet in packets for frame in decoder.push(packet)] + decoder.flush(), decoder.losses


def test_all_layers_give_the_highest_bit_for_bit():
    vectors = layered_vectors(90)
    frames, losses = decoded(encoded(vectors))
    assert np.array_equal(np.stack([frame.levels for frame in frames]), quantize(vectors, LADDER[-1]))
    assert [frame.index for frame in frames] == [frame.number for frame in frames] == list(range(90))
    assert not (losses.lost or losses.useless or losses.refused or losses.skipped or losses.concealed)


def test_each_lower_layer_alone_gives_its_own_frames_within_its_steps():
    vectors = layered_vectors(90)
    packets = encoded(vectors)
    for kept in (1, 2):
        frames, losses = decoded([packet for packet in packets if packet.layer < kept], LADDER[:kept])
        real = [frame for frame in frames if not frame.concealed]
        assert [frame.number for frame in real] == sorted({*range(0, 90, EVERY[kept - 1]), 89})
        off = np.abs(np.stack([frame.vector for frame in real]) - vectors[[frame.number for frame in real]])
        rounded = sum(layout.steps for layout in LADDER[kept - 1 :]) / 65536 / 2  # once in each layer
        assert (off <= rounded + 1e-6).all()
        assert losses.skipped == 90 - len(real) and not losses.concealed


def test_the_base_is_a_stream_that_a_decoder_without_layers_reads():
    packets = encoded(layered_vectors(50))
    base = [packet for packet in packets if not packet.layer]
    plain = [frame.levels for frame in decode_motion(base, LADDER[0], PROFILE) if not frame.concealed]
    layered = [frame.levels for frame in decoded(base, LADDER[:1])[0] if not frame.concealed]
    assert np.array_equal(plain, layered) and len(plain) == 14


def test_layers_cost_less_than_as_many_streams():
    vectors = layered_vectors(200)
    layers = sum(len(packet.payload) for packet in encoded(vectors, packing=FILE))
    apart = 0
    for layout, every in zip(LADDER, EVERY, strict=True):
        schedule = EveryKth(every) if every > 1 else None
        packing = replace(FILE, skips=True)
        apart += sum(len(packet.payload) for packet in encode_motion(vectors, layout, PROFILE, packing, schedule))
    assert layers < 0.85 * apart


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_levels_come_back(data):
    steps = sorted(data.draw(st.lists(st.integers(256, 4096), min_size=1, max_size=4)), reverse=True)
    layouts = tuple(Layout("plain", 3, (replace(Layout.plain(3).components[0], step=step),)) for step in steps)
    every = sorted(data.draw(st.lists(st.integers(1, 6), min_size=len(steps), max_size=len(steps))), reverse=True)
    span = data.draw(st.sampled_from([3, 300, 30_000]))
    frames = data.draw(st.lists(st.lists(st.integers(-span, span), min_size=3, max_size=3), min_size=1, max_size=9))
    vectors = np.array(frames) * steps[-1] / 65536
    packets = encoded(vectors, layouts, every, replace(FILE, frames=data.draw(st.integers(1, 5))))
    found, _ = decoded([MotionPacket.parse(bytes(packet))[0] for packet in packets], layouts)
    exact = np.stack([quantize(vectors, layouts[-1])[frame.number] for frame in found if not frame.concealed])
    assert np.array_equal([frame.levels for frame in found if not frame.concealed], exact)
    assert len(found) == len(frames) and not found[-1].concealed


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4096), st.integers(1, 64), st.integers(0, 63), st.integers(-32767, 32767))
def test_a_level_is_in_the_window_of_the_one_below(step, ratio, more, level):
    upper, lower = (
        Layout("one", 1, (replace(Layout.plain(1).components[0], step=size),))
        for size in (step, min(step * ratio + min(more, step * (64 - ratio)), 65536))
    )
    below = coarser(np.array([[level]]), upper, lower)[0]
    low, high = windows(below, lower, upper)[0]
    assert low <= level <= high <= low + 64
    for edge in (low, high):
        assert coarser(np.array([[edge]]), upper, lower)[0] == below
    if low > -32767:
        assert coarser(np.array([[low - 1]]), upper, lower)[0] == below - 1


@pytest.mark.parametrize("lost", range(9))
def test_a_lost_packet_costs_its_layer_and_those_above_until_the_next_key(lost):
    vectors = layered_vectors(90)
    packets = encoded(vectors, packing=replace(FILE, frames=20, key_every=40))
    gone = packets.pop(lost)
    frames, losses = decoded(packets)
    assert [frame.number for frame in frames][:-1] == list(range(frames[0].number, frames[-1].number))
    truth = [quantize(vectors, LADDER[2])]
    for lower, upper in ((LADDER[1], LADDER[2]), (LADDER[0], LADDER[1])):
        truth.insert(0, coarser(truth[0], upper, lower))
    for frame in frames:
        if not frame.concealed:  # whatever is not held is exact in some layer
            assert any(np.array_equal(frame.levels, levels[frame.number]) for levels in truth), frame.number
    exact = [np.array_equal(frame.levels, truth[2][frame.number]) for frame in frames]
    assert exact[-40:] == [True] * 40 or lost > 5  # whole again after a key
    assert losses.useless >= (2 - gone.layer if lost < len(packets) - 3 else 0)


def test_packets_that_come_in_another_order_are_put_right():
    vectors = layered_vectors(90)
    packets = encoded(vectors)
    swapped = [packet for group in range(0, len(packets), 3) for packet in packets[group : group + 3][::-1]]
    frames, losses = decoded(swapped)
    assert np.array_equal(np.stack([frame.levels for frame in frames]), quantize(vectors, LADDER[-1]))
    assert losses.useless == losses.lost == 0


def test_a_long_pause_is_told_by_a_key_packet():
    vectors = layered_vectors(6)
    encoder_frames = [0, 1, 2, 70, 71, 72]  # the base's last frame is further back than a packet can tell of
    wanted = iter(np.isin(np.arange(73), encoder_frames))

    class Some:
        def wants(self, vector, bits):
            return bool(next(wanted))

        def absent(self):
            raise AssertionError

    track = np.repeat(vectors[:1], 73, axis=0)
    track[encoder_frames] = vectors
    packets = list(encode_layers(track, LADDER, PROFILE, EVERY, PACKING, Some()))
    frames, losses = decoded(packets)
    assert [frame.number for frame in frames if not frame.concealed] == encoder_frames and not losses.useless
    assert sum(packet.key for packet in packets if not packet.layer) == 2


def layered_stream(vectors):
    """A stream whose layers have a picture each."""
    units: list[Any] = list(split_picture(b"coarse", "image/webp", 0))
    for n in (1, 2):
        units += [PictureLayerUnit(n, n), *split_picture(bytes(1500), "image/webp", n), ChoiceUnit(0, n)]
    return bytes(HEADER) + b"".join(map(bytes, [*units, *encoded(vectors)]))


def test_a_relay_drops_layers_and_changes_no_byte_of_the_rest():
    data = layered_stream(layered_vectors(60))
    reader = StreamReader(io.BytesIO(data))
    assert reader.header == HEADER
    units = list(reader.units())
    for count, version in ((3, LAYERED), (2, LAYERED), (1, REFERENCES)):
        header, kept = keep_layers(HEADER, units, count)
        assert header.version == version and 1 + len(header.layers) == count
        whole = bytes(header) + b"".join(map(bytes, kept))
        again = StreamReader(io.BytesIO(whole))
        found: list[Any] = list(again.units())
        assert again.header == header and not again.skipped
        assert all(bytes(unit) in data for unit in found)
        assert {unit.layer for unit in found if isinstance(unit, MotionPacket)} == set(range(count))
        pictures = {unit.picture for unit in found if not isinstance(unit, MotionPacket)}
        assert pictures == set(range(count))
    assert isinstance(stream_decoder(keep_layers(HEADER, [], 1)[0], PROFILE), MotionDecoder)
    with pytest.raises(KinecastError, match="layers: expected 1 or more to keep, found 0"):
        keep_layers(HEADER, units, 0)


def test_a_picture_number_that_is_used_again_is_of_the_layer_that_was_said_last():
    units: list[Any] = [
        PictureLayerUnit(5, 1),
        *split_picture(b"fine", "image/webp", 5),
        *split_picture(b"base", "image/webp", 5),
    ]
    kept: list[Any] = list(keep_layers(HEADER, [*units, ChoiceUnit(9, 5)], 1)[1])
    assert [unit.data for unit in kept[:-1]] == [b"base"] and kept[-1] == ChoiceUnit(9, 5)


def test_a_published_stream_of_layers_decodes_to_its_integers():
    with np.load(GOLDEN / "codec_stream.npz") as golden:
        data, levels = golden["layers_bytes"].tobytes(), golden["layers_levels"]
    packets = []
    while data:
        packet, data = parse_unit(data)
        packets.append(packet)
    frames, _ = decoded(packets)
    assert np.array_equal(np.stack([frame.levels for frame in frames]), levels)
    again = encoded(layered_vectors(50, seed=1))
    assert b"".join(map(bytes, again)) == b"".join(map(bytes, packets))


HOSTED = encoded(layered_vectors(24), packing=replace(FILE, frames=6))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_hostile_packets_give_frames_or_nothing(data):
    packets = HOSTED
    decoder = LayeredDecoder(LADDER, PROFILE)
    for _ in range(data.draw(st.integers(1, 12))):
        packet = data.draw(st.sampled_from(packets))
        changes = {
            "sequence": data.draw(st.sampled_from([packet.sequence, 0, 7, 65535])),
            "frame": data.draw(st.sampled_from([packet.frame, 0, 40_000])),
            "payload": data.draw(st.one_of(st.just(packet.payload), st.binary(max_size=40))),
            "back": data.draw(st.sampled_from([packet.back, 0, 1, 3])),
            "layer": data.draw(st.sampled_from([packet.layer or 1, 1, 2, 3])),
            "below": data.draw(st.sampled_from([packet.below, 0, 9])),
        }
        if data.draw(st.booleans()):
            packet = replace(packet, **changes)
        frames = decoder.push(packet)
        assert all(np.isfinite(frame.vector).all() and frame.vector.shape == (LADDER[0].dim,) for frame in frames)
    assert len(decoder.flush()) < 4000


def test_missing_layers_are_not_waited_for_without_end():
    base = Layout.plain(1, 1 / 32)
    layouts = (base, Layout.plain(1, 1 / 128))
    vectors = smooth_levels(base, 1400) / 32
    packets = encoded(vectors, layouts[:1], (1,))
    decoder = LayeredDecoder(layouts, profile_of(base))
    given = 0
    for packet in packets:
        given += len(decoder.push(packet))
    assert given >= 1400 - 1024 - 120 and len(decoder._found) <= 1024 + 120  # within the longest gap
    assert given + len(decoder.flush()) == 1400


def test_a_stream_without_layers_takes_no_packet_of_one():
    packets = encoded(layered_vectors(10))
    decoder = MotionDecoder(LADDER[0], PROFILE)
    for packet in packets:
        decoder.push(packet)
    assert decoder.losses.refused == 2 and decoder.losses.decoded == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: check_nested(LADDER[1], LADDER[0]), "steps at most as wide as those of the layer below"),
        (lambda: check_nested(Layout.fomm(value=1), Layout.fomm(value=1 / 65536)), "at least 1/64 of them"),
        (lambda: check_nested(Layout.plain(6), Layout.plain(7)), "layouts that differ in their steps alone"),
        (lambda: replace(HEADER, version=REFERENCES), "expected 2 to 4 layers in a stream of version 4"),
        (lambda: replace(HEADER, layers=()), "expected 2 to 4 layers in a stream of version 4"),
        (lambda: replace(HEADER, layers=LADDER[1:] * 2), "expected 2 to 4 layers"),
        (lambda: replace(HEADER, layers=LADDER[:0:-1]), "steps at most as wide"),
        (lambda: MotionPacket(0, 0, 1, b"", layer=4), "expected layer 0 to 3"),
        (lambda: MotionPacket(0, 0, 1, b"", below=3), "and the packet below it from layer 1 on"),
        (lambda: PictureLayerUnit(0, 0), "a picture from 0 to 255 and a layer from 1 on"),
        (lambda: encoded(layered_vectors(3), LADDER, (1, 2, 1)), "in fewer from layer to layer"),
        (lambda: encoded(layered_vectors(3), LADDER, (1, 1)), "found 3 of 2 frame rates"),
        (lambda: windows(np.full(LADDER[0].dim, 32767), *LADDER[::2]), "levels within 16 bits in each layer"),
    ],
)
def test_what_is_no_layer_is_refused(make, message):
    with pytest.raises(KinecastError, match=message):
        make()
