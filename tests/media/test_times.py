"""When frames are shown: their own times, whatever the header says."""

import numpy as np
import pytest
from PIL import Image

from helpers import draw_frames, make_clip
from kinecast.media.times import measured, repaired
from kinecast.media.video import DEFAULT_FPS, Strip, probe, read_frames, timed_batches, timed_frames
from media_files import encode, yuv


def clip_at(path, times, rate=25.0, **options):
    """Write a clip whose frames are shown at `times`, in milliseconds."""
    frames = [yuv(frame) for frame in draw_frames(len(times), (32, 32))]
    codec = "libvpx" if path.suffix == ".webm" else "libx264"
    return encode(path, frames, codec, rate=rate, times=times, options=options)


def times_of(path):
    return [time for time, _ in timed_frames(path)]


BROWSER = [0, 31, 70, 101, 128, 171, 199, 236, 262, 305, 331, 365, 402]
PHONE = [*range(0, 400, 33), *range(400, 1001, 100)]


@pytest.mark.parametrize("suffix", [".webm", ".mkv", ".mp4"])
@pytest.mark.parametrize("times", [BROWSER, PHONE], ids=["browser", "phone"])
def test_frames_come_at_their_own_times(tmp_path, suffix, times):
    path = clip_at(tmp_path / f"a{suffix}", times, rate=1000)
    assert times_of(path) == pytest.approx(np.array(times) / 1000, abs=1e-6)
    info = probe(path)
    assert not info.constant_rate
    assert info.duration == pytest.approx(times[-1] / 1000, abs=0.11)
    assert info.duration and info.fps == pytest.approx(len(times) / info.duration)


def test_a_header_that_claims_the_ticks_of_its_clock_is_not_believed(tmp_path):
    path = clip_at(tmp_path / "a.webm", [round(1000 * i / 30) for i in range(40)], rate=1000)
    info = probe(path)
    assert info.constant_rate
    assert info.fps == pytest.approx(30, rel=2e-3)
    assert info.duration == pytest.approx(40 / 30, rel=2e-3)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
def test_a_constant_rate_is_told(tmp_path, suffix):
    path = make_clip(tmp_path / f"a{suffix}", frames=30, fps=30000 / 1001)
    info = probe(path)
    assert info.constant_rate and info.fps == pytest.approx(30000 / 1001, rel=1e-3)
    assert info.duration == pytest.approx(30 * 1001 / 30000, abs=2e-3)
    assert times_of(path) == pytest.approx(np.arange(30) * 1001 / 30000, abs=2e-3)


def test_avi_with_frames_out_of_order(tmp_path):
    # libav guesses the times of avi's packets from their order in the file, which is not that of being shown.
    frames = [yuv(frame) for frame in draw_frames(20, (32, 32))]
    path = encode(tmp_path / "a.avi", frames, rate=50, options={"bf": "2", "b-pyramid": "none"})
    assert times_of(path) == pytest.approx(np.arange(20) / 50)
    assert (probe(path).constant_rate, probe(path).fps, probe(path).duration) == (True, 50, pytest.approx(0.4))


def test_a_stream_without_times(tmp_path):
    path = encode(tmp_path / "a.h264", [yuv(frame) for frame in draw_frames(10, (32, 32))])
    assert times_of(path) == pytest.approx(np.arange(10) / 25)
    assert probe(path).duration == pytest.approx(0.4)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".avif"])
def test_delays_of_animated_pictures(tmp_path, suffix):
    colours = [(40 * i, 100, 250 - 40 * i) for i in range(6)]
    pictures = [Image.new("RGB", (16, 24), colour) for colour in colours]
    delays = [50, 50, 200, 50, 50, 400]
    path = tmp_path / f"a{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=delays)
    shown = list(timed_frames(path, crop="none"))
    assert [time for time, _ in shown] == pytest.approx([0, 0.05, 0.1, 0.3, 0.35, 0.4])
    for (_, frame), colour in zip(shown, colours, strict=True):
        assert frame.shape == (24, 16, 3)
        assert np.abs(frame[8, 8].astype(int) - colour).max() <= 4
    info = probe(path)
    assert (info.constant_rate, info.duration, info.fps) == (False, pytest.approx(0.8), pytest.approx(7.5))
    assert info.frames == 6


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_delays_too_short_to_be_meant_are_those_of_browsers(tmp_path, suffix):
    pictures = [Image.new("RGB", (16, 16), (60 * i, 0, 0)) for i in range(4)]
    path = tmp_path / f"a{suffix}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=[10, 20, 10, 50])
    assert times_of(path) == pytest.approx([0, 0.1, 0.12, 0.22])
    assert probe(path).duration == pytest.approx(0.27)


