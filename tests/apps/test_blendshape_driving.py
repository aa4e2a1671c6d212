"""Tables of blendshapes as driving motion: what `extract` wrote comes back, and Live Link Face's names are known."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from faces_in_motion import face_frames, tiny_mesh
from helpers import write_clip
from kinecast import KinecastError
from kinecast.apps.blendshape_driving import blendshape_motion, load_motion
from kinecast.apps.blendshapes import ARKIT, Blendshapes
from kinecast.apps.extraction import extract
from kinecast.apps.portrait.api import animate
from kinecast.apps.portrait.driving import is_motion
from kinecast.media.pictures import to_uint8
from kinecast.models.mesh.arkit import blendshape_map
from kinecast.models.mesh.controls import EYES, LIPS
from kinecast.models.mesh.geometry import rotation_matrix
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion
from kinecast.zoo import load_backbone
from tiny import tiny_fomm

LIVE_LINK = ["Timecode", "BlendShapeCount", *(name[0].upper() + name[1:] for name in ARKIT)]
LIVE_LINK += [f"{what}{axis}" for what in ("Head", "LeftEye", "RightEye") for axis in ("Yaw", "Pitch", "Roll")]


def write(path: Path, names: list[str], rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval=0)
        writer.writeheader()
        writer.writerows(rows)
    return path


def live_link(path: Path, rows: list[dict[str, object]], rate: int = 60) -> Path:
    """Write rows as Live Link Face does, from 10:02:59 on."""
    coded = [
        {"Timecode": f"10:0{2 + (59 + i // rate) // 60}:{(59 + i // rate) % 60:02}:{i % rate:02}.000", **row}
        for i, row in enumerate(rows)
    ]
    return write(path, LIVE_LINK, [{"BlendShapeCount": 61, **row} for row in coded])


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return tiny_mesh()


@pytest.fixture(scope="module")
def both(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> tuple[Motion, Path]:
    """The motion of a clip that leans and comes nearer, and the same as a table."""
    folder = tmp_path_factory.mktemp("table")
    clip = write_clip(folder / "lean.mp4", to_uint8(face_frames(4)))
    faces = Blendshapes()
    motion = extract(mesh, clip, faces=faces)
    faces.save(folder / "lean.csv", motion)
    return motion, folder / "lean.csv"


def turns(motion: Motion) -> torch.Tensor:
    """Return the rotations (T, 3, 3) since the first frame."""
    rotation = rotation_matrix(motion.components["rotation"])
    return rotation @ rotation[:1].mT


def test_the_pose_of_a_table_is_that_of_the_clip(mesh: Mesh, both: tuple[Motion, Path]) -> None:
    expected, path = both
    found = blendshape_motion(mesh, path)
    assert len(found) == 4 and found.fps == pytest.approx(25) and found.times is None and found.valid_frames().all()
    torch.testing.assert_close(turns(found), turns(expected), atol=0.04, rtol=0)
    for name, tolerance in (("shift", 0.03), ("scale", 0.03)):
        change, wanted = (m.components[name] - m.components[name][:1] for m in (found, expected))
        torch.testing.assert_close(change, wanted, atol=tolerance, rtol=0)
    assert expected.components["scale"][3] - expected.components["scale"][0] > 0.05  # it does come nearer


def test_a_portrait_moves_as_by_the_clip(mesh: Mesh, both: tuple[Motion, Path]) -> None:
    motion, path = both
    source = to_uint8(face_frames(1))[0]
    by_clip = np.stack(list(animate(source, motion, model=mesh, size=64))).astype(float)
    by_table = np.stack(list(animate(source, path, model=mesh, size=64)))
    moved = np.abs(by_clip[3] - by_clip[0]).mean()
    assert np.abs(by_table[3] - by_clip[3]).mean() < 0.5 * moved
    assert is_motion(path) and load_motion(mesh, path).dim == mesh.motion_dim


def test_live_link_face_is_read(mesh: Mesh, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"HeadYaw": 0.01 * i, "JawOpen": i / 90, "EyeBlinkLeft": 0.2} for i in range(90)]
    found = blendshape_motion(mesh, live_link(tmp_path / "take.csv", rows))
    assert len(found) == 90 and found.fps == pytest.approx(60)
    # Yaw is about the axis that points up; in a picture y points down.
    torch.testing.assert_close(found.components["rotation"][89], torch.tensor([0.0, -0.89, 0.0]), atol=1e-4, rtol=0)
    shift = found.components["shift"] - found.components["shift"][:1]
    assert (
        shift[89, 0] > 0.05 and shift[89, 1].abs() < 0.05
    )  # about the neck: the face goes to the right of the picture
    assert found.components["scale"].unique().numel() == 1
    assert (found.components["expression"][89] - found.components["expression"][0]).norm() > 0.05


def test_rates_of_time_codes(mesh: Mesh, tmp_path: Path) -> None:
    for rate in (24, 30, 60):
        path = live_link(tmp_path / f"{rate}.csv", [{}] * (rate + 4), rate)
        assert blendshape_motion(mesh, path).fps == pytest.approx(rate)


def test_jaw_and_lids_move_lips_and_lids() -> None:
    model = load_backbone("mesh", "cpu", "eager")
    assert isinstance(model, Mesh)
    controls = model.controls()
    scores = torch.zeros(3, 51)
    for row, names in enumerate([(), ("jawOpen",), ("eyeBlinkLeft", "eyeBlinkRight")]):
        for name in names:
            scores[row, ARKIT.index(name)] = 0.6
    openings = torch.stack([controls.openings(e) for e in blendshape_map().expression(model, scores).double()])
    assert openings[1, LIPS] > openings[0, LIPS] + 0.3 * controls.widths[LIPS]
    assert (openings[2, EYES] < openings[0, EYES] - 0.05).all()
    assert blendshape_map().offsets.norm(dim=2).max() < 1.5  # units of the head: no score moves a point wildly


def test_a_person_the_map_has_not_seen_opens_lips_as_in_the_clip(data_folder: Path, tmp_path: Path) -> None:
    model = load_backbone("mesh", "cpu", "eager")
    with (data_folder / "people" / "index.tsv").open() as lines:
        clip = next(row["file"] for row in csv.DictReader(lines, delimiter="\t") if row["split"] == "validate")
    faces = Blendshapes()
    expected = extract(model, data_folder / "people" / clip, limit=30, faces=faces)
    faces.save(tmp_path / "face.csv", expected)
    found = blendshape_motion(model, tmp_path / "face.csv")
    assert isinstance(model, Mesh)
    controls = model.controls()
    one, other = (
        torch.stack([controls.openings(e)[LIPS] for e in motion.components["expression"].double()]).numpy()
        for motion in (expected, found)
    )
    assert np.corrcoef(one, other)[0, 1] > 0.7
    torch.testing.assert_close(turns(found), turns(expected), atol=0.06, rtol=0)


def test_rows_without_a_face_hold(mesh: Mesh, both: tuple[Motion, Path], tmp_path: Path) -> None:
    lines = both[1].read_text().splitlines()
    gone = lines[2].split(",")
    lines[2] = ",".join([*gone[:2], "0", *[""] * (len(gone) - 3)])
    (tmp_path / "gap.csv").write_text("\n".join(lines))
    found = blendshape_motion(mesh, tmp_path / "gap.csv")
    assert found.valid_frames().tolist() == [True, False, True, True]
    for values in found.components.values():
        torch.testing.assert_close(values[1], values[0])


def test_times_of_their_own_are_kept(mesh: Mesh, both: tuple[Motion, Path], tmp_path: Path) -> None:
    lines = both[1].read_text().splitlines()
    for line, time in zip((1, 2, 3, 4), ("0", "0.04", "0.5", "0.54"), strict=True):
        cells = lines[line].split(",")
        lines[line] = ",".join([cells[0], time, *cells[2:]])
    (tmp_path / "uneven.csv").write_text("\n".join(lines))
    found = blendshape_motion(mesh, tmp_path / "uneven.csv")
    assert found.times is not None
    np.testing.assert_allclose(found.times, [0, 0.04, 0.5, 0.54])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a table"),
        ("jawOpen\n", "expected a line of names and a row for each frame, found 1 lines"),
        ("a,b\n1,2\n", "expected columns of ARKit's names"),
        ("jawOpen,x\n1\n", "expected 2 cells in line 2, found 1"),
        ("jawOpen\n0.1\nwide\n", "expected a number for jawOpen in line 3, found 'wide'"),
        ("jawOpen\nnan\n", "expected a number for jawOpen in line 2, found 'nan'"),
        ("jawOpen\n1e99\n", "found '1e99'"),
        ("jawOpen,time\n0,0\n0,0\n", "expected times that grow, found one in line 3"),
        ("jawOpen,Timecode\n0,soon\n", "expected a time code 00:00:00:00.000 in line 2, found 'soon'"),
        ("jawOpen,valid\n0,0\n", "expected a face in some row, found none"),
    ],
)
def test_what_is_no_table_is_one_line(mesh: Mesh, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(KinecastError) as caught:
        blendshape_motion(mesh, path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_and_other_backbones(mesh: Mesh, both: tuple[Motion, Path], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KinecastError, match="expected a table of comma-separated values"):
        blendshape_motion(mesh, tmp_path / "x.csv")
    with pytest.raises(KinecastError, match="expected the model mesh .*, found fomm"):
        blendshape_motion(tiny_fomm(), both[1])
