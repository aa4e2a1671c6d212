"""Which backbone animates where none is named: the mesh for faces, and for all else one that needs none."""

from pathlib import Path

import pytest

from faces_in_motion import face_frames
from helpers import make_clip, write_clip
from kinecast.cli.common import DEFAULT_BACKBONE
from kinecast.cli.model_choice import AUTO, FACES, choose_for_call, choose_for_clips, choose_model, model_of
from kinecast.codec.stream import StreamReader
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
    assert choose_model(AUTO, face, None, CROPS, "transformer-mesh") == FACES


def test_motion_says_whose_it_is(tmp_path: Path) -> None:
    import torch

    widths = {"rotation": 3, "shift": 2, "scale": 1, "expression": 4}
    Motion(FACES, {n: torch.zeros(2, w) for n, w in widths.items()}, fps=25).save(tmp_path / "m.npz")
    assert choose_model(AUTO, tmp_path / "m.npz", None, CROPS) == FACES
    Motion("tps", {"value": torch.zeros(2, 5, 2)}, fps=25).save(tmp_path / "t.npz")
    assert choose_model(AUTO, tmp_path / "t.npz", None, CROPS) == DEFAULT_BACKBONE


def test_extract_encode_and_decode_take_the_mesh_for_faces(run, face: Path, tmp_path: Path) -> None:
    motion, stream, drawn = tmp_path / "m.npz", tmp_path / "m.kcm", tmp_path / "m.mp4"
    assert run("extract", face, "-o", motion).code == 0
    assert Motion.load(motion).backbone == FACES
    assert run("encode", face, "-o", stream).code == 0
    with stream.open("rb") as file:
        assert StreamReader(file).header.model_name == FACES
    result = run("decode", stream, "-o", drawn)
    assert result.code == 0, result.err
    assert result.err.startswith(f"{FACES} on ") and model_of(stream) == FACES


def test_what_shows_no_face_is_encoded_by_another_and_said(run, tmp_path: Path) -> None:
    clip, stream = make_clip(tmp_path / "other.mp4", frames=2), tmp_path / "m.kcm"
    result = run("encode", clip, "-o", stream)
    assert result.code == 0, result.err
    assert f"no face in the clip: selected {DEFAULT_BACKBONE}, which needs none\n" in result.err
    assert model_of(stream) == DEFAULT_BACKBONE


def test_of_several_clips_the_first_readable_one_decides(face: Path, tmp_path: Path, capsys) -> None:
    other, damaged = make_clip(tmp_path / "other.mp4", frames=2), tmp_path / "damaged.mp4"
    damaged.write_bytes(b"nothing")
    assert choose_for_clips(AUTO, [damaged, face, other], "center") == FACES
    assert choose_for_clips(AUTO, [other, face], "center") == DEFAULT_BACKBONE
    line = f"no face in the first clip, other.mp4: selected for all clips {DEFAULT_BACKBONE}, which needs none"
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_camera_is_taken_to_show_a_face_and_a_clip_is_looked_at(face: Path, tmp_path: Path) -> None:
    other = make_clip(tmp_path / "other.mp4", frames=2)
    assert choose_for_call(AUTO, None, None, "center", "auto") == FACES
    assert choose_for_call(AUTO, face, None, "center", "hold") == FACES
    assert choose_for_call(AUTO, other, None, "center", "auto") == DEFAULT_BACKBONE
    assert choose_for_call(AUTO, face, other, "center", "auto") == DEFAULT_BACKBONE
    assert choose_for_call(AUTO, None, None, "center", "vrnn") == DEFAULT_BACKBONE


def test_a_trained_forecaster_is_of_the_motion_whose_numbers_it_has(face: Path, tmp_path: Path) -> None:
    from kinecast.forecasting import build_forecaster
    from kinecast.forecasting.storage import save_forecaster

    for dim, taken in ((42, FACES), (60, DEFAULT_BACKBONE)):
        save_forecaster(build_forecaster("gru", dim), tmp_path / "f.safetensors")
        assert choose_model(AUTO, face, None, CROPS, str(tmp_path / "f.safetensors")) == taken


@pytest.mark.parametrize("command", ["extract", "encode"])
def test_a_face_is_chosen_by_its_number(run, command: str, tmp_path: Path) -> None:
    suffix = {"extract": "npz", "encode": "kcm"}[command]
    clip = write_clip(tmp_path / "two.mp4", to_uint8(face_frames(2)))
    call = (command, clip, "-o", tmp_path / f"o.{suffix}", "--face")
    assert "expected 2 faces or more in the first frames, found fewer: use --face 1" in run(*call, 2).err
    assert "face: expected a number from 1, counted from the left, found 0" in run(*call, 0).err
    assert "found --crop none: drop it" in run(*call, 1, "--crop", "none").err
    assert run(*call, 1).code == 0
