"""Faces in pictures against mediapipe: landmarks, blendshapes and poses; several faces, none, odd frames."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from faces.golden import pictures
from kinecast.errors import KinecastError
from kinecast.faces import Landmarker, topology
from kinecast.media.pictures import to_tensor
from kinecast.media.video import read_frames

GOLDEN = Path(__file__).parents[1] / "golden" / "face_landmarker.npz"


@pytest.fixture(scope="module")
def landmarker():
    return Landmarker("cpu", "eager")


@pytest.mark.parametrize("name", ["one", "two"])
def test_faces_are_those_that_mediapipe_sees(name, landmarker):
    golden = np.load(GOLDEN)
    faces = landmarker.detect(pictures()[name])
    assert len(faces) == len(golden[f"{name}_landmarks"])
    wanted = zip(*(golden[f"{name}_{what}"] for what in ("landmarks", "blendshapes", "pose")), strict=True)
    for landmarks, blendshapes, pose in wanted:
        face = min(faces, key=lambda found: float(np.abs(found.landmarks - landmarks).max()))
        assert np.abs(face.landmarks - landmarks).max() < 0.15
        assert np.abs(face.blendshapes - blendshapes).max() < 0.005
        assert np.abs(face.pose - pose).max() < 0.02
        assert face.presence > 0.9


def test_faces_are_those_of_the_reference(data_folder, landmarker, record_property):
    golden = np.load(data_folder.parent / "reference" / "face_landmarker.npz")
    assert tuple(golden["blendshape_names"]) == topology.BLENDSHAPES
    names = sorted({key.split("|")[0] for key in golden.files if "|" in key})
    apart, scores, poses = 0.0, 0.0, 0.0
    for name in names:
        file, _, index = name.partition("@")
        frame = next(islice(read_frames(data_folder / file), int(index or 0), None))
        (face,) = landmarker.detect(frame)
        size = (frame.shape[1], frame.shape[0])
        apart = max(
            apart,
            float(np.linalg.norm(face.landmarks[:, :2] - golden[f"{name}|landmarks"][:, :2] * size, axis=1).max()),
        )
        scores = max(scores, float(np.abs(face.blendshapes - golden[f"{name}|blendshapes"]).max()))
        poses = max(poses, float(np.abs(face.pose - golden[f"{name}|matrix"]).max()))
    assert len(names) == 59 and apart < 0.5 and scores < 0.02 and poses < 0.1
    record_property("measured", f"face landmarker, 59 pictures: {apart:.2f} pixels, {scores:.3f} of a blendshape")


def test_a_batch_gives_what_its_frames_give(landmarker):
    one, two = pictures().values()
    nothing = np.zeros((90, 160, 3), np.uint8)
    together = landmarker.detect_all([one, nothing, two, one])
    assert [len(faces) for faces in together] == [1, 0, 2, 1]
    for faces, frame in zip(together, [one, nothing, two, one], strict=True):
        for found, alone in zip(faces, landmarker.detect(frame), strict=True):
            assert np.abs(found.landmarks - alone.landmarks).max() < 0.01


def test_floating_point_frames_are_as_good(landmarker):
    frame = pictures()["one"]
    (exact,), (found,) = landmarker.detect(frame), landmarker.detect(to_tensor(frame[None])[0])
    assert np.abs(exact.landmarks - found.landmarks).max() < 0.01


@pytest.mark.parametrize("size", [64, 100, 1024, 3000])
def test_any_size_will_do(size, landmarker):
    frame = pictures()["one"]
    (wanted,) = landmarker.detect(frame)
    (found,) = landmarker.detect(np.array(Image.fromarray(frame).resize((size, size), Image.Resampling.LANCZOS)))
    half = 0.5 * (size / 256 - 1)  # the middle of the first pixel is (0, 0)
    apart = (found.landmarks[:, :2] - half) * 256 / size - wanted.landmarks[:, :2]
    assert np.linalg.norm(apart, axis=1).mean() < 2.0


def test_flipped_pictures_have_mirrored_landmarks(landmarker):
    frame = pictures()["one"]
    (face,), (flipped,) = landmarker.detect(frame), landmarker.detect(np.ascontiguousarray(frame[:, ::-1]))
    back = flipped.landmarks[topology.mirrored(), :2] * (-1, 1) + (255, 0)
    assert np.linalg.norm(back - face.landmarks[:, :2], axis=1).mean() < 1.5


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        torch.zeros(64, 64, 3),
        torch.zeros(3, 64, 64).byte(),
    ],
)
def test_what_is_no_frame_is_refused(frame, landmarker):
    with pytest.raises(KinecastError, match="expected a frame as a uint8 array"):
        landmarker.detect(frame)


@pytest.mark.parametrize("share", [0.07, 0.1, 0.15, 0.3])
def test_small_faces_in_wide_pictures_are_found(share, landmarker):
    near = Image.fromarray(pictures()["one"])  # whose face is 108 pixels wide
    scene, width = np.full((540, 960, 3), 120, np.uint8), round(960 * share * 256 / 108)
    scaled = np.array(near.resize((width, width), Image.Resampling.LANCZOS))[: 540 - 100, : 960 - 300]
    scene[100 : 100 + len(scaled), 300 : 300 + scaled.shape[1]] = scaled
    (face,) = landmarker.detect(scene)
    assert abs(face.size / 960 / share - 1) < 0.1


def test_one_face_that_the_detector_sees_twice_is_one(landmarker, monkeypatch):
    frame = pictures()["one"]
    (square,) = landmarker.find(frame)
    monkeypatch.setattr(landmarker, "find", lambda *_: [square, replace(square, x=square.x + 6)])
    assert len(landmarker.detect(frame)) == 1
