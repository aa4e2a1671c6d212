"""Background and shoulders: how far they have moved is found, travels, and moves the picture."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from faces_in_motion import face_frames, face_points, tiny_mesh
from kinecast.models.mesh.drawing import candidates, draw
from kinecast.models.mesh.geometry import fit_pose
from kinecast.models.mesh.scene import SceneTracker
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion

SIDE = 256


@pytest.fixture(scope="module")
def model():
    return tiny_mesh(scene=True)


def textured(seed: int) -> torch.Tensor:
    """Return a smooth random picture (3, 2 SIDE, 2 SIDE), of which a window is seen."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(1, 3, SIDE // 4, SIDE // 4, generator=random)
    return F.interpolate(noise, size=(2 * SIDE, 2 * SIDE), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def scene(background: tuple[int, int], shoulders: tuple[int, int]) -> torch.Tensor:
    """Return a frame of a grey head over two textures moved by whole pixels (x, y)."""
    points = torch.from_numpy(face_points()[0])
    chin = round(float((points[:, 1].max() + 1) * SIDE / 2))
    parts = []
    for seed, (x, y) in ((0, background), (1, shoulders)):
        left, top = SIDE // 2 - x, SIDE // 2 - y
        parts.append(textured(seed)[:, top : top + SIDE, left : left + SIDE])
    frame = parts[0].clone()
    frame[:, chin + 2 :] = parts[1][:, chin + 2 :]
    middle = (points[:, :2].mean(dim=0) + 1) * SIDE / 2
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    frame[:, ((columns - middle[0]) ** 2 + (rows - middle[1]) ** 2) < (chin - middle[1]) ** 2] = 0.5
    return frame


def tracked(frames: list[torch.Tensor]) -> torch.Tensor:
    tracker, points = SceneTracker(), torch.from_numpy(face_points()[0])
    return torch.stack([tracker(frame, points) for frame in frames]) * (SIDE / 2)


def test_background_and_shoulders_are_found_apart():
    paths = [(0, 0), (3, 1), (6, 2), (9, 2)], [(0, 0), (-2, 1), (-4, 2), (-4, 4)]
    found = tracked([scene(*at) for at in zip(*paths, strict=True)])
    wanted = torch.tensor([(*ground, *body) for ground, body in zip(*paths, strict=True)]).float()
    assert (found - wanted).abs().max() < 1.0, "a pixel of 256"


def test_what_leaves_and_comes_back_leaves_no_error_behind():
    found = tracked([scene((at, 0), (0, at)) for at in (0, 4, 8, 12, 8, 4, 0)])
    assert found[-1].abs().max() < 0.3


def test_light_that_changes_is_no_movement():
    still = scene((0, 0), (0, 0))
    assert tracked([still, (still * 0.9 + 0.08).clamp(0, 1)])[1].abs().max() < 0.3


@pytest.mark.parametrize("frame", [torch.full((3, SIDE, SIDE), 0.5), torch.full((3, 90, 160), 0.5)])
def test_where_nothing_is_to_be_seen_nothing_moves(frame):
    assert tracked([frame, frame, frame]).abs().max() < 1e-3


def test_another_picture_is_no_movement():
    found = tracked([scene((0, 0), (0, 0)), textured(5)[:, :SIDE, :SIDE], textured(6)[:, :SIDE, :SIDE]])
    assert found.isfinite().all() and found.abs().max() <= 0.6 * SIDE / 2


def test_after_a_change_of_place_movement_is_measured_there():
    elsewhere = textured(5)
    paths = [0] * 30 + [0, 2, 4, 6]
    frames = [elsewhere[:, 50 : 50 + SIDE, 50 - at : 50 - at + SIDE] for at in paths]
    found = tracked([scene((0, 0), (0, 0)), *frames])[:, 0]
    assert found[-1] - found[30] == pytest.approx(6, abs=1)


def test_candidates_read_where_background_and_shoulders_were(model):
    points = torch.from_numpy(face_points()[:1])
    pose = fit_pose(points, model.topology.mean)
    drawing = draw(points, points, model.topology, 32)
    moved = torch.tensor([[0.25, 0.0, 0.0, 0.5]])
    still, _ = candidates(drawing, pose, pose, model.topology, torch.zeros(1, 4))
    flows, _ = candidates(drawing, pose, pose, model.topology, moved)
    change = flows - still
    torch.testing.assert_close(change[0, 0], torch.tensor([-0.25, 0.0])[:, None, None].expand(2, 32, 32))
    assert change[0, 1:3].eq(0).all(), "the head is where it was"
    torch.testing.assert_close(change[0, 3, 1, -1], torch.full((32,), -0.5))
    assert change[0, 3, :, 0].eq(0).all(), "above the chin the neck goes with the head"


def test_the_background_is_not_read_where_the_head_was(model):
    points = torch.from_numpy(face_points()[:1])
    pose = fit_pose(points, model.topology.mean)
    gone = pose._replace(shift=pose.shift + torch.tensor([[0.8, 0.0, 0.0]]))
    moved = points + torch.tensor([0.8, 0.0, 0.0])
    still, panned = torch.zeros(1, 4), torch.tensor([[0.8, 0.0, 0.8, 0.0]])
    _, same = candidates(draw(points, points, model.topology, 32), pose, pose, model.topology, still)
    _, away = candidates(draw(points, moved, model.topology, 32), pose, gone, model.topology, still)
    _, along = candidates(draw(points, moved, model.topology, 32), pose, gone, model.topology, panned)
    x, y = ((points[0, :, :2].mean(dim=0) + 1) * 16).long().tolist()
    assert same[0, 0].eq(0).all(), "a head that stays hides what it hid"
    assert away[0, 0, y, x] < -9 and away[0, 0, y, 0] > -1
    assert along[0, 0, y].abs().max() < 0.5, "a camera that goes along uncovers nothing"


def test_the_scene_is_detected_and_travels(model):
    frames = face_frames(3)
    motion = model.detect(frames)
    assert motion.dim == model.motion_dim == 14 and motion.components["scene"][0].eq(0).all()
    assert motion.components["scene"][2].abs().max() > 0.01, "the whole picture turns"
    assert torch.equal(model.unflatten(motion.vectors()).vectors(), motion.vectors())


def test_motion_of_before_there_was_a_scene_is_of_one_that_stands_still(model):
    frames = face_frames(2)
    source = model.source(frames[:1])
    motion = model.detect(frames)
    still = replace(motion, components={**motion.components, "scene": torch.zeros(2, 4)})
    old = Motion("mesh", {name: part for name, part in motion.components.items() if name != "scene"})
    assert torch.equal(model.unflatten(old.vectors()).vectors(), still.vectors())
    assert torch.equal(model.render(source, old), model.render(source, still))
    assert not torch.equal(model.render(source, motion), model.render(source, still))


def test_a_later_frame_as_source_starts_anew(model):
    motion = model.detect(face_frames(3))
    since = model.since(motion, motion[1])
    assert since.components["scene"][1].eq(0).all() and since.components["scene"][2].any()
    assert torch.equal(since.components["shift"], motion.components["shift"])


@pytest.mark.parametrize("mode", ["relative", "mixed", "absolute"])
def test_the_scene_of_a_driving_clip_stays_there(model, mode):
    driving = model.detect(face_frames(3))
    source = model.source(face_frames(1)).motion
    moved = model.retarget(source, driving[0], Transfer(mode=mode))(driving)
    assert moved.components["scene"].eq(0).all() and len(moved) == 3
