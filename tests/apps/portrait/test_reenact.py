"""A clip as source: each of its frames is animated, on top of its own movement."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import kinecast
from faces_in_motion import face_frames
from helpers import draw_frames, write_clip
from kinecast import KinecastError
from kinecast.media.pictures import to_uint8
from kinecast.media.video import read_frames
from kinecast.motion import Motion


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames (256, 320): the head leans back and forth, and in the third there is none."""
    frames = np.full((6, 256, 320, 3), 120, np.uint8)
    frames[:, :, :256] = to_uint8(face_frames(4))[[3, 2, 1, 0, 1, 2]]
    frames[2] = 120
    return write_clip(tmp_path_factory.mktemp("source") / "source.mp4", frames)


def still(model, frames: int) -> Motion:
    motion = model.detect(face_frames(1))
    return replace(motion[torch.zeros(frames, dtype=torch.long)], fps=25.0)


def test_motion_that_stands_still_leaves_the_clip_as_it_is(model, source):
    """The source's own movement stays: pictures differ by what a random network draws, not by pose."""
    frames = list(kinecast.animate(source, still(model, 6), model=model, reenact=True))
    given = list(read_frames(source, crop="none"))
    assert len(frames) == 6 and np.array_equal(frames[2], given[2])
    assert all(np.array_equal(a[:, 290:], b[:, 290:]) for a, b in zip(frames, given, strict=True))
    assert not np.array_equal(frames[0], given[0])


def test_it_ends_with_the_shorter(model, source, tmp_path):
    report = kinecast.animate(source, still(model, 2), tmp_path / "out.mp4", model=model, reenact=True)
    assert report.frames == 2 == len(list(read_frames(tmp_path / "out.mp4")))
    assert kinecast.animate(source, still(model, 9), tmp_path / "o.mp4", model=model, reenact=True, limit=1).frames == 1


def test_motion_of_another_rate_keeps_its_time(model, source):
    motion = model.detect(face_frames(4))
    slow = replace(motion, fps=12.5)
    frames = list(kinecast.animate(source, slow, model=model, reenact=True))
    fast = list(kinecast.animate(source, replace(motion, fps=25.0), model=model, reenact=True))
    assert len(frames) == 6 and len(fast) == 4
    assert np.array_equal(frames[0], fast[0]) and not np.array_equal(frames[3], fast[3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 64}, "reenact: expected whole frames and relative motion, found --size"),
        ({"relative": False}, "found --absolute"),
        ({"face": "all"}, "reenact: expected one face"),
    ],
)
def test_what_does_not_go_with_it(model, source, options, message):
    with pytest.raises(KinecastError, match=message):
        kinecast.animate(source, still(model, 1), model=model, reenact=True, **options)


def test_sources_that_are_no_clips_of_faces(model, source, tmp_path):
    with pytest.raises(KinecastError, match="reenact: expected a path of a clip as source"):
        kinecast.animate(np.zeros((64, 64, 3), np.uint8), still(model, 1), model=model, reenact=True)
    nobody = write_clip(tmp_path / "nobody.mp4", draw_frames(2))
    with pytest.raises(KinecastError, match="nobody.mp4: expected a face in its frames, found none"):
        kinecast.animate(nobody, still(model, 2), tmp_path / "out.mp4", model=model, reenact=True)
    assert not (tmp_path / "out.mp4").exists()
