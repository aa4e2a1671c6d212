"""The inside of mouths that open: teeth hang from the upper lip, and what lies below them is dark."""

import pytest
import torch

from kinecast.models.mesh.drawing import draw
from kinecast.models.mesh.geometry import Pose
from kinecast.models.mesh.model import Mesh
from kinecast.models.mesh.mouth import _LOWER, dark_colour, darken
from kinecast.models.mesh.topology import KINDS

SIDE = 128
LIPS_APART = 0.06  # in half frames; the outer corners of the eyes are about half of one apart


def face(model: Mesh, lower: float) -> torch.Tensor:
    """Return the mean face (1, 478, 3) from the front, the lower lip and what is inside moved down."""
    points = Pose(torch.eye(3)[None], torch.zeros(1, 3), torch.tensor([0.5])).place(model.topology.mean[None]).clone()
    points[:, list(_LOWER), 1] += lower
    return points


def middle(drawing) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what is seen between the lips down the middle: places, how far one reads per place, and the dark."""
    column = drawing.features[0, KINDS.index("mouth"), :, SIDE // 2] > 0.5
    places = (column.nonzero().flatten() + 0.5) * 2 / SIDE - 1
    read = drawing.flow[0, 1, column, SIDE // 2]
    return places, read.diff() / places.diff(), drawing.dark[0, 0, column, SIDE // 2]


@pytest.mark.parametrize("opening", [1.0, 1.3])
def test_an_opening_that_is_little_larger_shows_what_the_mesh_shows(model, opening):
    source = face(model, LIPS_APART)
    apart = float(source[0, 14, 1] - source[0, 13, 1])
    drawing = draw(source, face(model, LIPS_APART + (opening - 1) * apart), model.topology, SIDE)
    assert not drawing.dark.any()
    _, slopes, _ = middle(drawing)
    torch.testing.assert_close(slopes, torch.full_like(slopes, 1 / opening), atol=0.02, rtol=0)


def test_teeth_hang_from_the_upper_lip_and_are_stretched_by_half_at_most(model):
    source, driven = face(model, LIPS_APART), face(model, 4 * LIPS_APART)
    drawing = draw(source, driven, model.topology, SIDE)
    places, slopes, dark = middle(drawing)
    end = source[0, 13, 1] + 1.5 * (source[0, 14, 1] - source[0, 13, 1])  # of the teeth, below the upper lip
    teeth = places[1:] < end - 2 / SIDE
    assert teeth.sum() >= 5 and (places > end).sum() >= 5
    torch.testing.assert_close(slopes[teeth], torch.full_like(slopes[teeth], 1 / 1.5), atol=0.02, rtol=0)
    assert not dark[places < end].any() and dark[places > end].max() > 0.9 and dark[-1] < 0.6
    outside = drawing.features[0, KINDS.index("mouth")] < 0.5
    assert not drawing.dark[0, 0][outside].any()


def test_a_closed_mouth_that_opens_is_dark_in_the_middle(model):
    drawing = draw(face(model, 0.0), face(model, 0.2), model.topology, SIDE)
    assert middle(drawing)[2].max() > 0.9


def test_faces_of_a_batch_are_drawn_as_each_alone(model):
    source = torch.cat((face(model, LIPS_APART), face(model, 0.0)))
    driven = torch.cat((face(model, 0.2), face(model, 0.15)))
    both = draw(source, driven, model.topology, SIDE)
    for i in range(2):
        alone = draw(source[i : i + 1], driven[i : i + 1], model.topology, SIDE)
        torch.testing.assert_close(both.dark[i : i + 1], alone.dark)
        torch.testing.assert_close(both.flow[i : i + 1], alone.flow)


def test_the_dark_gives_way_to_what_the_network_draws():
    pixels, dark = torch.full((1, 3, 1, 3), 0.8), torch.ones(1, 1, 1, 3)
    mask = torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3)
    colour = torch.full((1, 3, 1, 1), 0.1)
    drawn, shown = darken(pixels, mask, dark, colour)
    seen = shown * drawn + (1 - shown) * 0.6  # over a picture of 0.6
    torch.testing.assert_close(seen[0, 0, 0], torch.tensor([0.1, 0.5 * 0.1 + 0.5 * (0.5 * 0.8 + 0.5 * 0.6), 0.8]))
    unchanged = darken(pixels, mask, torch.zeros_like(dark), colour)
    torch.testing.assert_close(unchanged[1], mask)
    torch.testing.assert_close((unchanged[0] * mask), pixels * mask)


def test_the_dark_has_the_lips_hue():
    picture = torch.tensor([0.8, 0.4, 0.3]).view(1, 3, 1, 1).expand(-1, -1, 2, 2)
    lips = torch.tensor([[1.0, 0.0], [0.0, 0.0]])[None, None]
    torch.testing.assert_close(dark_colour(picture, lips).flatten(), torch.tensor([0.16, 0.08, 0.06]))
    assert not dark_colour(picture, torch.zeros_like(lips)).any()
