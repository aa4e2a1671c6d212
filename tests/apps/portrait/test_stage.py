"""What moves in a picture, and that nothing else does."""

from dataclasses import replace

import numpy as np
import pytest

from faces_in_motion import face_frames
from kinecast import KinecastError
from kinecast.apps.portrait.job import staged
from kinecast.apps.portrait.options import PortraitOptions
from kinecast.apps.portrait.preview import preview
from kinecast.apps.portrait.stage import set_stage
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion
from tiny import tiny_fomm


@pytest.fixture(scope="module")
def motion(model) -> Motion:
    return model.detect(face_frames(3))


def changed(frame: np.ndarray, picture: np.ndarray) -> np.ndarray:
    return (frame != picture).any(axis=2)


@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
def test_only_heads_that_are_meant_move(model, group, faces, motion, which):
    stage = set_stage(model, group, [faces[i] for i in which])
    frames = list(stage.frames([motion], motion[:1]))
    assert len(frames) == 3 and all(frame.shape == group.shape and frame.dtype == np.uint8 for frame in frames)
    for i, face in enumerate(faces):
        x, y = face.centre.round().astype(int)
        assert changed(frames[2], group)[y - 20 : y + 20, x - 20 : x + 20].any() == (i in which)
    outside = np.ones(group.shape[:2], dtype=bool)
    for actor in stage.actors:
        actor.crop.cut(outside[..., None])[:] = False
    assert not (changed(frames[2], group) & outside).any() and outside.mean() > 0.2


def test_the_picture_itself_is_left_alone(model, group, faces, motion):
    before = group.copy()
    one, other = (list(set_stage(model, group, faces).frames([motion], motion[:1])) for _ in range(2))
    assert np.array_equal(group, before) and all(map(np.array_equal, one, other))


def test_frames_do_not_depend_on_how_motion_comes(model, group, faces, motion):
    stage = set_stage(model, group, faces)
    at_once = list(stage.frames([motion], motion[:1]))
    one_by_one = list(stage.frames((motion[i] for i in range(3)), motion[:1]))
    assert max(np.abs(a.astype(int) - b).max() for a, b in zip(at_once, one_by_one, strict=True)) <= 1


def test_relative_motion_begins_at_the_picture_as_it_is(model, group, faces, motion):
    stage = set_stage(model, group, [faces[1]], size=64)
    source = stage.actors[0].source
    still = model.render(source, source.motion)
    # Lips and lids are the driving ones' from the first frame on; all else begins as it is.
    first = next(stage.frames([motion], motion[:1], Transfer(eyes=0, mouth=0)))
    assert np.abs(first / 255 - still[0].permute(1, 2, 0).numpy()).max() < 0.01
    absolute = next(set_stage(model, group, [faces[1]], 64, relative=False).frames([motion], None))
    assert np.abs(absolute.astype(int) - first).max() > 20


def test_movement_counts_from_the_frame_that_suits_each_head(model, group, faces, motion):
    turned = motion.components["rotation"].clone()
    turned[0, 1] += 0.7
    away = replace(motion, components={**motion.components, "rotation": turned})
    stage = set_stage(model, group, faces, size=64)
    for actor in stage.actors:
        assert model.reference(actor.source.motion, away) > 0
    pose = Transfer(eyes=0, mouth=0)
    own = stage.actors[0].source.motion
    best = model.reference(own, away)
    frames = list(set_stage(model, group, faces[:1], 64).frames([away], away, pose))
    again = list(set_stage(model, group, faces[:1], 64).frames([away], away[best], pose))
    from_first = list(set_stage(model, group, faces[:1], 64).frames([away], away[0], pose))
    assert np.array_equal(np.stack(frames), np.stack(again))
    assert not np.array_equal(np.stack(frames), np.stack(from_first))


@pytest.mark.parametrize("size", [64, 200, 320])
def test_squares_have_the_size_that_is_asked_for(model, group, faces, motion, size):
    (frame, *_) = set_stage(model, group, [faces[0]], size).frames([motion], motion[:1])
    assert frame.shape == (size, size, 3)
    (both, *_) = set_stage(model, group, faces, size).frames([motion], motion[:1])
    assert both.shape == (size, 2 * size + 2, 3) and np.abs(both[:, :size].astype(int) - frame).max() <= 1


def test_a_large_square_keeps_the_detail_of_the_source(model, group, faces, motion):
    """At the source's own resolution what is only moved is as sharp as the source, whatever the network's size."""
    stage = set_stage(model, group, [faces[0]], 256)
    small = set_stage(model, group, [faces[0]], model.config.size)
    frame, coarse = (next(each.frames([motion], motion[:1])).astype(float) for each in (stage, small))
    detail = [np.abs(np.diff(each, axis=1)).mean() for each in (frame, np.kron(coarse, np.ones((4, 4, 1))))]
    assert frame.shape == (256, 256, 3) and detail[0] > 0.5 * detail[1]


def test_a_self_supervised_backbone_moves_the_square_too(group, faces):
    fomm = tiny_fomm(frame_size=(32, 32), num_keypoints=3)
    motion = fomm.detect(face_frames(3, 32))
    stage = set_stage(fomm, group, [faces[0]])
    *_, last = stage.frames([motion], motion[:1])
    assert last.shape == group.shape and changed(last, group)[:, :270].mean() > 0.4
    assert not changed(last, group)[:, 280:].any()
    (square, *_) = set_stage(fomm, group, [faces[0]], 100).frames([motion], motion[:1])
    assert square.shape == (100, 100, 3)


def test_without_a_face_a_line_says_so(model):
    with pytest.raises(KinecastError, match="source: expected a face in the 90x80 pixels, found none: choose"):
        staged(model, np.full((80, 90, 3), 120, np.uint8), PortraitOptions())


def test_the_preview_shows_squares_and_meshes(model, group, faces):
    stage = set_stage(model, group, faces)
    picture = preview(stage, faces)
    assert picture.shape[0] > 512 and picture.shape[1] > 2 * 512 + 900
    left, top = (round(value * 512 / 300) for value in (stage.actors[0].crop.left, stage.actors[0].crop.top))
    strip = picture.shape[0] - 512
    assert tuple(picture[strip + top + 1, left + 60]) == (255, 190, 0)
