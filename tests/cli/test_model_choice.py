"""Which backbone animates where none is named: the mesh for faces, and for all else one that needs none."""

from pathlib import Path

import pytest

from faces_in_motion import face_frames
from helpers import make_clip, write_clip
from kinecast.cli.common import DEFAULT_BACKBONE
from kinecast.cli.model_choice import AUTO, FACES, choose_model
from kinecast.media.pictures import to_uint8, write_image
from kinecast.motion import Motion

CROPS = "center", "center"


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("face") / "face.mp4", to_uint8(face_frames(3)))


def test_faces_are_animated_by_the_mesh(face: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(tmp_path / "me.png", to_uint8(face_frames(1))[0])
    assert choose_model(AUTO, face, None, CROPS) == FACES
    assert choose_model(AUTO, face, tmp_path / "me.png", CROPS) == FACES
    assert capsys.readouterr().err == ""


def test_what_is_no_face_is_animated_by_another_and_said(
    face: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_clip(tmp_path / "other.mp4", frames=2)
    assert choose_model(AUTO, face, other, CROPS) == DEFAULT_BACKBONE
    assert choose_model(AUTO, other, other, CROPS) == DEFAULT_BACKBONE
    assert capsys.readouterr().err.splitlines() == [
        f"no face in the source: animated by {DEFAULT_BACKBONE}, which needs none",
        f"no face in the driving clip and the source: animated by {DEFAULT_BACKBONE}, which needs none",
    ]


def test_what_is_named_is_taken(tmp_path: Path) -> None:
    assert choose_model("tiny", tmp_path / "is not looked at", None, CROPS) == "tiny"


def test_a_bundled_forecaster_is_of_one_backbones_motion(face: Path) -> None:
    assert choose_model(AUTO, face, None, CROPS, "vrnn") == DEFAULT_BACKBONE
    assert choose_model(AUTO, face, None, CROPS, "velocity") == FACES


def test_motion_says_whose_it_is(tmp_path: Path) -> None:
    import torch

    widths = {"rotation": 3, "shift": 2, "scale": 1, "expression": 4}
    Motion(FACES, {n: torch.zeros(2, w) for n, w in widths.items()}, fps=25).save(tmp_path / "m.npz")
    assert choose_model(AUTO, tmp_path / "m.npz", None, CROPS) == FACES
    Motion("tps", {"value": torch.zeros(2, 5, 2)}, fps=25).save(tmp_path / "t.npz")
    assert choose_model(AUTO, tmp_path / "t.npz", None, CROPS) == DEFAULT_BACKBONE
