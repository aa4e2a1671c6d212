"""Frames keep their times on every way through the program: extract, animate, encode, decode, forecast."""

import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from clips_with_sound import beep_of, flash_of, lengths_of, sound_codec, write_timed
from helpers import draw_frames
from kinecast.apps.pipeline import AnimateOptions, animate_clip, animate_motion, extract
from kinecast.apps.stream.clips import EncodeOptions, decode_clip, encode_clip, read_motion
from kinecast.apps.stream.sound import stream_sound
from kinecast.codec import Header, Layout, SoundUnit, StreamReader
from kinecast.codec.packets import EXTENDED
from kinecast.codec.stream import code_picture, write_stream
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.forecasting import build_forecaster
from kinecast.media.footage import footage
from kinecast.media.resampling import with_ends
from kinecast.media.sound import opus_encoder
from kinecast.media.video import VideoWriter, probe, timed_frames
from kinecast.motion import Motion
from tiny import tiny_fomm

MODEL = tiny_fomm()
# A second at 25 frames per second, then two at 5: in thousandths, which every container keeps.
TIMES = np.concatenate([np.arange(25) / 25, 1 + np.arange(10) / 5])
END = 3.0
EDGES = np.append(TIMES, END)


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    """A clip of a variable rate, flash and beep at 1.8 s."""
    return write_timed(tmp_path_factory.mktemp("varied") / "in.mp4", TIMES, END, 1.8, "aac")


def times_of(path):
    return np.array([time for time, _ in timed_frames(path)])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm", ".gif"])
@pytest.mark.parametrize(
    "times", [[0, 0.04, 0.08, 0.5, 1.5, 1.53, 1.57, 2.6], [0, 0.05, 0.1, 1.1, 1.15, 1.2, 1.25, 2.6]]
)
def test_frames_are_written_at_their_times(tmp_path, suffix, times):
    edges = np.array(times)
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, 25) as writer:
        writer.write(draw_frames(3), edges[:4] + 7)  # what counts is the time since the first frame
        writer.write(draw_frames(4), edges[3:] + 7)
    assert times_of(path) == pytest.approx(edges[:-1], abs=1e-6)
    assert probe(path).duration == pytest.approx(2.6, abs=1e-3)


