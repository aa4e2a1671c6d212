import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.tracks import LAYOUTS, profile_of, smooth_levels
from kinecast.apps.stream.clips import layout_for_quality
from kinecast.codec import (
    FILE,
    LIVE,
    Layout,
    MotionDecoder,
    MotionEncoder,
    MotionPacket,
    Packing,
    decode_motion,
    encode_levels,
    encode_motion,
    load_profile,
    profile_names,
    quantize,
)
from kinecast.codec.packets import DATAGRAM
from kinecast.errors import KinecastError
from kinecast.motion import Motion

GOLDEN = Path(__file__).parents[1] / "golden"


def decoded(packets, layout, profile, **options):
    parsed = [MotionPacket.parse(bytes(packet))[0] for packet in packets]
    return list(decode_motion(parsed, layout, profile, **options))


def assert_lossless(levels, layout, profile, packing):
    packets = list(encode_levels(levels, layout, profile, packing))
    assert all(len(bytes(packet)) <= DATAGRAM for packet in packets)
    frames = decoded(packets, layout, profile)
    assert [frame.index for frame in frames] == list(range(len(levels)))
    assert not any(frame.concealed for frame in frames)
    assert np.array_equal(np.stack([frame.levels for frame in frames]), levels)
    return packets


@pytest.mark.parametrize("packing", [LIVE, Packing(2, 20), FILE], ids=["live", "two", "file"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_comes_back_bit_for_bit(name, packing):
    layout = LAYOUTS[name]
    assert_lossless(smooth_levels(layout, 45), layout, profile_of(layout), packing)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 12), st.integers(1, 3), st.integers(1, 12), st.sampled_from([1, 3, 64]), st.data())
def test_any_values_come_back(keypoints, width, frames, packet, data):
    layout = Layout.plain(keypoints * width, data.draw(st.sampled_from([1 / 65536, 1 / 256, 1.0])))
    values = st.one_of(st.integers(-3, 3), st.integers(-32767, 32767), st.sampled_from([-32767, 0, 32767]))
    levels = data.draw(
        st.lists(st.lists(values, min_size=layout.dim, max_size=layout.dim), min_size=frames, max_size=frames)
    )
    assert_lossless(np.array(levels, np.int32), layout, profile_of(layout), Packing(packet, 5))


def test_the_worst_frames_of_the_widest_layout_fit_datagrams():
    layout = Layout.plain(256, 1 / 65536)
    random = np.random.default_rng(0)
    levels = np.where(random.random((12, 256)) < 0.5, -32767, 32767).astype(np.int32)
    levels[6:] = random.integers(-32767, 32767, (6, 256))
    assert_lossless(levels, layout, profile_of(layout), FILE)


def test_one_constant_frame_costs_next_to_nothing():
    layout = Layout.fomm()
    levels = np.tile(smooth_levels(layout, 1), (300, 1))
    packets = list(encode_levels(levels, layout, profile_of(layout), FILE))
    assert sum(len(p.payload) for p in packets[2:]) < 3 * 180  # of 180 frames; a frame of 60 numbers in 3 bytes


def test_bundled_profiles_code_their_layout():
    widths = {"rotation": 3, "shift": 2, "scale": 1, "expression": 32}
    still = Motion("mesh", {name: torch.zeros(1, width) for name, width in widths.items()})
    moving = replace(still, components={**still.components, "scene": torch.zeros(1, 4)})
    layouts = {"mesh": layout_for_quality(still, 4), "mesh-42": layout_for_quality(moving, 4)}
    for name in profile_names():
        layout = layouts.get(name, Layout.fomm())
        assert_lossless(smooth_levels(layout, 12), layout, load_profile(name, layout), FILE)


def test_a_trained_profile_is_refused_for_another_layout():
    trained = [name for name in profile_names() if name != "generic"]
    with pytest.raises(KinecastError, match="use --profile generic"):
        load_profile(trained[0], Layout.plain(7))
    with pytest.raises(KinecastError, match="codec profile 'nobody': expected one of generic"):
        load_profile("nobody", Layout.fomm())


