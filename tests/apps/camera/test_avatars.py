"""Portraits in the virtual camera's shape."""

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from apps.camera.stage_parts import model
from kinecast import KinecastError
from kinecast.apps.camera.avatars import frame_portrait, load_avatars
from kinecast.apps.portrait.faces import find_faces
from kinecast.media.pictures import write_image

HEAD = np.ascontiguousarray(astronaut()[:256, 96:352])


def framed(picture, size):
    face = max(find_faces(picture, model().landmarker), key=lambda face: face.size)
    return frame_portrait(picture, face, size)


def test_a_wide_picture_fills_the_frame_and_its_face_is_where_it_was_moved_to():
    frame, face = framed(astronaut(), (640, 360))
    assert frame.shape == (360, 640, 3)
    assert face.size == pytest.approx(180, rel=0.05)  # half of the height
    (found,) = find_faces(frame, model().landmarker)
    np.testing.assert_allclose(found.landmarks[:, :2], face.landmarks[:, :2], atol=4)


def test_a_narrow_picture_is_whole_in_height_and_filled_at_the_sides():
    frame, face = framed(HEAD, (640, 256))
    (found,) = find_faces(frame, model().landmarker)
    np.testing.assert_allclose(found.landmarks[:, :2], face.landmarks[:, :2], atol=4)
    sides = frame[:, :150].astype(float)
    assert np.abs(np.diff(sides, axis=0)).max() < 12 and 10 < sides.mean() < HEAD.mean()  # blurred and dimmed


def test_a_large_picture_is_reduced():
    large = np.array(Image.fromarray(astronaut()).resize((1536, 1536)))
    small, _ = framed(astronaut(), (320, 180))
    frame, _ = framed(large, (320, 180))
    assert np.abs(frame.astype(float) - small).mean() < 6


def test_pictures_that_cannot_be_used(tmp_path):
    write_image(tmp_path / "grey.png", np.full((90, 90, 3), 120, np.uint8))
    with pytest.raises(KinecastError, match=r"grey.png: expected a face in the 90x90 pixels, found none"):
        load_avatars(model(), [tmp_path / "grey.png"], (320, 180))
    with pytest.raises(KinecastError, match="expected at most 9 pictures, a key for each, found 10"):
        load_avatars(model(), [tmp_path / "grey.png"] * 10, (320, 180))
