"""What a 3-D head does for a motion, and pictures of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from apps.heads.heads_of_tests import glb, pose, triangle_head
from kinecast.apps.blendshapes import COLUMNS, BlendshapeFile, face_of
from kinecast.apps.heads.drawing import GROUND, HeadDrawing
from kinecast.apps.heads.expression import SHAPES, Expressions, needs_mesh
from kinecast.apps.heads.glb import own_head, parse_head
from kinecast.errors import KinecastError
from kinecast.faces.topology import LIPS_INNER
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from tiny import tiny_fomm


@pytest.fixture(scope="module")
def model() -> Mesh:
    return needs_mesh(load_backbone("mesh", "cpu", "eager"))


def moved(model: Mesh, **changes: list[float]) -> Motion:
    """Return the mean face's motion (1), with some numbers added."""
    rest = model.neutral()
    components = dict(rest.components)
    for name, values in changes.items():
        components[name] = components[name] + torch.tensor([values])
    return replace(rest, components=components)


def with_mouth_open(model: Mesh) -> Motion:
    """Return the motion (1) of a mouth that the expression opens wide."""
    offsets = torch.zeros(1, 478, 3)
    offsets[:, list(LIPS_INNER[1:10]), 1] = 0.35
    offsets[:, [17, 84, 314, 152, 148, 377], 1] = 0.3
    return moved(model, expression=(1.5 * model.expression.project(offsets))[0].tolist())


def test_the_mean_face_is_at_rest(model):
    (found,) = Expressions(model)(model.neutral())
    assert not found.shapes.any() and np.abs([*found.rotation, *found.move, found.size - 1]).max() < 1e-5
    assert found.shapes.shape == (51,)


def test_points_are_those_of_the_motion(model):
    motion = with_mouth_open(model)
    again = model.motion_of(model.points_of_motion(motion))
    for name, values in motion.components.items():
        torch.testing.assert_close(again[name], values, atol=2e-3, rtol=0)


def test_an_open_mouth_opens_the_jaw(model):
    (found,) = Expressions(model)(with_mouth_open(model))
    assert found.shapes[SHAPES.index("jawOpen")] > 0.3


def test_the_head_turns_and_moves_as_the_picture_does(model):
    motion = moved(model, rotation=[0.1, 0.2, 0.3], shift=[0.06, 0.03], scale=[0.1])
    (found,) = Expressions(model)(motion)
    # the picture's y grows downwards and its z away from the camera, a page's the other way round
    np.testing.assert_allclose(found.rotation, [0.1, -0.2, -0.3], atol=1e-6)
    assert found.move[0] > 0.1 and found.move[1] < -0.05 and found.size == pytest.approx(np.exp(0.3 * np.tanh(1 / 3)))
    (far,) = Expressions(model)(moved(model, shift=[5.0, -5.0], scale=[3.0]))
    assert np.abs(far.move).max() <= 0.8 and far.size < 1.36  # it does not leave the picture


def test_only_a_mesh_has_heads(model):
    with pytest.raises(KinecastError, match="expected the model mesh"):
        needs_mesh(tiny_fomm())
    with pytest.raises(KinecastError, match="expected the model mesh"):
        face_of(tiny_fomm(), model.neutral())


def test_a_blendshape_moves_its_part_of_the_picture():
    drawing = HeadDrawing(own_head(), 128)
    rest, opened, shut = (drawing.draw(p).astype(int) for p in (pose(), pose(jawOpen=0.8), pose(eyeBlinkLeft=0.7)))
    assert rest.shape == (128, 128, 3) and (rest[0, 0] == np.round(np.array(GROUND) * 255)).all()
    changed = np.abs(opened - rest).sum(axis=2)
    assert changed[70:].sum() > 20 * changed[:60].sum()  # the mouth and what is below it
    changed = np.abs(shut - rest).sum(axis=2)
    assert changed.any() and np.flatnonzero(changed.sum(axis=0)).min() > 60  # the subject's left is the picture's right
    turned = drawing.draw(pose((0, 0.6, 0)))
    assert np.abs(turned.astype(int) - rest).mean() > 3


def test_any_head_is_drawn():
    picture = HeadDrawing(parse_head(glb(*triangle_head())), 64).draw(pose())
    assert (picture != picture[0, 0]).any()


def test_a_file_of_blendshapes(model, tmp_path):
    path = tmp_path / "seen.csv"
    file = BlendshapeFile(path)
    file.add(0.0, face_of(model, with_mouth_open(model)))
    file.add(0.04, None)
    assert not path.exists()  # before it is whole
    file.close()
    header, first, second = (line.split(",") for line in path.read_text().splitlines())
    assert tuple(header) == COLUMNS and second[:3] == ["1", "0.0400", "0"] and not any(second[3:])
    assert float(first[header.index("jawOpen")]) > 0.3 and abs(float(first[header.index("rotation_y")])) < 0.1
    assert 5 < -float(first[header.index("translation_z")]) < 300  # centimetres before the camera
    empty = BlendshapeFile(tmp_path / "none.csv")
    with pytest.raises(KinecastError, match="found none"):
        empty.close()
    assert [each.name for each in tmp_path.iterdir()] == ["seen.csv"]
