"""The mesh backbone on a real face: the contract, and what it promises beyond it."""

import pytest
import torch

from faces_in_motion import face_frames, face_points, tiny_mesh
from kinecast.codec import model_identity, stream_identity
from kinecast.errors import KinecastError
from kinecast.models.base import Backbone
from kinecast.models.checkpoints import load_backbone_file, save_backbone
from kinecast.models.mesh.drawing import candidates, draw, grid_of
from kinecast.models.mesh.geometry import fit_pose
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.runtime import TOLERANCES, accelerate
from kinecast.runtime.convolution import bfloat16_available


@pytest.fixture(scope="module")
def model() -> Mesh:
    return tiny_mesh()


@pytest.fixture(scope="module")
def motion(model) -> Motion:
    return model.detect(face_frames())


def animated(model: Backbone, motion: Motion) -> torch.Tensor:
    return model.animate(model.encode_source(face_frames(1)), motion[:1], motion)


def test_motion_comes_and_goes(model, motion, tmp_path):
    vectors = model.flatten(motion)
    assert vectors.shape == (4, 6 + 4) == (4, model.motion_dim)
    again = model.unflatten(vectors)
    assert all(torch.equal(again.components[name], motion.components[name]) for name in motion.components)
    motion.save(tmp_path / "motion.npz")
    assert torch.equal(Motion.load(tmp_path / "motion.npz").vectors(), vectors)


def test_motion_says_how_the_head_moved(motion):
    """The frames turn by 0.05 radians each and come nearer by 3 %."""
    roll = motion.components["rotation"][:, 2]
    torch.testing.assert_close(roll.diff(), torch.full((3,), -0.05), atol=0.02, rtol=0)
    grown = motion.components["scale"][:, 0].diff().exp()
    torch.testing.assert_close(grown, torch.full((3,), 1.03), atol=0.02, rtol=0)


def test_a_face_is_followed_from_batch_to_batch_and_held_while_it_is_away(model, motion):
    follow, frames = model.follow(), face_frames()
    away = torch.full_like(frames[:1], 0.5)
    parts = [follow(frames[:2]), follow(away), follow(torch.cat((away, frames[2:]))), follow(away)]
    found = torch.cat([part.vectors() for part in parts])
    assert torch.equal(found[2], found[1]) and torch.equal(found[3], found[1]) and torch.equal(found[6], found[5])
    torch.testing.assert_close(found[[0, 1, 4, 5]], motion.vectors(), atol=0.1, rtol=0)
    valid = torch.cat([part.valid_frames() for part in parts])
    assert valid.tolist() == [True, True, False, False, True, True, False]
    first = model.detect(torch.cat((away, frames[:1])))
    assert torch.equal(first.vectors()[0], first.vectors()[1]) and first.valid_frames().tolist() == [False, True]


def test_before_the_first_face_the_mean_face_looks_ahead(model, motion):
    follow, away = model.follow(), torch.full((2, 3, 256, 256), 0.5)
    before, after = follow(away), follow(face_frames(1))
    assert not before.valid_frames().any() and after.valid is None
    assert torch.equal(before.vectors(), model.neutral().vectors().repeat(2, 1))
    assert before.components["rotation"].abs().max() < 1e-4 and before.components["expression"].abs().max() < 1e-4
    torch.testing.assert_close(after.vectors(), motion[:1].vectors(), atol=1e-4, rtol=0)
    with pytest.raises(KinecastError, match="expected a face in the frames, found none"):
        model.detect(away)


def test_without_a_face_it_says_so(model):
    empty = torch.full((2, 3, 128, 128), 0.5)
    with pytest.raises(KinecastError, match="expected a face in the frames, found none: show one"):
        model.detect(empty)
    with pytest.raises(KinecastError, match="source: expected a face, found none: choose a picture"):
        model.encode_source(empty[:1])