def test_motion_vectors_come_back_within_half_a_step():
    layout = Layout.fomm()
    vectors = np.random.default_rng(1).uniform(-1, 1, (6, 60)).astype(np.float32)
    frames = list(decode_motion(encode_motion(vectors, layout, profile_of(layout)), layout, profile_of(layout)))
    assert (np.abs(np.stack([f.vector for f in frames]) - vectors) <= layout.steps / 65536 / 2 + 1e-6).all()


def test_live_frames_come_out_as_they_go_in():
    """No delay with a packet a frame; one frame with two."""
    layout = Layout.plain(5)
    for size in (1, 2):
        encoder, decoder = (
            MotionEncoder(layout, profile_of(layout), Packing(size)),
            MotionDecoder(layout, profile_of(layout)),
        )
        out = 0
        for index, frame in enumerate(smooth_levels(layout, 9), start=1):
            packet = encoder.push(frame)
            out += len(list(decoder.push(packet))) if packet else 0
            assert index - out < size


def test_a_key_packet_can_be_asked_for():
    layout = Layout.plain(5)
    encoder, frames = MotionEncoder(layout, profile_of(layout)), smooth_levels(layout, 6)
    keys = []
    for index, frame in enumerate(frames):
        if index == 3:
            encoder.request_key()
        packet = encoder.push(frame)
        keys.append(packet is not None and packet.key)
    assert keys == [True, False, False, True, False, False]


def test_bad_levels_are_refused():
    encoder = MotionEncoder(Layout.plain(5), profile_of(Layout.plain(5)))
    for bad in (np.zeros(4, int), np.full(5, 40000), np.zeros(5)):
        with pytest.raises(KinecastError, match="motion levels: expected"):
            encoder.push(bad)


def test_a_published_stream_decodes_to_its_integers():
    """Written once by this format's first encoder; on any later version or machine it must give the same levels."""
    stream = np.load(GOLDEN / "codec_stream.npz", allow_pickle=False)
    for name in ("fomm", "tps", "skipping"):  # the last with frames left out, 3 of 7 sent
        layout = LAYOUTS["fomm" if name == "skipping" else name]
        data, packets = stream[f"{name}_bytes"].tobytes(), []
        while data:
            packet, data = MotionPacket.parse(data)
            packets.append(packet)
        frames = list(decode_motion(packets, layout, profile_of(layout)))
        assert np.array_equal(np.stack([frame.levels for frame in frames]), stream[f"{name}_levels"])


_OTHER = """
import sys, numpy as np
from kinecast.codec import Layout, MotionPacket, decode_motion, generic_profile
data, packets, layout = sys.stdin.buffer.read(), [], Layout.fomm()
while data:
    packet, data = MotionPacket.parse(data)
    packets.append(packet)
levels = np.stack([f.levels for f in decode_motion(packets, layout, generic_profile(layout))])
sys.stdout.buffer.write(levels.astype("<i4").tobytes())
"""


@pytest.mark.parametrize("threads", ["1", "4"])
def test_another_process_and_thread_count_decodes_the_same(threads):
    layout = Layout.fomm()
    levels = smooth_levels(layout, 40)
    data = b"".join(bytes(packet) for packet in encode_levels(levels, layout, profile_of(layout), FILE))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
    out = subprocess.run([sys.executable, "-c", _OTHER], input=data, capture_output=True, check=True, env=environment)
    assert np.array_equal(np.frombuffer(out.stdout, "<i4").reshape(levels.shape), levels)


def test_speed(capsys):
    layout = Layout.fomm()
    levels, profile = smooth_levels(layout, 150), profile_of(layout)
    started = time.process_time()
    packets = list(encode_levels(levels, layout, profile, LIVE))
    middle = time.process_time()
    assert len(list(decode_motion(packets, layout, profile))) == 150
    ended = time.process_time()
    with capsys.disabled():
        print(f"\nencode {150 / (middle - started):.0f}, decode {150 / (ended - middle):.0f} frames per CPU second")
    assert quantize(np.zeros((1, 60)), layout).sum() == 0
    assert middle - started < 1.5 and ended - middle < 1.5  # 100 frames per second: a guard, not the measurement
