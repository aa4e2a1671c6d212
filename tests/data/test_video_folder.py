"""Folders of clips: who is in them, the frame cache, and the pairs that training sees."""

import os

import numpy as np
import pytest
import torch

from helpers import draw_frames, make_clip, write_clip
from kinecast.data.video_folder import (
    CachedClip,
    PairSampler,
    cached_frames,
    cached_points,
    list_clips,
    load_clip,
    on_device,
    person_of,
)
from kinecast.errors import KinecastError
from kinecast.media.video import read_frames


@pytest.mark.parametrize(
    "clip, pattern, person",
    [
        ("id10291_abc_1", None, "id10291"),
        ("id10291", None, "id10291"),
        ("portrait_7", None, "portrait_7"),
        ("anna-1", r"^(\w+)-", "anna"),
        ("anna-1", r"^[a-z]+", "anna"),
        ("anna-1", r"^(?:[a-z])+(-)(\d)", "-"),
        ("7", r"^[a-z]+", "7"),
    ],
)
def test_persons_by_name(clip, pattern, person):
    assert (person_of(clip, pattern) if pattern else person_of(clip)) == person


def test_clips_are_listed_by_folder_in_order(tmp_path):
    for name in ("b/2.mp4", "b/1.MOV", "a/9.webm", "a/notes.txt", "a/.2.mp4", "a/deep/1.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list_clips([tmp_path / "b", str(tmp_path / "a")])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/1.MOV", "b/2.mp4", "a/9.webm"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("gone", "expected a folder of clips, found none there: check the path"),
        ("a.mp4", "expected a folder of clips, found none there: check the path"),
        ("empty", "expected clips (.avi, .gif, .mkv, .mov, .mp4, .webm), found none in it"),
    ],
)
def test_folders_without_clips(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.mp4").touch()
    with pytest.raises(KinecastError) as error:
        list_clips([tmp_path / name])
    assert str(error.value) == f"{tmp_path / name}: {message}"


def test_clips_are_decoded_once(tmp_path):
    path, cache = make_clip(tmp_path / "id7_a.mp4", frames=5), tmp_path / "cache"
    clip = load_clip(path, (32, 48), "center", cache, r"^(id\d+)_")
    assert (clip.name, clip.person) == ("id7_a", "id7")
    assert clip.frames.dtype == np.uint8
    assert np.array_equal(clip.frames, np.stack(list(read_frames(path, (32, 48)))))
    [file] = cache.iterdir()
    time = file.stat().st_mtime_ns
    again = load_clip(path, (32, 48), "center", cache, r"^(id\d+)_")
    assert file.stat().st_mtime_ns == time
    assert np.array_equal(again.frames, clip.frames)


def test_points_that_others_have_found_are_taken(tmp_path):
    path = make_clip(tmp_path / "a.mp4", frames=5)
    found = cached_points(cached_frames(path, (32, 48), "center", tmp_path, 2))
    np.save(found, np.arange(9, dtype=np.float32).reshape(3, 1, 3))

    def find(frames):
        raise AssertionError("they are there")

    points = load_clip(path, (32, 48), "center", tmp_path, "x", 2, find).points
    assert points is not None and points[:, 0, 0].tolist() == [0, 3, 6]


@pytest.mark.parametrize("change", ["size", "crop", "content"])
def test_another_framing_or_content_is_decoded_anew(tmp_path, change):
    path = make_clip(tmp_path / "a.mp4", frames=3, size=(64, 96))
    size, crop = (32, 32), "center"
    before = load_clip(path, size, crop, tmp_path / "cache", "x").frames
    if change == "size":
        size = (16, 32)
    elif change == "crop":
        crop = "none"
    else:
        write_clip(path, draw_frames(4, (64, 96)))
        os.utime(path, ns=(1, 1))
    after = load_clip(path, size, crop, tmp_path / "cache", "x").frames
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert after.shape == {"size": (3, 16, 32, 3), "crop": (3, 32, 32, 3), "content": (4, 32, 32, 3)}[change]
    assert before.shape != after.shape or not np.array_equal(before, after)


def coded_clip(name: str, person: str, number: int, frames: int) -> CachedClip:
    """A clip whose pixels say which clip and frame they are of: red is the clip, green the frame."""
    pixels = np.zeros((frames, 4, 4, 3), np.uint8)
    pixels[..., 0] = number
    pixels[..., 1] = np.arange(frames)[:, None, None]
    return CachedClip(name, person, pixels)


CLIPS = [
    coded_clip("id1_a", "id1", 1, 90),
    coded_clip("id1_b", "id1", 2, 10),
    coded_clip("id2_a", "id2", 3, 4),
    coded_clip("id3_a", "id3", 4, 1),  # no pair in it
]


def numbers(frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    levels = (frames[:, :2, 0, 0] * 255).round().int().numpy()
    return levels[:, 0], levels[:, 1]


def test_pairs_are_two_frames_of_one_clip():
    source, driving = on_device(PairSampler(CLIPS, seed=0).pairs(0, 300).frames, "cpu")
    assert source.shape == driving.shape == (300, 3, 4, 4)
    assert source.dtype == torch.float32 and source.max() <= 1
    (clips, frames), (same, others) = numbers(source), numbers(driving)
    assert np.array_equal(clips, same)
    assert set(clips) == {1, 2, 3}, "clips of one frame are left out"
    assert (frames != others).all()
    assert (frames > others).any() and (frames < others).any()
    assert set(frames[clips == 3]) == {0, 1, 2, 3}


def test_a_step_is_the_same_in_every_run():
    first, second = PairSampler(CLIPS, seed=5), PairSampler(CLIPS, seed=5)
    second.pairs(0, 8)  # what was drawn before does not matter
    assert np.array_equal(first.pairs(3, 8).frames, second.pairs(3, 8).frames)
    assert not np.array_equal(first.pairs(3, 8).frames, first.pairs(4, 8).frames)
    assert not np.array_equal(first.pairs(3, 8).frames, PairSampler(CLIPS, seed=6).pairs(3, 8).frames)


@pytest.mark.parametrize("balance, share", [(1.0, 100 / 104), (0.5, 10 / 12), (0.0, 0.5)])
def test_balance_weighs_persons_by_their_frames(balance, share):
    pairs = PairSampler(CLIPS, seed=0, balance=balance).pairs(0, 2000).frames
    clips = pairs[:, 0, 0, 0, 0]
    assert np.isin(clips, (1, 2)).mean() == pytest.approx(share, abs=0.04)
    assert (clips == 1).sum() / np.isin(clips, (1, 2)).sum() == pytest.approx(
        0.9, abs=0.04
    )  # by length within a person


def test_nothing_to_draw_from():
    with pytest.raises(KinecastError) as error:
        PairSampler(CLIPS[3:], seed=0)
    assert str(error.value) == "training data: expected clips of at least 2 frames, found none: add longer clips"