def test_standing_still_reads_every_place_where_it_is(model):
    points = torch.from_numpy(face_points()[:1])
    pose = fit_pose(points, model.topology.mean)
    drawing = draw(points, points, model.topology, 32)
    flows, _ = candidates(drawing, pose, pose, model.topology)
    still = grid_of(32, 32, points).expand_as(flows)
    torch.testing.assert_close(flows, still, atol=1e-4, rtol=0)
    assert 0.1 < float(drawing.inside.mean()) < 0.9


def test_pictures_come_in_the_size_of_the_source(model, motion):
    state = model.encode_source(face_frames(1, 160))
    assert model.animate(state, motion[:1], motion).shape == (4, 3, 160, 160)


def test_a_batch_equals_its_frames_one_at_a_time(model, motion):
    # In the network's own size: what is rounded in a coordinate counts for as many pixels as a picture has.
    state = model.encode_source(face_frames(1, 64))
    video = model.animate(state, motion[:1], motion)
    assert not video.requires_grad and 0 <= video.min() and video.max() <= 1
    for i in range(4):
        alone = model.animate(state, motion[:1], motion[i])
        torch.testing.assert_close(alone[0], video[i], atol=1e-5, rtol=0)


def test_only_the_change_of_expression_moves_the_source(model, motion):
    """Another person's shape in source and driving motion alike leaves the picture as it is."""
    shifted = motion.with_vectors(motion.vectors() + torch.cat((torch.zeros(6), torch.ones(4))))
    state = model.encode_source(face_frames(1))
    wanted = model.animate(state, motion[:1], motion)
    torch.testing.assert_close(model.animate(state, shifted[:1], shifted), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("adapt_scale", [True, False])
def test_relative_motion_without_change_is_the_source(model, motion, adapt_scale):
    source, initial = motion[0], motion[2]
    assert model.adapts_scale(source, initial)
    driving = initial.with_vectors(initial.vectors().expand(3, -1))
    found = model.relative_motion(source, driving, initial, adapt_scale)
    torch.testing.assert_close(found.vectors(), source.vectors().expand(3, -1), atol=1e-5, rtol=0)


def test_our_files_keep_every_bit(model, motion, tmp_path):
    save_backbone(model, tmp_path / "a.safetensors", {})
    again = load_backbone_file(tmp_path / "a.safetensors")
    assert again.config == model.config and model_identity(again) == model_identity(model)
    assert torch.equal(animated(again, motion), animated(model, motion))


def test_a_stream_is_of_the_basis_and_not_of_the_network(model):
    """Streams stay readable when the network that draws them is trained anew."""
    other = type(model)(model.config)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    assert model_identity(other) != model_identity(model) and stream_identity(other) == stream_identity(model)
    other.expression.basis[0] *= -1
    assert stream_identity(other) != stream_identity(model)


@pytest.mark.parametrize("precision", ["exact", *(["bf16"] if bfloat16_available() else [])])
def test_the_fast_engine_draws_the_same(model, motion, precision):
    fast = accelerate(model, "fast", precision)
    difference = (animated(fast, motion) - animated(model, motion)).abs()
    limit = TOLERANCES[precision]
    assert difference.max() <= limit.largest and difference.mean() <= limit.mean
    assert model_identity(fast) == model_identity(model) and stream_identity(fast) == stream_identity(model)
    state = model.encode_source(face_frames(1))  # of one engine serves another
    torch.testing.assert_close(fast.animate(state, motion[:1], motion), animated(fast, motion), atol=1e-6, rtol=0)
    assert fast.landmarker is model.landmarker
    with pytest.raises(KinecastError, match="an engine's weights are fixed"):
        fast.load_state_dict(model.state_dict())


def test_it_can_be_warmed_up_without_a_face(model):
    assert torch.isfinite(model.warm_up().vectors()).all()


def test_gradient_reaches_every_parameter():
    model = tiny_mesh().train()
    frames, points = face_frames(2, 64), torch.from_numpy(face_points(4)[:2])
    rendered = model.rebuild(frames[:1].expand(2, -1, -1, -1), points[:1].expand(2, -1, -1), points)
    (rendered.frames - frames).abs().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []
