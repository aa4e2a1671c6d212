"""Transfer onto the mesh: lips, lids and strengths, on the bundled model's own basis."""

from copy import copy
from dataclasses import replace

import pytest
import torch

from faces_in_motion import face_frames, tiny_mesh
from kinecast.errors import KinecastError
from kinecast.models.mesh.controls import EYES, LIPS, Controls
from kinecast.models.mesh.model import Mesh
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion

SHUT, TALKING = 0.01, 0.15  # openings of lips, in units of the head
BLINK, OPEN = 0.01, 0.12  # of lids


def faces(model: Mesh, controls: Controls, openings: list[tuple[float, float]], person: int) -> Motion:
    """Return the motion of a person, told by a number, whose lips and lids are open by (lips, lids) in each frame."""
    generator = torch.Generator().manual_seed(person)
    shape = torch.randn(model.config.expression, generator=generator, dtype=torch.float64) * 0.1
    wanted = torch.tensor([(lips, lids, lids) for lips, lids in openings], dtype=torch.float64)
    expression = shape + (wanted - controls.openings(shape)) @ controls.gains
    count = len(openings)
    turns = torch.randn(count, 3, generator=generator) * 0.1
    components = {
        "rotation": turns,
        "shift": torch.randn(count, 2, generator=generator) * 0.1,
        "scale": torch.full((count, 1), -0.5 + 0.1 * person),
        "expression": expression.float(),
    }
    return Motion("mesh", components, frame_size=model.frame_size)


def openings(controls: Controls, motion: Motion) -> torch.Tensor:
    return torch.stack([controls.openings(each) for each in motion.components["expression"].double()])


def test_gains_open_what_they_say(controls):
    torch.testing.assert_close(controls.gains @ controls.slopes, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    # The jaw comes with the lips: a chin that stays is a mouth torn open.
    assert 0.1 < float(controls.widths[1:].min()) < float(controls.widths[0]) < 1


@pytest.mark.parametrize("source_lips", [SHUT, TALKING])
@pytest.mark.parametrize("first_lips", [SHUT, TALKING])
def test_lips_are_open_as_the_drivers_whatever_both_began_with(model, controls, source_lips, first_lips):
    source = faces(model, controls, [(source_lips, OPEN)], 1)
    driving = faces(model, controls, [(first_lips, OPEN), (SHUT, OPEN), (TALKING, OPEN)], 2)
    found = openings(controls, model.retarget(source, driving[0])(driving))[:, LIPS]
    torch.testing.assert_close(found, openings(controls, driving)[:, LIPS], atol=1e-4, rtol=0)


@pytest.mark.parametrize("source_lids", [0.07, 0.2])
@pytest.mark.parametrize("first_lids", [OPEN, BLINK])
def test_a_blink_shuts_wide_and_narrow_eyes(model, controls, source_lids, first_lids):
    source = faces(model, controls, [(SHUT, source_lids)], 1)
    driving = faces(model, controls, [(SHUT, lids) for lids in (first_lids, *[OPEN] * 20, BLINK, OPEN)], 2)
    found = openings(controls, model.retarget(source, driving[0])(driving))[:, EYES] / source_lids
    assert found[-2].max() < 0.15
    torch.testing.assert_close(found[[-3, -1]], torch.ones(2, 2, dtype=torch.float64), atol=0.05, rtol=0)


def test_a_clip_in_parts_gives_the_same_bits(model, controls):
    source = faces(model, controls, [(SHUT, OPEN)], 1)
    driving = faces(model, controls, [(TALKING * i / 9, BLINK + 0.01 * i) for i in range(10)], 2)
    whole = model.retarget(source, driving[0])(driving).vectors()
    for size in (1, 3):
        retarget = model.retarget(source, driving[0])
        parts = [retarget(driving[i : i + size]).vectors() for i in range(0, 10, size)]
        assert torch.equal(torch.cat(parts), whole)
    retarget = model.retarget(source, driving[0])
    retarget(driving[:5])
    copy(retarget)(driving[8:])  # what a copy sees, the original has not seen
    assert torch.equal(retarget(driving[5:]).vectors(), whole[5:])


def test_times_and_rate_stay(model, controls):
    driving = faces(model, controls, [(SHUT, OPEN)] * 3, 2)
    timed = replace(driving, fps=30.0, times=torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64), end=0.4)
    found = model.retarget(driving[0], driving[0])(timed)
    assert found.times is timed.times and found.end == 0.4 and found.fps == 30.0


