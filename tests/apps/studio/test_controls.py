"""Sliders as motion: what each changes, and what it leaves as it is."""

import pytest
import torch

from faces_in_motion import face_frames, tiny_mesh
from kinecast.apps.studio.controls import RANGES, Look, steered
from kinecast.errors import KinecastError
from kinecast.models.mesh.geometry import rotation_matrix
from kinecast.zoo import load_backbone


@pytest.fixture(scope="module")
def model():
    return load_backbone("mesh", "cpu", "eager")


@pytest.fixture(scope="module")
def controls(model):
    return model.controls()


@pytest.fixture(scope="module")
def motion(model):
    return model.detect(face_frames(4))


def taken_over(model, source, driving, initial):
    return model.relative_motion(source, driving, initial, True).components


def test_nothing_is_moved_by_sliders_that_nobody_moved(model, controls, motion):
    own = motion[0]
    still = taken_over(model, own, steered(controls, own, own, own, Look()), own)
    moved = taken_over(model, own, steered(controls, own, motion, own, Look()), own)
    plain = taken_over(model, own, motion, own)
    for name, numbers in own.components.items():
        torch.testing.assert_close(still[name], numbers, atol=1e-5, rtol=0)
        torch.testing.assert_close(moved[name], plain[name], atol=1e-5, rtol=0)


def test_strength_scales_what_a_clip_moves(model, controls, motion):
    own = motion[0]
    for share in (0.0, 0.5, 2.0):
        found = taken_over(model, own, steered(controls, own, motion, own, Look(strength=share)), own)
        for name in ("shift", "scale", "expression"):
            wanted = own.components[name] + share * (motion.components[name] - own.components[name])
            torch.testing.assert_close(found[name], wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "axis", "sign"), [("turn", 1, -1), ("nod", 0, 1), ("tilt", 2, 1)], ids=("turn", "nod", "tilt")
)
def test_a_head_turns_by_the_degrees_of_its_slider(model, controls, motion, name, axis, sign):
    own = motion[1]
    found = taken_over(model, own, steered(controls, own, own, own, Look(**{name: 10.0})), own)
    turned = rotation_matrix(found["rotation"])[0] @ rotation_matrix(own.components["rotation"])[0].mT
    angle = torch.rad2deg(torch.arccos((turned.trace() - 1) / 2))
    assert abs(float(angle) - 10) < 0.1
    others = [(2, 1), (0, 2), (1, 0)][axis]
    assert float(turned[others]) * sign > 0.17  # the sine of 10 degrees
    torch.testing.assert_close(found["expression"], own.components["expression"], atol=1e-5, rtol=0)


def measures(model, controls, expression):
    """Return the openings of an expression, and how far the corners of its mouth are apart and up."""
    offsets = (model.expression.basis / model.expression.weights).double()
    head = model.topology.mean.double() + torch.einsum("k,kvc->vc", expression[0].double(), offsets)
    corners = (head[291, 0] - head[61, 0]) / 2 + head[[13, 14], 1].mean() - head[[61, 291], 1].mean()
    return torch.cat((controls.openings(expression[0].double()), corners[None]))


def test_each_slider_of_the_face_opens_or_smiles_and_leaves_the_others(model, controls, motion):
    own = motion[0]
    before = measures(model, controls, own.components["expression"])
    for look, changed in ((Look(eyes=1), (1, 2)), (Look(lips=1), (0,)), (Look(smile=1), (3,)), (Look(smile=-1), (3,))):
        found = taken_over(model, own, steered(controls, own, own, own, look), own)
        change = measures(model, controls, found["expression"]) - before
        for i in range(3 if look.lips else 4):  # corners follow lips that open
            assert (abs(float(change[i])) > 0.04) == (i in changed), (look, i)


def test_shut_is_shut_whatever_the_clip_does(model, controls, motion):
    own = motion[0]
    blink = motion.with_vectors(motion.vectors())
    blink.components["expression"][2] += (torch.tensor([-0.1, -0.1, -0.1]).double() @ controls.gains).float()
    found = taken_over(model, own, steered(controls, own, blink, own, Look(eyes=-1, lips=-1)), own)
    wide = controls.openings(found["expression"].double())
    assert wide[:, :3].min() > -1e-5 and wide[2, :3].abs().max() < 1e-5


def test_fewer_expressions_than_measures_do_what_they_can():
    controls = tiny_mesh().controls()
    assert torch.isfinite(controls.gains).all() and torch.isfinite(controls.smile).all()


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
