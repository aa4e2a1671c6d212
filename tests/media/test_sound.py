"""Sound beside pictures: kept, in sync, cut with them, and never in their way."""

import warnings
from fractions import Fraction

import av
import numpy as np
import pytest

from clips_with_sound import beep_of, flash_of, lengths_of, sound_codec, write_timed
from helpers import draw_frames
from kinecast.errors import KinecastWarning
from kinecast.media.sound import PacketQueue, clip_sound
from kinecast.media.video import VideoWriter

SYNC = 0.040  # seconds that a flash and its beep may be apart
TIMES = np.arange(50) / 25


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two seconds, the flash and the beep at 1.2 s."""
    folder = tmp_path_factory.mktemp("sounds")
    codecs = {"a.mp4": "aac", "mp3.mp4": "libmp3lame", "b.webm": "libopus", "c.mkv": "flac", "d.mov": "pcm_s16le"}
    codecs |= {"e.avi": "libmp3lame", "f.ts": "aac", "g.asf": "wmav2"}
    return {name: write_timed(folder / name, TIMES, 2.0, 1.2, codec) for name, codec in codecs.items()}


def copy(clip, path, frames=50, edges=None, fps=25):
    """Write frames that turn white at 1.2 s, with the sound of a clip."""
    pictures = np.full((frames, 16, 16, 3), 30, np.uint8)
    begins = np.arange(frames) / fps if edges is None else edges[:-1]
    pictures[begins >= 1.2 - 1e-6] = 225
    with VideoWriter(path, fps, sound=clip_sound(clip)) as writer:
        for start in range(0, frames, 8):
            part = slice(start, start + 8)
            writer.write(pictures[part], None if edges is None else edges[start : start + 9])
    return path


@pytest.mark.parametrize(
    ("name", "suffix", "codec"),
    [
        ("a.mp4", ".mp4", "aac"),
        ("a.mp4", ".mov", "aac"),
        ("a.mp4", ".mkv", "aac"),
        ("a.mp4", ".webm", "opus"),
        ("mp3.mp4", ".mp4", "mp3"),
        ("b.webm", ".webm", "opus"),
        ("b.webm", ".mp4", "opus"),
        ("b.webm", ".mov", "aac"),
        ("c.mkv", ".webm", "opus"),
        ("c.mkv", ".mp4", "flac"),
        ("d.mov", ".mov", "pcm_s16le"),
        ("d.mov", ".mp4", "aac"),
        ("e.avi", ".mp4", "mp3"),
        ("f.ts", ".mp4", "aac"),
        ("f.ts", ".mkv", "aac"),
        ("g.asf", ".mp4", "aac"),
        ("g.asf", ".webm", "opus"),
    ],
)
def test_sound_is_kept_in_sync(clips, tmp_path, name, suffix, codec):
    found = copy(clips[name], tmp_path / f"out{suffix}")
    assert sound_codec(found) == codec
    given = beep_of(clips[name]) - flash_of(clips[name])  # WMA does not say by how much its encoder is late
    assert abs(beep_of(found) - flash_of(found) - given) < SYNC
    video, audio = lengths_of(found)
    assert abs(audio - video) < SYNC


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_ends_with_the_pictures(clips, tmp_path, suffix):
    found = copy(clips["a.mp4"], tmp_path / f"out{suffix}", frames=35)  # 1.4 of 2 s
    video, audio = lengths_of(found)
    assert video == pytest.approx(1.4, abs=0.02) and abs(audio - video) < SYNC
    assert abs(beep_of(found) - flash_of(found)) < SYNC


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
@pytest.mark.parametrize("begins", [0.5, -0.7])
def test_sound_that_begins_later_or_earlier_stays_where_it_is(tmp_path, suffix, begins):
    shift = max(-begins, 0)
    clip = write_timed(
        tmp_path / "in.mkv",
        TIMES + shift,
        2 + shift,
        1.2 + shift,
        "aac",
        sound_from=begins + shift,
        sound_until=2 + shift,
    )
    found = copy(clip, tmp_path / f"out{suffix}")
    assert abs(beep_of(found) - flash_of(found)) < SYNC
    assert abs(np.subtract(*lengths_of(found))) < SYNC


def test_frames_with_times_and_sound(clips, tmp_path):
    edges = np.array([0, 0.1, 0.5, 1.2, 1.3, 1.9])
    found = copy(clips["a.mp4"], tmp_path / "out.mp4", frames=5, edges=edges)
    assert abs(beep_of(found) - flash_of(found)) < SYNC
    video, audio = lengths_of(found)
    assert video == pytest.approx(1.9, abs=0.001) and abs(audio - video) < SYNC


def test_a_gif_has_no_sound_and_says_so(clips, tmp_path):
    with pytest.warns(KinecastWarning, match="gif has no sound: it is omitted"):
        copy(clips["a.mp4"], tmp_path / "out.gif", frames=4)


def test_clips_without_sound_are_silent(clip, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert clip_sound(clip) is None and clip_sound(tmp_path) is None
        copy(clip, tmp_path / "out.mp4", frames=4)


def test_pictures_have_no_sound(tmp_path):
    from PIL import Image

    Image.fromarray(draw_frames(1)[0]).save(tmp_path / "a.png")
    assert clip_sound(tmp_path / "a.png") is None


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
@pytest.mark.parametrize("spoiled_from", [-1.0, 1.0])
def test_damaged_sound_does_not_end_the_pictures(tmp_path, suffix, spoiled_from):
    clip = write_timed(tmp_path / "in.mkv", TIMES, 2.0, 1.2, "aac", spoiled_from=spoiled_from)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = copy(clip, tmp_path / f"out{suffix}")
    assert lengths_of(found)[0] == pytest.approx(2.0, abs=0.01)
    lines = [str(each.message) for each in caught]
    assert not any("\n" in line for line in lines)
    if spoiled_from < 0:
        assert sound_codec(found) is None
        assert lines == [f"{clip}: its sound (aac) cannot be decoded: it is omitted"]
    else:
        assert lines == [f"{clip}: its sound is damaged at 1.0 s: what cannot be decoded is omitted"]
        assert sound_codec(found) == ("opus" if suffix == ".webm" else "aac")


def test_packets_that_break_off_end_the_sound_with_a_line():
    def packets():
        for number in range(3):
            packet = av.Packet(b"sound")
            packet.pts = packet.dts = number
            packet.time_base, packet.duration = Fraction(1, 10), 1
            yield packet
        raise ValueError("a packet has no time")

    queue = PacketQueue(packets(), "clip.ts")
    assert [packet.pts for packet in queue.until(0.2)] == [0, 1]
    with pytest.warns(KinecastWarning, match="clip.ts: its sound is damaged and ends at 9.0 s or before: a packet has"):
        assert [packet.pts for packet in queue.until(9.0)] == [2]
    assert list(queue.until(99.0)) == []
