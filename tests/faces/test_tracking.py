"""One face through a clip: as mediapipe follows it, lost and found again, chosen among several; the One Euro filter."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from faces.golden import clip, pictures
from kinecast.errors import KinecastError
from kinecast.faces import Face, Landmarker, OneEuro, Tracker, choose, face_choice

GOLDEN = Path(__file__).parents[1] / "golden" / "face_landmarker.npz"


@pytest.fixture(scope="module")
def landmarker():
    return Landmarker("cpu", "eager")


def seen(tracker, frame) -> Face:
    face = tracker(frame)
    assert face is not None
    return face


def test_a_smoothed_clip_is_what_mediapipe_makes_of_it(landmarker):
    golden = np.load(GOLDEN)["clip_landmarks"]
    tracker = Tracker(landmarker, smoothing=OneEuro(fps=25))
    for frame, landmarks in zip(clip(), golden, strict=True):
        face = seen(tracker, frame)
        apart = np.linalg.norm((face.landmarks - landmarks)[:, :2], axis=1)
        assert apart.mean() < 0.1 and apart.max() < 0.5


def test_a_clip_is_followed_without_detecting_again(landmarker, monkeypatch):
    tracker, frames = Tracker(landmarker), clip()
    faces = [seen(tracker, frames[0])]
    monkeypatch.setattr(landmarker, "find", None)
    faces += [seen(tracker, frame) for frame in frames[1:]]
    for before, after in pairwise(faces):
        moved = (after.landmarks - before.landmarks)[:, :2].mean(axis=0)
        assert np.abs(moved - (-6, -8)).max() < 1.0


def test_a_face_that_went_is_found_when_it_comes_again(landmarker):
    here = pictures()["one"]
    there = np.roll(here, 40, axis=1)
    nothing = np.full_like(here, 90)
    tracker = Tracker(landmarker, smoothing=OneEuro())
    faces = list(tracker.follow([here, nothing, nothing, there, here]))
    assert [face is not None for face in faces] == [True, False, False, True, True]
    (alone,) = landmarker.detect(there)
    assert faces[3] is not None
    assert np.abs(faces[3].landmarks - alone.landmarks).max() < 0.01  # and not smoothed into what was before


def test_a_face_that_jumps_is_found_in_the_same_frame(landmarker):
    frames = np.zeros((2, 256, 512, 3), np.uint8)
    frames[0, :, :256] = frames[1, :, 256:] = pictures()["one"]
    tracker = Tracker(landmarker)
    before, after = (seen(tracker, frame) for frame in frames)
    assert abs((after.landmarks - before.landmarks)[:, 0].mean() - 256) < 3


def test_the_face_meant_is_followed(landmarker):
    two = pictures()["two"]
    left, right = seen(Tracker(landmarker, 1), two), seen(Tracker(landmarker, "2"), two)
    assert left.centre[0] < 128 < right.centre[0]
    assert Tracker(landmarker, 3)(two) is None
    faces = landmarker.detect(two)
    assert choose(faces, "largest", left) is choose(faces, "nearest") is faces[0]
    for last in (left, right):
        for which in ("nearest", 1):
            chosen = choose(faces, which, last)
            assert chosen is not None and np.abs(chosen.centre - last.centre).max() < 1


@pytest.mark.parametrize("which", ["tallest", 0, -1, "1.5", ""])
def test_what_names_no_face_is_refused(which, landmarker):
    with pytest.raises(KinecastError, match="expected largest, nearest, or a number from 1"):
        Tracker(landmarker, which)
    assert face_choice("2") == 2


def test_smoothing_holds_trembling_still_and_follows_a_jump():
    random = np.random.default_rng(0)
    face = random.random((478, 3)) * 100
    filtered, trembling = OneEuro(fps=30), face + random.normal(0, 0.2, (60, 478, 3))
    smooth = np.stack([filtered(points) for points in trembling])
    assert np.abs(np.diff(smooth[20:], axis=0)).mean() < 0.25 * np.abs(np.diff(trembling[20:], axis=0)).mean()
    after = [filtered(face + 50) for _ in range(3)][-1]
    assert np.abs(after - face - 50).mean() < 1.0
    filtered.reset()
    assert np.array_equal(filtered(face), face)