def test_delays_of_a_gif_that_are_none_are_a_tenth_of_a_second(tmp_path):
    """As browsers have it, 10 milliseconds are none either."""
    pictures = [Image.new("RGB", (16, 16), (50 * i, 0, 0)) for i in range(6)]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=[50, 10, 20, 0, 50, 10])
    assert times_of(tmp_path / "a.gif") == pytest.approx([0, 0.05, 0.15, 0.17, 0.27, 0.32])
    assert probe(tmp_path / "a.gif").duration == pytest.approx(0.42)


def test_a_default_picture_is_no_frame_of_an_animated_png(tmp_path):
    pictures = [Image.new("RGB", (16, 16), (50 * i, 0, 0)) for i in range(4)]
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], duration=40, default_image=True)
    assert [frame[0, 0, 0] for frame in read_frames(tmp_path / "a.png")] == [50, 100, 150]


def test_pictures_and_strips_have_the_default_rate(tmp_path):
    Image.fromarray(np.concatenate(list(draw_frames(3, (16, 16))), axis=1)).save(tmp_path / "strip.png")
    strip = Strip(tmp_path / "strip.png")
    assert times_of(strip) == pytest.approx(np.arange(3) / DEFAULT_FPS)
    info = probe(strip)
    assert (info.fps, info.constant_rate, info.duration, info.frames) == (DEFAULT_FPS, True, 3 / DEFAULT_FPS, 3)
    assert probe(tmp_path / "strip.png").duration == 1 / DEFAULT_FPS


def test_batches_have_the_times_of_their_frames(tmp_path):
    path = clip_at(tmp_path / "a.mp4", BROWSER)
    batches = list(timed_batches(path, 32, batch=5, limit=12))
    assert [len(times) for times, _ in batches] == [len(frames) for _, frames in batches] == [5, 5, 2]
    assert batches[0][0].dtype == np.float64
    assert np.concatenate([times for times, _ in batches]) == pytest.approx(np.array(BROWSER[:12]) / 1000)


@pytest.mark.parametrize(
    "given, shown",
    [
        ([5.0, 5.1, 5.3], [0, 0.1, 0.3]),
        ([None, None, None], [0, 0.04, 0.08]),
        ([None, 9.0, 9.1], [0, 0.04, 0.14]),
        ([0.0, 0.1, None, 0.3], [0, 0.1, 0.2, 0.3]),
        ([0.0, 0.1, 0.1, 0.35], [0, 0.1, 0.2, 0.35]),
        ([7.0, 7.1, 0.0, 0.1], [0, 0.1, 0.2, 0.3]),  # the clock starts anew
    ],
    ids=["shifted", "none", "first-missing", "one-missing", "one-twice", "restarted"],
)
def test_times_are_repaired(given, shown):
    found = list(repaired(((time, index) for index, time in enumerate(given)), 25))
    assert [time for time, _ in found] == pytest.approx(shown)
    assert [item for _, item in found] == list(range(len(given)))


def test_a_last_frame_that_is_held_is_not_a_constant_rate():
    times = np.arange(10) * 0.05
    assert measured(times, 20, 0.01, 0.05) == (20, True, pytest.approx(0.5))
    fps, constant, duration = measured(times, 20, 0.01, 1.0)
    assert (constant, duration, fps) == (False, pytest.approx(1.45), pytest.approx(10 / 1.45))


def test_one_frame_has_a_rate_too():
    assert measured(np.zeros(1), 1000, 0.001) == (DEFAULT_FPS, True, 1 / DEFAULT_FPS)
    assert measured(np.zeros(1), 30, 1 / 15360) == (30, True, 1 / 30)
