"""Avatars moved frame by frame: as `animate` does it, held without a face, begun anew when asked."""

import numpy as np
import pytest
import torch

from apps.camera.stage_parts import GREY, avatars, model, moving, performer
from kinecast.apps.portrait.driving import stream_motion
from kinecast.models.transfer import Transfer


def test_frames_are_those_of_animate():
    made = performer()
    found = [made(frame) for frame in moving()]
    motions = list(stream_motion(model(), moving()))
    expected = list(avatars()[0].stage.frames(motions, motions[0]))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(found[0], found[3])


def test_transfer_is_passed_on():
    made = performer()
    made.transfer = Transfer(pose=0, eyes=0, mouth=0)
    first, *_, last = [made(frame) for frame in moving()]
    assert np.abs(first.astype(int) - last).max() <= 1


def test_without_a_face_nothing_moves():
    made = performer()
    np.testing.assert_array_equal(made(GREY), avatars()[0].stage.picture)
    assert not made.seen and not made.calibrated
    made(moving()[0])
    moved = made(moving()[3])
    assert made.seen and made.calibrated
    for _ in range(3):
        np.testing.assert_array_equal(made(GREY), moved)
    assert not made.seen


def test_a_neutral_pose_is_the_next_that_is_seen():
    made, anew = performer(), performer()
    for frame in moving():
        made(frame)
    made.calibrate()
    assert not made.calibrated
    held = made(GREY)
    assert not made.calibrated
    begun = made(moving()[2])
    assert made.calibrated and not np.array_equal(begun, held)
    # As one who begins in that pose, whose face is followed from there.
    np.testing.assert_allclose(begun.astype(int), anew(moving()[2]), atol=3)


def test_another_avatar_takes_the_pose_over():
    made = performer()
    made.choose(1)
    np.testing.assert_array_equal(made(GREY), avatars()[1].stage.picture)
    made(moving()[0])
    made.choose(0)
    made.choose(1)
    made(moving()[3])
    made.choose(0)
    other = made(GREY)  # no face, but the pose is known
    # What is known of the face's usual openings begins anew with the portrait.
    neutral, pose = stream_motion(model(), moving()[[0, 3]])
    np.testing.assert_array_equal(other, next(avatars()[0].stage.frames([pose], neutral)))
    made.choose(1)
    made.calibrate()
    made.choose(0)
    np.testing.assert_array_equal(made(GREY), avatars()[0].stage.picture)


def test_a_backbone_without_an_option_says_so():
    from kinecast import KinecastError
    from kinecast.apps.camera.performer import Performer
    from tiny import tiny_fomm

    with pytest.raises(KinecastError, match="eyes_open"):
        Performer(tiny_fomm(), avatars(), Transfer(eyes_open=0.2))
    assert torch.is_grad_enabled()
