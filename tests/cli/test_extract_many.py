"""`kinecast extract` of several clips: a file each, what is done stays, what is damaged is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import draw_frames, write_clip
from kinecast.data.keypoint_store import load_series
from kinecast.media.pictures import to_tensor, write_image
from kinecast.motion import Motion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    frames = draw_frames(30, (32, 32))
    for i, name in enumerate(("a", "b", "c")):
        write_clip(folder / f"{name}.mp4", frames[6 * i : 6 * i + 8 + i])
    return folder


def times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.npz")}


def test_a_folder_becomes_a_folder_of_what_single_clips_give(run, tiny: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"no film")
    out = tmp_path / "out"
    command = ("extract", folder, "-o", out, "--model", tiny, "--device", "cpu", "--limit", 9, "--json")
    result = run(*command)
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert facts["clips"] == {"a": 8, "b": 9, "c": 9} and list(facts["left_out"]) == ["broken"]
    assert "skipped: " in result.err and "broken.mp4: expected a clip" in result.err
    for name in "abc":
        alone = tmp_path / f"{name}.npz"
        assert run(*command[:1], folder / f"{name}.mp4", "-o", alone, *command[4:]).code == 0
        torch.testing.assert_close(Motion.load(out / f"{name}.npz").vectors(), Motion.load(alone).vectors())
        assert Motion.load(out / f"{name}.npz").clip == f"{name}.mp4"
    assert sorted(load_series(out)) == ["a", "b", "c"]


def test_it_goes_on_and_does_again_what_changed(run, tiny: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("extract", folder, "-o", out, "--model", tiny, "--device", "cpu", "--json")
    assert run(*command).code == 0
    first = times(out)
    with (out / "extract.jsonl").open("a") as lines:
        lines.write('{"clip": "a", "ke')  # what a kill leaves
    (out / "b.npz").unlink()
    write_clip(folder / "c.mp4", 255 - draw_frames(7, (32, 32)))
    result = run(*command)
    assert result.code == 0 and "2 of 3 clips to do" in result.err
    assert json.loads(result.out)["clips"] == {"a": 8, "b": 9, "c": 7}
    changed = {name for name, time in times(out).items() if first.get(name) != time}
    assert changed == {"b.npz", "c.npz"}
    assert "0 of 3 clips to do" in run(*command).err
    assert "3 of 3 clips to do" in run(*command, "--limit", 5).err
    assert len(Motion.load(out / "a.npz")) == 5
    assert "0 of 3 clips to do" in run(*command, "--limit", 5).err


def test_pictures_in_a_folder_are_one_clip(run, tiny: Path, folder: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i, frame in enumerate(draw_frames(4, (32, 32))):
        write_image(pictures / f"{i}.png", to_tensor(frame[None]))
    assert run("extract", pictures, "-o", tmp_path / "one.npz", "--model", tiny).code == 0
    assert len(Motion.load(tmp_path / "one.npz")) == 4
    result = run("extract", pictures, folder / "a.mp4", "-o", tmp_path / "out", "--model", tiny)
    assert result.code == 0, result.err
    both = [Motion.load(tmp_path / "out" / f"{name}.npz").vectors().numpy() for name in ("pictures", "a")]
    assert np.shape(both[0]) == (4, 18) and np.shape(both[1]) == (8, 18)


def test_a_users_mistake_is_one_line(run, tiny: Path, folder: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out", "--model", tiny)
    (tmp_path / "a.mp4").write_bytes(b"x")
    for arguments, words in (
        ((folder, tmp_path / "a.mp4", *out), "expected clips of different names"),
        ((folder / "a.mp4", *out, "--workers", 2), "expected several clips, or a folder of them, found one"),
        ((tmp_path / "a.mp4", tmp_path / "gone.mp4", *out), "expected clips that can be read, found none among 2"),
        ((folder, *out, "--workers", 0), "workers: expected at least 1, found 0"),
    ):
        result = run("extract", *arguments)
        assert result.code == 1 and len(result.error_lines) == 1 and words in result.error_lines[0], result.err
