import os
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from helpers import draw_frames
from kinecast.errors import KinecastError
from kinecast.media.video import VideoWriter, probe, read_frames, to_tensor


def read(path: Path) -> np.ndarray:
    return np.stack(list(read_frames(path, crop="none")))


@pytest.mark.parametrize("suffix, tolerance", [(".mp4", 4), (".mov", 4), (".mkv", 4), (".webm", 5), (".gif", 3)])
def test_frames_come_back(tmp_path, suffix, tolerance):
    drawn = draw_frames(10, (48, 64))
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, 25, size=(48, 64)) as writer:
        writer.write(to_tensor(drawn[:4]))
        writer.write(drawn[4])
        writer.write(drawn[5:])
        assert writer.frames_written == 10
    found = read(path)
    assert found.shape == drawn.shape
    assert np.abs(found.astype(int) - drawn).mean() < tolerance
    assert probe(path).fps == 25
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "fps, kept",
    [(30, Fraction(30)), (30000 / 1001, Fraction(30000, 1001)), (29.97, Fraction(2997, 100)), (Fraction(5, 2), 2.5)],
)
def test_frame_rate_is_exact(tmp_path, fps, kept):
    with VideoWriter(tmp_path / "a.mp4", fps) as writer:
        writer.write(draw_frames(4, (16, 16)))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].average_rate == kept


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_odd_sizes_repeat_their_edge(tmp_path, suffix):
    drawn = draw_frames(2, (33, 47))
    with VideoWriter(tmp_path / f"a{suffix}", 25, quality=5) as writer:
        writer.write(drawn)
    found = read(tmp_path / f"a{suffix}").astype(int)
    assert found.shape == (2, 34, 48, 3)
    assert np.abs(found - np.pad(drawn, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")).mean() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_quality_decides_size(tmp_path, suffix):
    sizes = []
    for quality in (5, 20, 40):
        with VideoWriter(tmp_path / f"a{suffix}", 25, quality=quality) as writer:
            writer.write(draw_frames(6))
        sizes.append((tmp_path / f"a{suffix}").stat().st_size)
    assert sizes[0] > 1.2 * sizes[1] > 1.4 * sizes[2]


def test_index_comes_first_and_colours_are_tagged(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(draw_frames(2))
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_range) == (6, 6, 1)


def test_floats_outside_the_range_are_clipped(tmp_path):
    with VideoWriter(tmp_path / "a.gif", 25) as writer:
        writer.write(torch.full((1, 3, 8, 8), 1.5))
        writer.write(torch.full((1, 3, 8, 8), -0.5, dtype=torch.bfloat16))
    found = read(tmp_path / "a.gif")
    assert (found[0] == 255).all() and (found[1] == 0).all()


@pytest.mark.parametrize("timed", [False, True], ids=["at a rate", "at times"])
@pytest.mark.parametrize("fps, shown", [(50, 60), (60, 40), (100, 30)])
def test_a_gif_has_no_delay_that_players_take_for_none(tmp_path, fps, shown, timed):
    edges = np.arange(61) / fps
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with VideoWriter(tmp_path / "a.gif", fps) as writer:
            for start in (0, 30):
                part = slice(start, start + 30)
                writer.write(draw_frames(60, (16, 16))[part], edges[start : start + 31] if timed else None)
    image: Any = Image.open(tmp_path / "a.gif")
    with image:
        delays = []
        for index in range(image.n_frames):
            image.seek(index)
            delays.append(image.info["duration"])
    assert len(delays) == pytest.approx(shown, abs=1) and min(delays) >= 20
    assert sum(delays) == pytest.approx(60 / fps * 1000, abs=20)
    expected = [] if shown == 60 else [f"{tmp_path / 'a.gif'}: a gif shows at most 50 frames per second: "]
    assert [str(warning.message)[: len(text)] for warning, text in zip(said, expected, strict=True)] == expected


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("frames", [0, 5])
def test_interrupted_writing_leaves_nothing(tmp_path, suffix, error, frames):
    with pytest.raises(error, match="now"), VideoWriter(tmp_path / f"a{suffix}", 25) as writer:
        for frame in draw_frames(frames):
            writer.write(frame)
        raise error("now")
    assert os.listdir(tmp_path) == []


def test_interrupted_writing_leaves_the_old_file(tmp_path):
    (tmp_path / "a.mp4").write_text("the old one")
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(draw_frames(3))
        raise KeyboardInterrupt
    assert (tmp_path / "a.mp4").read_text() == "the old one"
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_no_frames_no_file(tmp_path):
    with pytest.raises(KinecastError) as error, VideoWriter(tmp_path / "a.mp4", 25):
        pass
    assert str(error.value) == f"{tmp_path}/a.mp4: expected at least one frame to write, found none: check the input"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name, options, message",
    [
        (
            "a.txt",
            {},
            "a.txt: expected a clip name ending in .mp4, .mov, .mkv, .webm, .gif, found '.txt': rename the output",
        ),
        ("a", {}, "a: expected a clip name ending in .mp4, .mov, .mkv, .webm, .gif, found none: rename the output"),
        ("a.mp4", {"fps": 0}, "fps: expected a number above 0, found 0"),
        ("a.mp4", {"fps": float("nan")}, "fps: expected a number above 0, found nan"),
        ("a.mp4", {"fps": float("inf")}, "fps: expected a number above 0, found inf"),
        ("a.mp4", {"quality": 52}, "quality: expected 0 (best) to 51 (smallest file), found 52"),
    ],
)
def test_foreign_arguments(name, options, message):
    with pytest.raises(KinecastError) as error:
        VideoWriter(name, **({"fps": 25} | options))
    assert str(error.value) == message


def test_frames_of_another_size_or_kind(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(KinecastError) as error, VideoWriter(path, 25, size=(64, 48)) as writer:
        writer.write(draw_frames(1, (48, 64)))
    assert str(error.value) == (f"{path}: expected frames of 48x64 (width x height), found 64x48: resize them")
    with pytest.raises(KinecastError) as error, VideoWriter(path, 25) as writer:
        writer.write(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert str(error.value) == (
        "frames: expected a floating-point tensor (B, 3, H, W) in [0, 1] or a uint8 array (H, W, 3), "
        "found uint8 (1, 3, 8, 8): convert them"
    )
    assert os.listdir(tmp_path) == []


def test_unwritable_output_is_found_before_the_first_frame(tmp_path):
    path = tmp_path / "nowhere" / "a.mp4"
    with pytest.raises(KinecastError) as error, VideoWriter(path, 25):
        pytest.fail("the block must not run")
    assert str(error.value) == (
        f"cannot write {path}: No such file or directory: choose a folder that exists, is writable and has free space"
    )
