"""`kinecast.animate`: what it takes, and what comes back."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import kinecast
from faces_in_motion import face_frames
from kinecast import KinecastError, Motion
from kinecast.apps.animation import Report
from kinecast.media.pictures import to_uint8, write_image
from kinecast.media.video import read_frames


@pytest.fixture(scope="module")
def portrait(group: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(group[:, :280])


def test_a_picture_in_any_form(model, portrait, clip, tmp_path):
    write_image(tmp_path / "me.png", portrait)
    tensor = torch.from_numpy(portrait).permute(2, 0, 1) / 255
    forms = (portrait, Image.fromarray(portrait), tmp_path / "me.png", str(tmp_path / "me.png"), tensor, tensor[None])
    frames = [next(kinecast.animate(form, clip, model=model, size=64, limit=1)) for form in forms]
    assert all(np.array_equal(frame, frames[0]) for frame in frames) and frames[0].shape == (64, 64, 3)


def test_transparent_parts_are_white(model, portrait, clip):
    alpha = np.dstack([portrait, np.full(portrait.shape[:2], 255, np.uint8)])
    alpha[:10, :, 3] = 0
    frame = next(kinecast.animate(alpha, clip, model=model))
    assert (frame[:10] == 255).all() and np.array_equal(frame[-5:], portrait[-5:])


def test_driving_in_any_form(model, portrait, clip, tmp_path):
    motion = model.detect(face_frames(3))
    frames = to_uint8(face_frames(3))
    motion.save(tmp_path / "m.npz")
    drawn = [
        list(kinecast.animate(portrait, driving, model=model, size=64))
        for driving in (motion, tmp_path / "m.npz", frames, face_frames(3), iter(frames), map(Image.fromarray, frames))
    ]
    assert all(len(each) == 3 for each in drawn)
    assert np.array_equal(drawn[0][2], drawn[1][2])
    for each in drawn[3:]:  # frames that come one by one are counted from the first, motion from the one most alike
        assert np.abs(each[2].astype(int) - drawn[2][2]).mean() < 3


def test_a_stream_has_no_look_ahead(model, portrait):
    taken = []

    def camera():
        for frame in to_uint8(face_frames(4)):
            taken.append(1)
            yield frame

    frames = kinecast.animate(portrait, camera(), model=model, size=64)
    assert not taken
    next(frames)
    assert len(taken) == 1
    assert len(list(frames)) == 3


def test_an_output_is_written(model, portrait, clip, tmp_path):
    report = kinecast.animate(portrait, clip, tmp_path / "out.mp4", model=model, size=64)
    assert isinstance(report, Report) and report.frames == 4
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 4
    report = kinecast.animate(portrait, face_frames(2), tmp_path / "s.mp4", model=model, size=64)
    assert report.frames == 2 and report.motion_dim == model.motion_dim


@pytest.mark.parametrize(
    ("driving", "options", "message"),
    [
        (Motion("tps", {"value": torch.zeros(2, 5, 2)}, fps=25), {}, "expected motion of mesh"),
        (np.zeros((4, 4), np.uint8), {}, "driving: expected frames"),
        (5, {}, "driving: expected a path, motion or frames, found int"),
        ([np.zeros((8, 8, 3), np.uint8)], {"start": 1.0}, "start: expected a clip as driving, found frames"),
        ([], {"strangth": 1}, "animate: expected options .*face, square, .* found strangth"),
        ([], {"size": 5}, "size: expected 16 to 2048 pixels, found 5"),
        ([], {"face": 9}, "face: expected a number up to 1, as the source shows one face, found 9"),
    ],
)
def test_what_it_does_not_take(model, portrait, driving, options, message):
    with pytest.raises(KinecastError, match=message):
        kinecast.animate(portrait, driving, model=model, **options)


def test_pictures_that_are_none(model, clip):
    for picture, message in (
        (7, "picture: expected a path"),
        (np.zeros((2, 8, 8, 3), np.uint8), "expected one, found 2"),
    ):
        with pytest.raises(KinecastError, match=message):
            kinecast.animate(picture, clip, model=model)


def test_importing_kinecast_is_light():
    code = "import sys, kinecast; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert callable(kinecast.encode) and callable(kinecast.decode) and kinecast.load_model is kinecast.load_backbone
