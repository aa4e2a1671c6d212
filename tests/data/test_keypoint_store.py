import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinecast.data.keypoint_store import load_series
from kinecast.data.video_folder import person_of
from kinecast.errors import KinecastError
from kinecast.motion import Motion


def motion(frames: int = 5) -> Motion:
    return Motion("fomm", {"value": torch.rand(frames, 3, 2), "jacobian": torch.rand(frames, 3, 2, 2)}, fps=25.0)


def test_a_folder_of_motion_files_and_arrays(tmp_path: Path) -> None:
    extracted = motion()
    extracted.save(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", np.ones((4, 18)))
    np.savez(tmp_path / "c.npz", anything=np.zeros((3, 18), np.float16))
    (tmp_path / "notes.txt").write_text("not motion")
    series = load_series(tmp_path)
    assert {name: tuple(m.shape) for name, m in series.items()} == {"a": (5, 18), "b": (4, 18), "c": (3, 18)}
    assert torch.equal(series["a"], extracted.vectors())
    assert all(m.dtype == torch.float32 for m in series.values())


def test_one_file_of_many_series(tmp_path: Path) -> None:
    np.savez(tmp_path / "prices.npz", x=np.ones((4, 8)), y=np.zeros((9, 8), np.int32))
    assert {name: len(m) for name, m in load_series(tmp_path / "prices.npz").items()} == {"x": 4, "y": 9}
    (tmp_path / "prices.npz").rename(tmp_path / "PRICES.NPZ")
    assert set(load_series(tmp_path)) == {"x", "y"}


def test_the_shared_keypoint_format(tmp_path: Path) -> None:
    first, second = motion(5), motion(7)
    arrays: dict[str, Any] = {
        f"id{i}_x.{name}": part.numpy() for i, m in enumerate((first, second)) for name, part in m.components.items()
    }
    np.savez(tmp_path / "keypoints.npz", **arrays)
    series = load_series(tmp_path / "keypoints.npz")
    assert torch.equal(series["id0_x"], first.vectors()) and torch.equal(series["id1_x"], second.vectors())


def test_the_shared_keypoints(data_folder: Path) -> None:
    series = load_series(data_folder / "voxceleb/keypoints_fomm_vox256.npz")
    assert len(series) == 34 and sum(map(len, series.values())) == 8381
    assert all(m.shape[1] == 60 for m in series.values())


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([[0.0, np.nan], [1.0, 1.0]]), "y": np.zeros((2, 2))}, "x: expected finite numbers.*in frame 0"),
        ({"x": np.zeros((4, 2)), "y": np.zeros((4, 3))}, "found 2 numbers per frame in x and 3 in y"),
        ({"x": np.zeros((0, 2)), "y": np.zeros((4, 2))}, r"x: expected a series \(T, D\) of at least 1 frame"),
        ({"x": np.zeros(4), "y": np.zeros(4)}, r"x: expected a series \(T, D\) .* found \(4,\)"),
        ({"x": np.array(["a"]), "y": np.zeros((4, 2))}, "expected arrays of numbers, found one of <U1"),
        (
            {"a.value": np.zeros((4, 3, 2)), "a.jacobian": np.zeros((5, 3, 2, 2))},
            "expected value .T, K, 2. and jacobian",
        ),
        ({"a.value": np.zeros((4, 3, 2)), "a.wings": np.zeros((4, 3))}, "found 'a.wings'"),
        ({"a.jacobian": np.zeros((4, 3, 2, 2)), "b.value": np.zeros((4, 3, 2))}, "expected value"),
    ],
)
def test_foreign_series_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "series.npz", **arrays)
    with pytest.raises(KinecastError, match=message) as caught:
        load_series(tmp_path / "series.npz")
    assert "\n" not in str(caught.value)


def test_missing_empty_damaged_and_pickled_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KinecastError, match="found nothing there"):
        load_series(tmp_path / "none.npz")
    with pytest.raises(KinecastError, match=r"expected motion files \(.npz, .npy\), found none"):
        load_series(tmp_path)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(KinecastError, match="damaged.npz: expected arrays of numbers, found BadZipFile"):
        load_series(tmp_path / "damaged.npz")
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps({"motion": 1}))
    with pytest.raises(KinecastError, match="pickled.npy: expected arrays of numbers, found a file of another kind"):
        load_series(tmp_path / "pickled.npy")


def test_series_of_one_name_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 2)))
    np.savez(tmp_path / "a.npz", np.ones((4, 2)))
    with pytest.raises(KinecastError, match="found 'a' twice"):
        load_series(tmp_path)


def test_stretches_of_valid_frames_are_series_of_one_person(tmp_path):
    valid = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1], dtype=torch.bool)
    value = torch.arange(8.0)[:, None, None].expand(8, 1, 2).contiguous()
    Motion("fomm", {"value": value}, fps=25, valid=valid).save(tmp_path / "person.npz")
    found = load_series(tmp_path)
    assert {name: series[:, 0].tolist() for name, series in found.items()} == {
        "person": [0, 1],
        "person~2": [3],
        "person~3": [5, 6, 7],
    }
    assert {person_of(name) for name in found} == {"person"}
    assert person_of("id10291_x~2") == "id10291"
