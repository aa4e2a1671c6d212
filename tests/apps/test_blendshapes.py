"""Blendshapes and the head's pose as a table, one row per frame."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from faces_in_motion import face_frames
from helpers import make_clip, write_clip
from kinecast.apps.blendshapes import ARKIT, COLUMNS
from kinecast.cli import main
from kinecast.faces.landmarker import Landmarker
from kinecast.media.pictures import to_uint8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame of nothing, and three of a head that leans and comes nearer."""
    frames = torch.cat([torch.full((1, 3, 256, 256), 0.5), face_frames(3)])
    return write_clip(tmp_path_factory.mktemp("clip") / "face.mp4", to_uint8(frames))


def test_a_clips_blendshapes_are_the_landmark_networks(clip: Path, tmp_path: Path) -> None:
    table = tmp_path / "b.csv"
    assert (
        main(["extract", str(clip), "-o", str(tmp_path / "m.npz"), "--model", "mesh", "--blendshapes", str(table)]) == 0
    )
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(set(ARKIT)) == 52
    assert [row["time"] for row in rows] == ["0.0000", "0.0400", "0.0800", "0.1200"]
    assert [row["valid"] for row in rows] == ["0", "1", "1", "1"] and rows[0]["jawOpen"] == ""
    (face,) = Landmarker("cpu").detect(face_frames(1)[0])
    found = np.array([float(rows[1][name]) for name in ARKIT])
    np.testing.assert_allclose(found[:51], face.blendshapes[1:], atol=0.05)
    assert found[51] == 0 and found.max() > 0.3
    roll = np.diff([float(row["rotation_z"]) for row in rows[1:]])
    np.testing.assert_allclose(np.abs(roll), 0.05, atol=0.02)
    assert np.ptp(np.sign(roll)) == 0
    near = [float(row["translation_z"]) for row in rows[1:]]
    assert near[0] < near[2] < 0  # z grows towards the camera, which is at 0


def test_who_shows_no_face_has_no_blendshapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, table = make_clip(tmp_path / "other.mp4", frames=2), tmp_path / "b.csv"
    assert main(["extract", str(other), "-o", str(tmp_path / "m.npz"), "--blendshapes", str(table)]) == 1
    assert "blendshapes: expected the model mesh, which finds faces, found fomm" in capsys.readouterr().err
    assert not table.exists() and not (tmp_path / "m.npz").exists()
