"""Training of the mesh backbone: landmarks found once a clip, augmented with their frames, and a run that learns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from faces_in_motion import TINY_MESH, face_frames, face_points, tiny_mesh
from helpers import write_clip
from kinecast.data.video_folder import CachedClip, PairSampler
from kinecast.errors import KinecastError
from kinecast.media.pictures import to_uint8
from kinecast.models.base import Backbone
from kinecast.models.checkpoints import load_backbone_file
from kinecast.models.mesh.following import POINTS
from kinecast.models.mesh.geometry import fit_pose
from kinecast.training.augment import Augmentation
from kinecast.training.backbone import train_backbone
from kinecast.training.backbone_config import BackboneTrainingConfig
from kinecast.training.mesh_losses import closeups, find_points

pytest.importorskip("lightning_fabric")
pytest.importorskip("tensorboard")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two persons, one of whom is hidden in a frame, and a clip without any face."""
    folder = tmp_path_factory.mktemp("faces")
    frames = to_uint8(face_frames(4))
    hidden = frames.copy()
    hidden[1] = 128
    write_clip(folder / "id1_a.mp4", np.concatenate([hidden, frames]), key_every=1)
    write_clip(folder / "id2_a.mp4", frames[:, :, ::-1], key_every=1)
    write_clip(folder / "id3_a.mp4", np.full_like(frames, 90))
    return folder


def configured(clips: Path, output: Path, **changes) -> BackboneTrainingConfig:
    settings = {
        "backbone": "mesh",
        "data": [str(clips)],
        "output": str(output),
        "validate": "id2",
        "model": TINY_MESH,
        "loss": {"perceptual": 0.0},
        "steps": 2,
        "batch_size": 2,
        "far_pairs": 0.5,
        "learning_rate": 3e-3,
        "average": 0.5,
        "checkpoint_every": 100,
        "validate_every": 100,
        "validation_frames": 3,
        "accelerator": "cpu",
    }
    return BackboneTrainingConfig.from_dict(settings | changes)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_learns_and_its_model_works(clips, tmp_path, precision):
    found = []
    for steps in (1, 40):
        changes = {"steps": steps, "precision": precision, "cache": str(tmp_path / "frames")}
        found.append(train_backbone(configured(clips, tmp_path / str(steps), **changes), lambda line: None))
    assert found[1]["mae"] < 0.9 * found[0]["mae"]
    model: Backbone = load_backbone_file(tmp_path / "40" / "model.safetensors")
    assert model.name == "mesh" and model.frame_size == (64, 64)
    frames = face_frames(2)
    motion = model.detect(frames)
    assert model.animate(model.encode_source(frames[:1]), motion[:1], motion).shape == frames.shape


def test_a_run_is_resumed_with_its_mean_face(clips, tmp_path):
    lines: list[str] = []
    for steps in (1, 3):
        train_backbone(configured(clips, tmp_path / "run", steps=steps), lines.append)
    train_backbone(configured(clips, tmp_path / "straight", steps=3, decay_from=1.0), lines.append)
    assert "resuming from step 1" in lines
    again, straight = (load_backbone_file(tmp_path / name / "model.safetensors") for name in ("run", "straight"))
    assert torch.equal(again.state_dict()["topology.mean"], straight.state_dict()["topology.mean"])


def test_points_are_found_once_and_frames_without_a_face_are_left_out(clips, tmp_path, monkeypatch):
    train_backbone(configured(clips, tmp_path / "run", steps=1), lambda line: None)
    found = {path.name.split("-")[0]: np.load(path) for path in (tmp_path / "run" / "frames").glob("*.found.npy")}
    known = {name: np.isfinite(points).all(axis=(1, 2)).tolist() for name, points in found.items()}
    assert known["id1_a"] == [True, False, *[True] * 6] and not any(known["id3_a"])
    monkeypatch.setattr("kinecast.training.mesh_losses.Tracker", None)  # is not asked again
    train_backbone(configured(clips, tmp_path / "run", steps=2), lambda line: None)


def test_pairs_come_with_their_points_and_may_be_far_apart():
    points = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    points[::3] = np.nan
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    clip = CachedClip("a", "a", frames, points)
    distance = {}
    for far in (0.0, 1.0):
        pairs = PairSampler([clip], seed=0, far=far).pairs(0, 200)
        assert pairs.points is not None and np.array_equal(pairs.points[:, :, 0, 0], pairs.frames[:, :, 0, 0, 0])
        distance[far] = float(np.abs(pairs.points[:, 0, 0, 0] - pairs.points[:, 1, 0, 0]).mean())
    assert distance[1.0] > 1.5 * distance[0.0]


def test_points_move_with_the_pictures():
    """Landmarks found in changed frames are the changed landmarks."""
    frames, points = face_frames(2), torch.from_numpy(face_points(2))
    augmentation = Augmentation(flip=True, zoom=0.1, shift=0.03, turn=0.1, hue=0.0)
    for seed in range(4):
        random = torch.Generator().manual_seed(seed)
        source, driving, _, moved = augmentation.apply_to_faces(frames[:1], frames[1:], points[None], random)
        assert moved is not None
        for frame, wanted in zip((source, driving), moved[0], strict=True):
            found = torch.from_numpy(find_points(to_uint8(frame))[0, :POINTS])
            assert (found - wanted)[:, :2].norm(dim=1).mean() < 0.02, "1.3 pixels of 128"
            assert (found - wanted)[:, 2].abs().mean() < 0.05


def test_the_mean_face_and_its_components_are_of_the_people():
    model = tiny_mesh()
    mean = model.topology.mean
    assert mean[:, 0].min() == pytest.approx(-float(mean[:, 0].max()), abs=0.02), "as wide to the left as to the right"
    basis = model.expression.basis.flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(4), atol=1e-4, rtol=0)
    points = torch.from_numpy(face_points(1))
    assert fit_pose(points, mean).scale.item() == pytest.approx(0.4, abs=0.2)


def test_closeups_show_mouth_and_eyes():
    points = torch.from_numpy(face_points(2))[None]
    marked = torch.zeros(1, 3, 64, 64)
    for corner in (61, 291, 33, 263):
        x, y = ((points[0, 1, corner, :2] + 1) * 32).long().tolist()
        marked[:, :, y, x] = 1
    mouth, eyes = closeups(marked, points)
    assert mouth.shape == (1, 3, 80, 80) and eyes.shape == (1, 3, 64, 112)
    assert mouth.amax() > 0.3 and eyes.amax() > 0.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_motion": False}, "expected no train_motion for a mesh, which learns no motion"),
        ({"far_pairs": 2.0}, r"expected far_pairs in \[0, 1\], found 2.0"),
        ({"model": {"size": 60}}, "mesh config: expected a size in multiples of 32, found 60"),
        ({"backbone": "fomm", "model": {}, "downscale": 2}, "expected downscale 1 of a fomm, found 2"),
    ],
)
def test_what_cannot_be_is_refused(clips, tmp_path, changes, message):
    with pytest.raises(KinecastError, match=message):
        configured(clips, tmp_path / "run", **changes)


def test_a_run_says_how_it_was_made(clips, tmp_path):
    train_backbone(configured(clips, tmp_path / "run", steps=1, downscale=2), lambda line: None)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["downscale"] == 2
