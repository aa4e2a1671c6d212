"""Sliders as motion: what each changes, and what it leaves as it is."""

import pytest
import torch

from faces_in_motion import face_frames, tiny_mesh
from kinecast.apps.studio.controls import RANGES, Levers, Look, steered
from kinecast.errors import KinecastError
from kinecast.models.mesh.geometry import rotation_matrix
from kinecast.zoo import load_backbone


@pytest.fixture(scope="module")
def model():
    return load_backbone("mesh", "cpu", "eager")


@pytest.fixture(scope="module")
def levers(model):
    return Levers.of(model)


@pytest.fixture(scope="module")
def motion(model):
    return model.detect(face_frames(4))


def taken_over(model, source, driving, initial):
    return model.relative_motion(source, driving, initial, True).components


def test_nothing_is_moved_by_sliders_that_nobody_moved(model, levers, motion):
    own = motion[0]
    still = taken_over(model, own, steered(levers, own, own, own, Look()), own)
    moved = taken_over(model, own, steered(levers, own, motion, own, Look()), own)
    plain = taken_over(model, own, motion, own)
    for name, numbers in own.components.items():
        torch.testing.assert_close(still[name], numbers, atol=1e-5, rtol=0)
        torch.testing.assert_close(moved[name], plain[name], atol=1e-5, rtol=0)


def test_strength_scales_what_a_clip_moves(model, levers, motion):
    own = motion[0]
    for share in (0.0, 0.5, 2.0):
        found = taken_over(model, own, steered(levers, own, motion, own, Look(strength=share)), own)
        for name in ("shift", "scale", "expression"):
            wanted = own.components[name] + share * (motion.components[name] - own.components[name])
            torch.testing.assert_close(found[name], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("turn", 1, -1), ("nod", 0, 1), ("tilt", 2, 1)], ids=("turn", "nod", "tilt")
)
def test_a_head_turns_by_the_degrees_of_its_slider(model, levers, motion, name, axis, sign):
    own = motion[1]
    found = taken_over(model, own, steered(levers, own, own, own, Look(**{name: 10.0})), own)
    turned = rotation_matrix(found["rotation"])[0] @ rotation_matrix(own.components["rotation"])[0].mT
    angle = torch.rad2deg(torch.arccos((turned.trace() - 1) / 2))
    assert abs(float(angle) - 10) < 0.1
    others = [(2, 1), (0, 2), (1, 0)][axis]
    assert float(turned[others]) * sign > 0.17  # the sine of 10 degrees
    torch.testing.assert_close(found["expression"], own.components["expression"], atol=1e-5, rtol=0)


def openings(levers, expression):
    return levers.mean + expression[0].double() @ levers.slopes


def test_each_slider_of_the_face_moves_its_measure_alone(model, levers, motion):
    own = motion[0]
    before = openings(levers, own.components["expression"])
    for look, changed in ((Look(eyes=1), (1, 2)), (Look(lips=1), (0,)), (Look(smile=1), (3,)), (Look(smile=-1), (3,))):
        found = taken_over(model, own, steered(levers, own, own, own, look), own)
        change = openings(levers, found["expression"]) - before
        for i in range(4):
            assert (abs(float(change[i])) > 0.04) == (i in changed), (look, i)


def test_shut_is_shut_whatever_the_clip_does(model, levers, motion):
    own = motion[0]
    blink = motion.with_vectors(motion.vectors())
    blink.components["expression"][2] += (torch.tensor([-0.1, -0.1, -0.1, 0.0]).double() @ levers.gains).float()
    found = taken_over(model, own, steered(levers, own, blink, own, Look(eyes=-1, lips=-1)), own)
    wide = levers.mean + found["expression"].double() @ levers.slopes
    assert wide[:, :3].min() > -1e-5 and wide[2, :3].abs().max() < 1e-5


def test_fewer_expressions_than_measures_do_what_they_can():
    levers = Levers.of(tiny_mesh())
    assert torch.isfinite(levers.gains).all()


@pytest.mark.parametrize("values", [[], {"turn": "1"}, {"turn": True}, {"speed": 1}, {"eyes": 10**400}, {"eyes": 2}])
def test_what_is_no_look_is_refused_in_one_line(values):
    with pytest.raises(KinecastError) as error:
        Look.parse(values)
    assert "expected" in str(error.value) and "\n" not in str(error.value)


def test_a_look_has_every_slider_within_its_range():
    assert set(RANGES) == set(Look().__dict__)
    for name, (least, most) in RANGES.items():
        assert least <= getattr(Look(), name) <= most
        for value in (least - 0.1, most + 0.1, float("nan"), float("inf")):
            with pytest.raises(KinecastError, match=name):
                Look(**{name: value})
