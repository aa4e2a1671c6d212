"""Frames in which no face is seen: not sent, said, and held by the receiver."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from faces_in_motion import face_frames, tiny_mesh
from helpers import write_clip
from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip, read_motion
from kinecast.codec import Expectation, Layout, decode_motion, encode_motion, fill, generic_profile, interpolate
from kinecast.codec.absences import Absences, AbsenceUnit, AbsenceWriter
from kinecast.codec.decoder import DecodedFrame
from kinecast.codec.encoder import Packing
from kinecast.codec.filling import damped, hold
from kinecast.codec.packets import parse_unit
from kinecast.codec.schedule import ClosedLoop, Present, in_steps
from kinecast.errors import KinecastError
from kinecast.media.pictures import to_uint8
from kinecast.media.video import read_frames


def test_a_unit_comes_back_and_damage_is_refused():
    data = bytes(AbsenceUnit(300, 1000))
    assert parse_unit(data + b"more") == (AbsenceUnit(300, 1000), b"more") and len(data) <= 9
    for damaged in (data[:-1], bytes([*data[:2], data[2] ^ 1, *data[3:]]), bytes(data[:1]) + b"\0\0" + data[-4:]):
        with pytest.raises(KinecastError):
            parse_unit(damaged)


def test_the_receiver_knows_what_the_sender_noted():
    shown = [False, True, True, False, False, True, False]
    writer, told = AbsenceWriter(), Absences()
    for i, present in enumerate(shown):
        writer.add(present)
        if i in (3, 6):  # a packet goes out in the middle of an absence
            for unit in writer.units():
                told.take(unit)
    assert [not told.covers(i) for i in range(7)] == shown and writer.total == 4


def coded(shown: Sequence[bool], loop: bool = False) -> tuple[list[DecodedFrame], np.ndarray]:
    """Code a ramp of which some frames show nothing; returns what is decoded, marked, and the ramp."""
    layout = Layout.plain(2)
    ramp = np.linspace(0, 1, len(shown))[:, None].repeat(2, axis=1).astype(np.float32)
    for i in range(1, len(shown)):
        if not shown[i]:
            ramp[i] = ramp[i - 1]  # as a follower holds what it saw last
    turn = iter(range(len(shown)))
    now = [0]

    def vectors():
        for now[0] in turn:
            yield ramp[now[0]]

    inner = ClosedLoop(damped, in_steps(layout), 4.0) if loop else None
    schedule = Present(lambda: shown[now[0]], inner)
    profile = generic_profile(layout)
    packets = list(encode_motion(vectors(), layout, profile, Packing(120, 600, True, skips=True), schedule))
    frames = list(decode_motion(packets, layout, profile))
    marked = [f if shown[f.number] else DecodedFrame(**{**vars(f), "absent": True}) for f in frames]
    return marked, ramp


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("fill_with", ["damped", "interpolation"])
def test_frames_without_a_face_are_left_out_and_held(loop, fill_with):
    shown = [True] * 10 + [False] * 100 + [True] * 10
    frames, ramp = coded(shown, loop)
    sent = [f.number for f in frames if not f.concealed]
    assert len(frames) == 120 and len([n for n in sent if not shown[n]]) == 1  # one in 64
    if not loop:
        assert [n for n in sent if shown[n]] == [*range(10), *range(110, 120)]
    found = np.stack([f.vector for f in (fill(frames, damped) if fill_with == "damped" else interpolate(frames))])
    held = found[10:110]
    before = max(n for n in sent if n < 10)
    refreshed = next(n for n in sent if n >= 10) - 10
    assert np.ptp(held[:refreshed], axis=0).max() == 0 and np.ptp(held[refreshed:], axis=0).max() == 0
    np.testing.assert_allclose(held[-1], ramp[9], atol=1 / 256)
    np.testing.assert_allclose(held[0], ramp[before], atol=1 / 256)
    np.testing.assert_allclose(found[110], ramp[110], atol=1 / 256)


def test_what_is_held_is_no_past_to_forecast_from():
    seen = []

    def forecast(observed: np.ndarray, horizon: int) -> np.ndarray:
        seen.append(len(observed))
        return hold(observed, horizon)

    expectation = Expectation(forecast)
    for _ in range(5):
        expectation.came(np.zeros(2))
    expectation.absent()
    assert expectation.expected() is None
    expectation.came(np.ones(2))
    expectation.missed()
    assert seen == [1]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames of nothing, four with a face, two of nothing, and one with a face."""
    faces, away = face_frames(5), torch.full((1, 3, 256, 256), 0.5)
    frames = torch.cat([away, away, away, faces[:4], away, away, faces[4:]])
    return write_clip(tmp_path_factory.mktemp("away") / "away.mp4", to_uint8(frames))


SHOWN = [False] * 3 + [True] * 4 + [False] * 2 + [True]


def test_a_clip_with_a_face_in_some_frames_is_encoded_and_drawn(clip, tmp_path):
    model = tiny_mesh()
    report = encode_clip(model, clip, tmp_path / "m.kcm", EncodeOptions(model_name="tiny"))
    assert (report["frames"], report["frames_without_face"], report["frames_sent"]) == (10, 5, 6)
    drawn = decode_clip(model, tmp_path / "m.kcm", tmp_path / "m.mp4")
    assert (drawn["frames"], drawn["frames_without_face"], drawn["fps"]) == (10, 5, 25)
    frames = np.stack(list(read_frames(tmp_path / "m.mp4"))).astype(int)
    moved = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert moved[[0, 1, 2, 6, 7]].max() < 1 < moved[[3, 4, 5, 8]].min()  # the first pose is shown from the beginning
    picture, motion = read_motion(model, tmp_path / "m.kcm")
    assert motion.valid_frames().tolist() == SHOWN
    assert float(picture.std()) > 0.1  # not the grey of the first frame


def test_no_frame_is_searched_for_a_face_twice(clip, tmp_path, monkeypatch):
    model, seen = tiny_mesh(), list[int]()
    follow = model.follow

    def counting():
        detect = follow()
        return lambda frames: (seen.append(len(frames)), detect(frames))[1]

    monkeypatch.setattr(model, "follow", counting)
    encode_clip(model, clip, tmp_path / "m.kcm", EncodeOptions(model_name="tiny"))
    assert sum(seen) == len(SHOWN)


def test_a_clip_without_any_face_is_one_line(tmp_path):
    grey = write_clip(tmp_path / "grey.mp4", np.full((3, 64, 64, 3), 128, np.uint8))
    with pytest.raises(KinecastError, match="grey.mp4: expected a face in some frame, found none: choose another clip"):
        encode_clip(tiny_mesh(), grey, tmp_path / "m.kcm")
    assert not (tmp_path / "m.kcm").exists()
