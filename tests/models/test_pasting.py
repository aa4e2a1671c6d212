"""Frames as changes of a picture: what is not changed stays bit for bit, and edges fade."""

import numpy as np
import pytest
import torch

from faces_in_motion import face_frames, face_points, tiny_mesh
from kinecast.media.pictures import to_tensor
from kinecast.models.mesh.model import Mesh
from kinecast.models.pasting import Layer, paint
from kinecast.motion import Motion

ALL, NONE = (True,) * 4, (False,) * 4


def picture(side: int = 120) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def painted(before: np.ndarray, layer: Layer, fading: tuple[bool, bool, bool, bool]) -> np.ndarray:
    after = before.copy()
    paint(to_tensor(before), layer, 0, fading, after)
    return after


def layer(share: torch.Tensor, moved: float = 0.0, mask: float = 0.0) -> Layer:
    size = share.shape[-1]
    return Layer(
        torch.full((1, 2, size, size), moved),
        torch.full((1, 3, 2 * size, 2 * size), 1.0),
        torch.full((1, 1, 2 * size, 2 * size), mask),
        torch.zeros(1, 3, size // 2, size // 2),
        share,
    )


def test_what_stands_still_is_the_picture_itself():
    before = picture()
    assert np.array_equal(painted(before, layer(torch.ones(1, 1, 16, 16)), NONE), before)


@pytest.mark.parametrize("side", [120, 121, 64])
def test_places_without_a_share_stay_bit_for_bit(side):
    share = torch.zeros(1, 1, 16, 16)
    share[..., 6:9, 4:12] = 1
    before = picture(side)
    after = painted(before, layer(share, moved=0.3, mask=0.5), NONE)
    changed = (before != after).any(axis=2)
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
    cell = side / 16
    assert changed[round(7.5 * cell), round(8 * cell)]
    assert 5 * cell - 1 <= rows[0] and rows[-1] <= 10 * cell + 1
    assert 3 * cell - 1 <= columns[0] and columns[-1] <= 13 * cell + 1


def test_a_layer_fades_at_the_edges_where_the_picture_continues():
    before, over = picture(), layer(torch.ones(1, 1, 16, 16), mask=1.0)
    faded = painted(before, over, (True, False, False, True)).astype(int)
    assert np.abs(faded[0] - before[0]).max() <= 2 and np.abs(faded[:, -1] - before[:, -1]).max() <= 2
    assert (faded[-1, :40] == 255).all() and (faded[40:, 0] == 255).all()
    assert (np.diff(faded[:60, :60].mean(axis=(1, 2))) > -20).all()  # by and by


def test_frames_without_a_layer_of_their_own_replace_all():
    frames = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    after = picture(24)
    paint(to_tensor(after), Layer.of_frames(frames), 1, NONE, after)
    assert np.abs(after / 255 - frames[1].permute(1, 2, 0).numpy()).max() < 0.6 / 255


def test_bands_of_a_large_picture_meet(monkeypatch):
    before, over = picture(200), layer(torch.ones(1, 1, 16, 16), moved=0.1, mask=0.3)
    at_once = painted(before, over, ALL)
    monkeypatch.setattr("kinecast.models.pasting._BAND", 1000)
    assert np.abs(painted(before, over, ALL).astype(int) - at_once).max() <= 1


@pytest.fixture(scope="module")
def model() -> Mesh:
    return tiny_mesh()


@pytest.fixture(scope="module")
def motion(model) -> Motion:
    return model.detect(face_frames())


def test_a_source_holds_pixels_motion_and_state(model, motion):
    source = model.source(face_frames(1))
    torch.testing.assert_close(source.motion.vectors(), motion[:1].vectors(), atol=0.05, rtol=0)
    assert torch.equal(source.picture, face_frames(1))
    drawn = model.animate(model.encode_source(face_frames(1)), motion[:1], motion)
    assert float((model.render(source, motion) - drawn).abs().mean()) < 0.01


def test_the_landmarks_say_which_face_is_meant(model):
    left, right = face_frames(1), face_frames(1).flip(3)
    both = torch.nn.functional.pad(torch.cat((left, right), dim=3), (0, 0, 128, 128), mode="replicate")
    shift = np.array([256, 128, 0], np.float32)
    meant = model.source(both, face_points(1)[0] * [-1, 1, 1] + np.array([255, 0, 0]) + shift)
    other = model.source(both, face_points(1)[0] + np.array([0, 128, 0], np.float32))
    assert float(meant.motion.components["shift"][0, 0]) > 0.2 > -0.2 > float(other.motion.components["shift"][0, 0])


@pytest.mark.parametrize("size", [64, 100, 300])
def test_frames_come_in_any_size(model, motion, size):
    source = model.source(face_frames(1))
    frames = model.render(source, motion, size)
    assert frames.shape == (4, 3, size, size)
    same = torch.nn.functional.interpolate(model.render(source, motion), (size, size), mode="bilinear", antialias=True)
    assert float((frames - same).abs().mean()) < 0.08


def test_a_head_that_leaves_is_held_in_the_picture(model, motion):
    source = model.source(face_frames(1))
    gone = Motion("mesh", {**source.motion.components, "shift": source.motion.components["shift"] + 3.0})
    near = Motion("mesh", {**source.motion.components, "shift": source.motion.components["shift"] + 0.02})
    share = model.layer(source, gone).share[0, 0]
    assert float(share[:, 10:-2].max()) == 1  # the head is still drawn inside
    far = model.layer(source, near).moved - model.layer(source, source.motion).moved
    assert float(far.abs().max()) < 0.1
