"""Which faces a picture shows, which are meant, and what is cut out around them."""

import numpy as np
import pytest
from PIL import Image

from kinecast import KinecastError
from kinecast.apps.portrait.crops import Crop, head_crop
from kinecast.apps.portrait.faces import chosen, described, doubts, face_option, find_faces
from kinecast.faces import Face
from kinecast.faces.topology import BLENDSHAPES


def test_faces_come_from_left_to_right(faces):
    assert len(faces) == 2
    assert faces[0].centre[0] < 266 and faces[1].centre[0] > 340
    assert faces[0].size > faces[1].size


def test_small_faces_are_found_beside_large_ones(model, group):
    wide = np.full((600, 900, 3), 120, np.uint8)
    wide[280:580, 20:580] = group
    wide[20:170, 740:890] = np.array(Image.fromarray(group[20:276, 10:266]).resize((150, 150)))
    found = find_faces(wide, model.landmarker)
    assert len(found) == 3 and found[2].size < 80 and found[2].centre[1] < 170


@pytest.mark.parametrize(("which", "expected"), [("largest", [0]), ("all", [0, 1]), ("1", [0]), (2, [1]), ("2", [1])])
def test_faces_are_chosen_by_size_or_number(faces, which, expected):
    assert chosen(faces, which) == [faces[i] for i in expected]


def test_faces_that_there_are_not(faces):
    with pytest.raises(KinecastError, match="face: expected a number up to 2, as the source shows 2 faces, found 3"):
        chosen(faces, 3)
    for which in ("first", 0, "-1", "1.5"):
        with pytest.raises(KinecastError, match="face: expected largest, all, or a number from 1"):
            face_option(which)


def test_a_line_says_where_they_are(faces):
    line = described(faces, [faces[1]])
    x, y = faces[1].centre
    assert line == (
        f"source: face 2 at x {x:.0f}, y {y:.0f}, {faces[1].size:.0f} pixels "
        "(1 more from left to right: --face N, or all)"
    )
    assert described(faces, faces).endswith("pixels")


def test_what_will_show_is_said(faces):
    large, small = faces
    assert doubts(faces, [large]) == []
    landmarks = small.landmarks * 0.5
    turn = np.eye(4)
    turn[:3, :3] = [[0.5, 0, 0.75**0.5], [0, 1, 0], [-(0.75**0.5), 0, 0.5]]
    shut = np.zeros(52, np.float32)
    shut[[BLENDSHAPES.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]] = 0.9
    poor = Face(landmarks, shut, small.presence, turn)
    lines = doubts([large, poor], [large, poor])
    assert lines[0] == f"source: face 2 is {poor.size:.0f} pixels large: expect it soft; 96 or more are better"
    assert lines[1].startswith("source: face 2 is turned away by 60 degrees: ")
    assert lines[2].startswith("source: face 2 has its eyes shut: ") and len(lines) == 3
    assert doubts([large, poor], [large]) == []  # it does not move


def face_at(left: float, top: float, size: float) -> Face:
    landmarks = np.zeros((478, 3), np.float32)
    landmarks[1, :2] = size
    return Face(landmarks + np.array([left, top, 0], np.float32), np.zeros(52, np.float32), 1.0, np.eye(4))


@pytest.mark.parametrize(
    ("face", "shape", "fading"),
    [
        ((400, 300, 100), (800, 1000), (True, True, True, True)),
        ((10, 5, 100), (800, 1000), (False, False, True, True)),
        ((50, 50, 180), (300, 1000), (False, False, False, True)),
        ((20, 20, 200), (240, 240), (False, False, False, False)),
    ],
)
def test_a_crop_has_room_and_lies_in_the_picture(face, shape, fading):
    crop = head_crop(face_at(*face), shape)
    assert 0 <= crop.top <= shape[0] - crop.side and 0 <= crop.left <= shape[1] - crop.side
    assert crop.side == min(2 * face[2], *shape) and crop.fading == fading
    assert crop.left <= face[0] and face[0] + face[2] <= crop.left + crop.side


def test_the_head_is_lower_than_the_middle():
    crop = head_crop(face_at(400, 300, 100), (800, 1000))
    assert crop.left + crop.side / 2 == 450 and crop.top + crop.side / 2 == 343


def test_landmarks_follow_the_crop(group, faces):
    crop = Crop(30, 300, 250, (300, 560))
    assert np.array_equal(crop.cut(group), group[30:280, 300:550])
    assert np.allclose(crop.landmarks(faces[1]) + [300, 30, 0], faces[1].landmarks)
