"""What a mouth does as ARKit scores, and the mouth of another face that does the same; the frame to begin from."""

from dataclasses import replace

import pytest
import torch

from kinecast.models.mesh.geometry import rotation_matrix, rotation_vector
from kinecast.models.mesh.model import Mesh
from kinecast.models.mesh.scores import JAW, MouthScores
from kinecast.motion import Motion

SMILE = 1
AHEAD = torch.eye(3)[None]
ALL = torch.ones(3)


@pytest.fixture(scope="module")
def scores(model, controls) -> MouthScores:
    return MouthScores(model.topology.mean, model.expression.basis / model.expression.weights, controls)


def face(model: Mesh, person: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(person)
    return torch.randn(model.config.expression, generator=generator) * 0.1


def scoring(scores: MouthScores, expression: torch.Tensor, wanted: list[float]) -> torch.Tensor:
    """Return an expression (K,) near another whose mouth scores as wanted."""
    correction = torch.zeros_like(expression)
    for _ in range(8):
        correction = scores.step(expression, AHEAD, correction, torch.tensor(wanted), ALL)
    return expression + correction


def motion_of(model: Mesh, expressions: torch.Tensor, turns: torch.Tensor | None = None) -> Motion:
    count = len(expressions)
    components = {
        "rotation": torch.zeros(count, 3) if turns is None else turns,
        "shift": torch.zeros(count, 2),
        "scale": torch.full((count, 1), -0.5),
        "expression": expressions,
    }
    return Motion("mesh", components, frame_size=model.frame_size)


@pytest.mark.parametrize("wanted", [[0.3, 0.0, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 0.5]])
def test_steps_lead_to_the_scores_and_leave_openings(model, controls, scores, wanted):
    own = face(model, 1)
    found = scoring(scores, own, wanted)
    torch.testing.assert_close(scores(found, AHEAD), torch.tensor(wanted), atol=0.2, rtol=0)
    torch.testing.assert_close(controls.openings(found.double()), controls.openings(own.double()), atol=2e-3, rtol=0)


def test_a_score_that_does_not_matter_is_left(model, scores):
    own, jaw = face(model, 1), torch.tensor([1.0, 0.0, 0.0])
    wanted = torch.tensor([0.4, 0.8, 0.8])
    correction = scores.step(own, AHEAD, torch.zeros_like(own), wanted, jaw)
    assert not scores.step(own, AHEAD, torch.zeros_like(own), wanted, 0 * jaw).any()
    after = scores(own + correction, AHEAD)
    assert after[JAW] > scores(own, AHEAD)[JAW] and after[SMILE] < 0.4


def test_a_step_works_where_frames_are_made(model, scores):
    outside = scoring(scores, face(model, 1), [0.2, 0.3, 0.0])
    with torch.inference_mode():
        assert torch.equal(scoring(scores, face(model, 1), [0.2, 0.3, 0.0]), outside)


@pytest.mark.parametrize("first", [0.0, 0.6])
@pytest.mark.parametrize("person", [3, 4])
def test_a_smile_is_as_wide_as_the_drivers_whatever_it_began_with(model, scores, first, person):
    smiles = [first, *[0.05] * 3, *[0.6] * 3]
    driving = motion_of(model, torch.stack([scoring(scores, face(model, 2), [0.0, s, 0.0]) for s in smiles]))
    serious = scoring(scores, face(model, person), [0.0, 0.0, 0.0])
    found = model.retarget(motion_of(model, serious[None]), driving[0])(driving)
    got = torch.stack([scores(e, AHEAD)[SMILE] for e in found.components["expression"]])
    asked = torch.stack([scores(e, AHEAD)[SMILE] for e in driving.components["expression"]])
    torch.testing.assert_close(got[[3, 6]], asked[[3, 6]], atol=0.12, rtol=0)


def test_the_jaw_drops_as_the_drivers(model, scores):
    jaws = [*[0.0] * 3, *[0.4] * 3]
    driving = motion_of(model, torch.stack([scoring(scores, face(model, 2), [j, 0.0, 0.0]) for j in jaws]))
    source = motion_of(model, face(model, 5)[None])
    found = model.retarget(source, driving[0])(driving).components["expression"]
    assert scores(found[2], AHEAD)[JAW] < 0.1 and 0.25 < scores(found[5], AHEAD)[JAW] < 0.55


def test_a_smile_of_the_source_stays_beneath(model, scores):
    driving = motion_of(model, scoring(scores, face(model, 2), [0.0, 0.0, 0.0])[None].expand(4, -1).clone())
    smiling = scoring(scores, face(model, 3), [0.0, 0.5, 0.0])
    found = model.retarget(motion_of(model, smiling[None]), driving[0])(driving)
    assert abs(scores(found.components["expression"][-1], AHEAD)[SMILE] - scores(smiling, AHEAD)[SMILE]) < 0.1


@pytest.mark.parametrize("asked, shown", [(0.3, 0.3), (1.2, 0.79), (2.0, 0.79)])
def test_a_head_turns_no_further_than_can_be_shown(model, asked, shown):
    own = torch.zeros(2, model.config.expression)
    for axis in (0, 1):
        turns = torch.zeros(2, 3)
        turns[1, axis] = asked
        driving = motion_of(model, own, turns)
        source = motion_of(model, own[:1], torch.tensor([[0.1, -0.2, 0.05]]))
        found = rotation_matrix(model.retarget(source, driving[0])(driving).components["rotation"])
        turned = rotation_vector(found @ rotation_matrix(source.components["rotation"]).mT)[1]
        assert abs(float(turned[axis]) - shown) < 0.04 and float(turned[axis]) < 0.8
    turns = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.2]])
    rolled = model.retarget(motion_of(model, own[:1]), motion_of(model, own[:1]))(motion_of(model, own, turns))
    torch.testing.assert_close(rolled.components["rotation"][1], turns[1], atol=1e-4, rtol=0)


def test_changes_are_counted_from_the_frame_that_is_most_like_the_source(model, scores):
    own = face(model, 2).expand(6, -1).clone()
    turns = torch.zeros(6, 3)
    turns[:3, 1] = 0.6
    source = motion_of(model, face(model, 3)[None])
    assert model.reference(source, motion_of(model, own, turns)) == 3
    assert model.reference(source, motion_of(model, own, 0 * turns)) == 0  # none is better than the first
    assert model.reference(source, motion_of(model, own, turns / 10)) == 0  # nor clearly so
    sideways = motion_of(model, face(model, 3)[None], turns[:1])
    assert model.reference(sideways, motion_of(model, own, turns)) == 0  # turned as the source is


def test_changes_are_not_counted_from_a_blink_or_from_nothing(model, controls):
    own = face(model, 2).double().expand(6, -1).clone()
    shut = torch.tensor([0.0, -0.11, -0.11], dtype=torch.float64) @ controls.gains
    own[:2] += shut
    driving, source = motion_of(model, own.float()), motion_of(model, face(model, 3)[None])
    assert model.reference(source, driving) == 2
    unseen = replace(driving, valid=torch.tensor([True, True, False, False, True, True]))
    assert model.reference(source, unseen) == 4