def test_no_strength_stands_still(model, controls):
    source = faces(model, controls, [(TALKING, 0.07)], 1)
    driving = faces(model, controls, [(TALKING, OPEN), (SHUT, BLINK)], 2)
    found = model.retarget(source, driving[0], Transfer(pose=0, eyes=0, mouth=0))(driving)
    torch.testing.assert_close(found.vectors(), source.vectors().expand(2, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("region", ["pose", "eyes", "mouth"])
def test_a_region_alone_moves(model, controls, region):
    source = faces(model, controls, [(0.05, 0.1)], 1)
    driving = faces(model, controls, [(SHUT, OPEN), (TALKING, BLINK)], 2)
    strengths = {"pose": 0.0, "eyes": 0.0, "mouth": 0.0} | {region: 1.0}
    found = model.retarget(source, driving[0], Transfer(**strengths))(driving)
    moved = (openings(controls, found) - openings(controls, source)).abs()[1]
    turned = (found.components["rotation"] - source.components["rotation"]).abs()[1].max()
    assert (turned > 0.01) == (region == "pose")
    assert (moved[LIPS] > 0.05) == (region == "mouth") and (moved[EYES].max() > 0.05) == (region == "eyes")


def test_openings_are_held(model, controls):
    source = faces(model, controls, [(TALKING, OPEN)], 1)
    driving = faces(model, controls, [(SHUT, OPEN), (TALKING, BLINK)], 2)
    found = openings(controls, model.retarget(source, driving[0], Transfer(lips_open=0, eyes_open=0.4))(driving))
    wanted = torch.stack([controls.widths[LIPS] * 0, *(controls.widths[EYES] * 0.4)])
    torch.testing.assert_close(found, wanted.expand(2, 3), atol=1e-4, rtol=0)


def test_the_head_moves_by_mode(model, controls):
    source = faces(model, controls, [(SHUT, OPEN)], 1)
    driving = faces(model, controls, [(SHUT, OPEN), (TALKING, OPEN)], 2)
    by = {mode: model.retarget(source, driving[0], Transfer(mode))(driving) for mode in ("relative", "mixed")}
    torch.testing.assert_close(by["relative"].components["rotation"][:1], source.components["rotation"])
    for name in ("rotation", "shift", "scale"):
        torch.testing.assert_close(by["mixed"].components[name], driving.components[name], atol=1e-5, rtol=0)
    # Scores are those of a turned head, hence not quite the same.
    torch.testing.assert_close(*(openings(controls, by[mode]) for mode in by), atol=3e-3, rtol=0)
    assert model.retarget(source, driving[0], Transfer("absolute"))(driving) is driving


def test_a_basis_of_few_numbers_serves_too():
    tiny = tiny_mesh()
    motion = tiny.detect(face_frames())
    assert torch.isfinite(tiny.retarget(motion[0], motion[0])(motion).vectors()).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "both"}, "transfer: expected relative, absolute, mixed, found 'both'"),
        ({"eyes": -0.5}, "strength of eyes: expected a number from 0 to 3, found -0.5"),
        ({"mouth": float("nan")}, "strength of mouth: expected a number from 0 to 3, found nan"),
        ({"lips_open": 2.0}, "lips: opening: expected a number from 0 to 1, found 2.0"),
        ({"mode": "absolute", "pose": 0.5}, "expected the motion as it is in mode absolute"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(KinecastError, match=message):
        Transfer(**options)