def test_pillow_sees_the_delays_of_a_gif(tmp_path):
    with VideoWriter(tmp_path / "a.gif", 25) as writer:
        writer.write(draw_frames(4), np.array([0, 0.05, 0.1, 1.1, 1.85]))
    with Image.open(tmp_path / "a.gif") as picture:
        found = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert found == [50, 50, 1000, 750]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_the_last_frame_of_film_that_moves_stays_as_long_as_it_should(tmp_path, suffix):
    """Long enough, and moved enough, for an encoder to want B-frames, whose decoding times would be taken for this."""
    edges = np.append(np.arange(40) / 25, 3.6)
    frames = np.stack([np.roll(draw_frames(1)[0], 4 * (i // 3), axis=1) for i in range(40)])
    with VideoWriter(tmp_path / f"a{suffix}", 25) as writer:
        writer.write(frames, edges)
    assert probe(tmp_path / f"a{suffix}").duration == pytest.approx(3.6, abs=1e-3)


@pytest.mark.filterwarnings("ignore:.*a gif shows at most 50 frames")
def test_frames_within_one_tick_of_a_gif_are_shown_as_well_as_it_can(tmp_path):
    with VideoWriter(tmp_path / "a.gif", 240) as writer:
        writer.write(draw_frames(48), np.arange(49) / 240)
        assert writer.frames_written == 48
    assert probe(tmp_path / "a.gif").duration == pytest.approx(0.2, abs=0.021)  # the last frame stays for two ticks


@pytest.mark.parametrize("limit, end", [(None, END), (25, 1.0), (30, 2.0)])
def test_motion_and_animation_keep_the_times(varied, tmp_path, limit, end):
    frames = limit or len(TIMES)
    motion = extract(MODEL, varied, limit=limit)
    assert motion.times is not None and motion.end == pytest.approx(end)
    assert motion.times.numpy() == pytest.approx(TIMES[:frames])
    assert motion.fps == pytest.approx(frames / end)
    report = animate_clip(MODEL, None, varied, tmp_path / "out.mp4", AnimateOptions(limit=limit, compare=True))
    assert report.frames == frames and report.fps == pytest.approx(frames / end)
    assert times_of(tmp_path / "out.mp4") == pytest.approx(TIMES[:frames], abs=1e-4)
    video, audio = lengths_of(tmp_path / "out.mp4")
    assert video == pytest.approx(end, abs=1e-3) and abs(audio - video) < 0.04


def test_sound_is_in_sync_and_can_be_left_out(varied, tmp_path):
    for name, options in {"a": AnimateOptions(compare=True), "b": AnimateOptions(compare=True, fps=10)}.items():
        animate_clip(MODEL, None, varied, tmp_path / f"{name}.mp4", options)
        found = _flash_beside(tmp_path / f"{name}.mp4")
        assert abs(found - beep_of(tmp_path / f"{name}.mp4")) < 0.04
        assert abs(np.subtract(*lengths_of(tmp_path / f"{name}.mp4"))) < 0.04
    animate_clip(MODEL, None, varied, tmp_path / "c.mp4", AnimateOptions(sound=False))
    assert sound_codec(tmp_path / "c.mp4") is None


def _flash_beside(path):
    """Return when the driving frame, shown at the left, turns bright."""
    return next(time for time, frame in timed_frames(path, crop="none") if frame[20:60, 4:60].mean() > 150)


def test_a_constant_rate_when_asked_for(varied, tmp_path):
    motion = extract(MODEL, varied, fps=10)
    assert (motion.times, motion.fps, len(motion)) == (None, 10, 30)
    shown = np.searchsorted(TIMES, np.arange(30) / 10 + 1e-6, side="right") - 1
    assert torch.allclose(motion.vectors(), extract(MODEL, varied).vectors()[shown], atol=1e-5)
    assert torch.equal(extract(MODEL, varied).at_rate(10).vectors(), extract(MODEL, varied).vectors()[shown])
    assert len(extract(MODEL, varied, fps=10, limit=7)) == 7
    slow = extract(MODEL, varied, true_fps=10)
    assert (slow.times, slow.fps, len(slow)) == (None, 10, len(TIMES))
    animate_clip(MODEL, None, varied, tmp_path / "out.mp4", AnimateOptions(fps=10))
    info = probe(tmp_path / "out.mp4")
    assert info.constant_rate and info.fps == 10 and info.frames == 30


def test_pictures_have_the_rate_that_is_asked_for(tmp_path):
    for i, frame in enumerate(draw_frames(4)):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    seen = footage(tmp_path, (64, 64), fps=5)
    assert [round(5 * time) for begin, end, _ in seen.shown() for time in (begin, end)] == [0, 1, 1, 2, 2, 3, 3, 4]


def test_forecasts_are_made_at_a_constant_rate_which_is_said(varied, tmp_path):
    options = AnimateOptions(observed=4, horizon=4, compare=True)
    with pytest.warns(KinecastWarning, match="in.mp4: its frame rate varies; it is resampled to a constant 25 fps"):
        report = animate_clip(MODEL, None, varied, tmp_path / "out.mp4", options, build_forecaster("repeat", 24))
    assert (report.frames, report.fps) == (75, 25)
    info = probe(tmp_path / "out.mp4")
    assert info.constant_rate and info.duration == pytest.approx(END, abs=0.01)
    assert abs(_flash_beside(tmp_path / "out.mp4") - 1.8) < 0.04


@pytest.mark.parametrize("options", [{}, {"kbps": 2.0}, {"limit": 30}])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_streams_keep_the_times(varied, tmp_path, options, suffix):
    stream = tmp_path / "clip.kcm"
    report = encode_clip(MODEL, varied, stream, EncodeOptions(model_name="tiny", **options))
    frames = options.get("limit", len(TIMES))
    assert report["frames"] == frames and not report["constant_rate"]
    assert report["fps"] == pytest.approx(frames / EDGES[frames])
    assert report["times_bytes"] < 40 and report["sound_bytes"] == 0
    drawn = decode_clip(MODEL, stream, tmp_path / f"out{suffix}")
    assert drawn["frames"] == frames and drawn["fps"] == pytest.approx(frames / EDGES[frames])
    assert times_of(tmp_path / f"out{suffix}") == pytest.approx(TIMES[:frames], abs=1e-3)
    assert probe(tmp_path / f"out{suffix}").duration == pytest.approx(EDGES[frames], abs=2e-3)


def test_a_constant_rate_costs_nothing(clip, tmp_path):
    report = encode_clip(MODEL, clip, tmp_path / "a.kcm", EncodeOptions(model_name="tiny"))
    assert report["times_bytes"] == 0 and report["constant_rate"]
    with (tmp_path / "a.kcm").open("rb") as file:
        assert StreamReader(file).header.version == 1


def test_the_last_of_items_without_a_duration_stays_as_long_as_the_one_before():
    assert list(with_ends([(0.0, "a"), (0.2, "b"), (0.5, "c")], None)) == [
        (0, 0.2, "a"),
        (0.2, 0.5, "b"),
        (0.5, 0.8, "c"),
    ]
    assert list(with_ends([(0.0, "a"), (0.2, "b")], 0.1)) == [(0, 0.2, "a"), (0.2, 0.4, "b")]  # a length that cannot be
    assert list(with_ends([(0.0, "a")], None)) == [(0, 1, "a")] and list(with_ends([], 3.0)) == []


def test_sound_of_a_stream_begins_as_much_earlier_as_its_encoder_is_late(tmp_path):
    encoder, layout = opus_encoder(24), Layout.plain(6)
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="flt", layout="mono")
    silence.sample_rate, silence.pts = 48_000, 0
    packets = tuple(bytes(packet) for packet in (*encoder.encode(silence), *encoder.encode(None)))
    data, mime = code_picture(np.zeros((16, 16, 3), np.uint8))
    header = Header(layout, (25, 1), (16, 16), profile="generic", version=EXTENDED)
    with (tmp_path / "a.kcm").open("wb") as file:
        write_stream(file, header, data, mime, [SoundUnit(3, packets)])
    for start in (0.0, 0.5):
        source = stream_sound(tmp_path / "a.kcm", start)
        assert source is not None
        first = next(source.packets())[0]
        assert first.pts * first.time_base == (3 * 960 - 312) / Fraction(48_000) - Fraction(start)


def test_lost_times_do_not_end_a_film(varied, tmp_path):
    encode_clip(MODEL, varied, tmp_path / "a.kcm", EncodeOptions(model_name="tiny"))
    data = bytearray((tmp_path / "a.kcm").read_bytes())
    with (tmp_path / "a.kcm").open("rb") as file:
        times = next(bytes(unit) for unit in StreamReader(file).units() if bytes(unit)[:1] == b"T")
    data[data.index(times) + 5] ^= 0xFF
    (tmp_path / "b.kcm").write_bytes(data)
    with pytest.warns(KinecastWarning, match=f"{len(times)} damaged bytes were skipped, 0 frames concealed"):
        assert decode_clip(MODEL, tmp_path / "b.kcm", tmp_path / "out.mp4")["frames"] == len(TIMES)
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(END, abs=0.02)


@pytest.mark.parametrize("suffix, codec", [(".mp4", "opus"), (".mov", "aac"), (".webm", "opus"), (".mkv", "opus")])
def test_sound_through_a_stream(varied, tmp_path, suffix, codec):
    report = encode_clip(MODEL, varied, tmp_path / "a.kcm", EncodeOptions(model_name="tiny", sound_kbps=24))
    assert 2 < report["sound_kbps"] < 30
    sizes = [report[f"{part}_bytes"] for part in ("header", "picture", "payload", "overhead", "times", "sound")]
    assert sum(sizes) == (tmp_path / "a.kcm").stat().st_size
    decode_clip(MODEL, tmp_path / "a.kcm", tmp_path / f"out{suffix}")
    found = tmp_path / f"out{suffix}"
    assert sound_codec(found) == codec
    assert abs(beep_of(found) - _start(found) - 1.8) < 0.04
    assert abs(np.subtract(*lengths_of(found))) < 0.04
    decode_clip(MODEL, tmp_path / "a.kcm", tmp_path / "silent.mp4", sound=False)
    assert sound_codec(tmp_path / "silent.mp4") is None


def _start(path):
    import av

    with av.open(str(path)) as container:
        return float(next(container.decode(video=0)).time)


def test_sound_through_a_stream_of_a_constant_rate_ends_with_it(tmp_path):
    clip = write_timed(tmp_path / "in.mkv", np.arange(50) / 25, 2.0, 0.8, "flac")
    encode_clip(MODEL, clip, tmp_path / "a.kcm", EncodeOptions(model_name="tiny", sound_kbps=16, limit=30))
    decode_clip(MODEL, tmp_path / "a.kcm", tmp_path / "out.mp4")
    video, audio = lengths_of(tmp_path / "out.mp4")
    assert video == pytest.approx(1.2, abs=0.001) and abs(audio - video) < 0.04
    assert abs(beep_of(tmp_path / "out.mp4") - 0.8) < 0.04


def test_silent_clips_say_that_there_is_no_sound_to_send(clip, tmp_path):
    with pytest.warns(KinecastWarning, match="it has no sound to send"):
        report = encode_clip(MODEL, clip, tmp_path / "a.kcm", EncodeOptions(sound_kbps=24))
    assert report["sound_bytes"] == 0
    with pytest.raises(KinecastError, match="sound: expected 6 to 96 kbps, found 500"):
        EncodeOptions(sound_kbps=500)


def test_motion_alone_is_shown_at_its_times(varied, tmp_path):
    extract(MODEL, varied).save(tmp_path / "m.npz")
    motion = Motion.load(tmp_path / "m.npz")
    animate_motion(MODEL, varied, motion, tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == pytest.approx(TIMES, abs=1e-4)
    animate_motion(MODEL, varied, motion, tmp_path / "ten.mp4", AnimateOptions(mode="transfer", fps=10))
    assert (probe(tmp_path / "ten.mp4").fps, probe(tmp_path / "ten.mp4").frames) == (10, 30)
    encode_clip(MODEL, varied, tmp_path / "a.kcm", EncodeOptions(model_name="tiny"))
    _, decoded = read_motion(MODEL, tmp_path / "a.kcm")
    assert decoded.times is not None and decoded.end == pytest.approx(END)
    assert decoded.times.numpy() == pytest.approx(TIMES, abs=1e-3)


def test_the_delays_of_a_gif(tmp_path):
    pictures = [Image.fromarray(frame) for frame in draw_frames(5)]
    pictures[0].save(
        tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[50, 50, 1000, 50, 700], loop=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        animate_clip(MODEL, None, tmp_path / "a.gif", tmp_path / "out.mp4")
    assert times_of(tmp_path / "out.mp4") == pytest.approx([0, 0.05, 0.1, 1.1, 1.15], abs=1e-3)
    assert probe(tmp_path / "out.mp4").duration == pytest.approx(1.85, abs=1e-3)


def test_flash_of_is_what_it_says(varied):
    assert flash_of(varied) == pytest.approx(1.8, abs=0.001)
