"""`kinecast animate` with a portrait: what is done without options, and what each option changes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.data import astronaut

from faces_in_motion import face_frames, tiny_mesh
from helpers import draw_frames, write_clip
from kinecast.media.pictures import to_uint8, write_image
from kinecast.media.video import read_frames
from kinecast.models.checkpoints import save_backbone


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mesh") / "mesh.safetensors"
    save_backbone(tiny_mesh(), path, {})
    return path


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut, and a strip of something else at the right: (320, 480)."""
    picture = np.full((320, 480, 3), 90, np.uint8)
    picture[:, :352] = astronaut()[:320, :352]
    path = tmp_path_factory.mktemp("portrait") / "me.png"
    write_image(path, picture)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "lean.mp4", to_uint8(face_frames(4)))


@pytest.fixture
def animate(run: Callable[..., Any], mesh: Path, portrait: Path, clip: Path, tmp_path: Path) -> Callable[..., Any]:
    def call(*options: object, source: Path = portrait, driving: Path = clip, output: object = "out.mp4") -> Any:
        to = [] if output is None else ["-o", tmp_path / str(output)]
        where = ["--source", source, "--driving", driving, "--model", mesh, "--engine", "eager"]
        return run("animate", *where, *to, *options)

    return call


def whole(path: Path) -> list[np.ndarray]:
    return list(read_frames(path, crop="none"))


def test_a_portrait_comes_back_whole(animate: Callable[..., Any], tmp_path: Path, portrait: Path) -> None:
    result = animate("--json", "--quality", 1)
    assert result.code == 0, result.err
    assert [line for line in result.err.splitlines() if line.startswith("source: face 1 at x ")]
    assert json.loads(result.out)["frames"] == 4
    frames, picture = whole(tmp_path / "out.mp4"), next(read_frames(portrait, crop="none"))
    assert len(frames) == 4 and frames[0].shape == picture.shape
    away = np.abs(frames[3][:, 370:].astype(int) - picture[:, 370:])
    assert away.max() <= 12  # what the codec of the clip does
    assert np.abs(frames[3][60:160, 180:270].astype(int) - picture[60:160, 180:270]).mean() > 3


@pytest.mark.parametrize(
    ("options", "shape"),
    [(["--square"], (512, 512)), (["--size", 96], (96, 96)), (["--square", "--size", 64], (64, 64))],
)
def test_the_square_alone(animate: Callable[..., Any], tmp_path: Path, options: list[object], shape: Any) -> None:
    result = animate(*options, "--limit", 2)
    assert result.code == 0, result.err
    frames = whole(tmp_path / "out.mp4")
    assert len(frames) == 2 and frames[0].shape[:2] == shape


def test_a_part_of_the_clip(animate: Callable[..., Any], tmp_path: Path) -> None:
    assert animate("--start", 0.04, "--end", 0.12, "--size", 64, "--json").code == 0
    assert len(whole(tmp_path / "out.mp4")) == 2


def test_motion_is_relative_unless_absolute_is_asked_for(animate: Callable[..., Any], tmp_path: Path) -> None:
    for name, options in (("r", []), ("s", ["--relative"]), ("a", ["--absolute"])):
        assert animate("--size", 64, "--limit", 1, *options, output=f"{name}.mp4").code == 0
    relative, same, absolute = (whole(tmp_path / f"{name}.mp4")[0].astype(int) for name in "rsa")
    assert np.array_equal(relative, same) and np.abs(relative - absolute).mean() > 3


def test_a_preview_comes_first(animate: Callable[..., Any], tmp_path: Path) -> None:
    result = animate("--preview", tmp_path / "look.png", output=None)
    assert result.code == 0 and f"wrote {tmp_path / 'look.png'}" in result.err
    assert next(read_frames(tmp_path / "look.png", crop="none")).shape[0] > 512
    assert [path.name for path in tmp_path.iterdir()] == ["look.png"]


def test_motion_of_a_file(
    run: Callable[..., Any], animate: Callable[..., Any], mesh: Path, clip: Path, tmp_path: Path
) -> None:
    assert run("extract", clip, "-o", tmp_path / "m.npz", "--model", mesh, "--engine", "eager").code == 0
    assert animate("--limit", 3, driving=tmp_path / "m.npz").code == 0
    frames = whole(tmp_path / "out.mp4")
    assert len(frames) == 3 and frames[0].shape == (320, 480, 3)


def test_a_folder_is_done_once(animate: Callable[..., Any], portrait: Path, tmp_path: Path) -> None:
    folder = tmp_path / "people"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(portrait, folder / name)
    first = animate("--size", 64, "--limit", 1, "--json", source=folder, output="out")
    assert first.code == 0 and json.loads(first.out)["done"] == 2, first.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.mp4", "b.json", "b.mp4"]
    again = animate("--size", 64, "--limit", 1, "--json", source=folder, output="out")
    assert json.loads(again.out)["done"] == 0 and "2 of 2 outputs exist already" in again.err
    other = animate("--size", 80, "--limit", 1, source=folder, output="out")
    assert other.code == 1 and "add --overwrite" in other.error_lines[0]
    done = animate("--size", 80, "--limit", 1, "--overwrite", "--workers", 1, "--json", source=folder, output="out")
    assert done.code == 0 and json.loads(done.out)["done"] == 2, done.err
    assert [line for line in done.err.splitlines() if line.startswith("source: face 1 at x ")]


@pytest.mark.parametrize(
    ("options", "output", "words"),
    [
        (["--face", 2], "out.mp4", "face: expected a number up to 1, as the source shows one face, found 2"),
        (["--face", "left"], "out.mp4", "face: expected largest, all, or a number"),
        (["--size", 4], "out.mp4", "size: expected 16 to 2048 pixels, found 4"),
        (["--square", "--compare"], "out.mp4", "square: expected no --compare with it, found both"),
        (["--face", 1, "--forecast", "hold"], "out.mp4", "face: expected no --forecast with it"),
        (["--start", -1], "out.mp4", "start: expected seconds from 0, found -1"),
        (["--start", 3, "--end", 2], "out.mp4", "end: expected seconds after the start at 3, found 2"),
        ([], None, "output: expected an output clip, found none: name it with -o"),
        ([], "out", "expected a clip name ending in .mp4"),
        (["--workers", 2], "out.mp4", "workers and ray: expected a folder of sources or of clips, found one of each"),
        (["--preview", "look.gif"], "out.mp4", "expected a picture name ending in .png"),
    ],
)
def test_what_does_not_fit(animate: Callable[..., Any], tmp_path: Path, options: Any, output: Any, words: str) -> None:
    result = animate(*options, output=output)
    assert result.code == 1 and len(result.error_lines) == 1, result.err
    assert words in result.error_lines[0]
    assert list(tmp_path.iterdir()) == []


def test_options_of_portraits_need_one(run: Callable[..., Any], mesh: Path, clip: Path, tmp_path: Path) -> None:
    result = run("animate", "--driving", clip, "-o", tmp_path / "out.mp4", "--model", mesh, "--square")
    assert result.code == 1 and "square: expected a picture to animate, found none" in result.error_lines[0]


def test_a_source_without_a_face(animate: Callable[..., Any], tmp_path: Path) -> None:
    write_image(tmp_path / "none.png", draw_frames(1, (80, 96))[0])
    result = animate(source=tmp_path / "none.png")
    assert result.code == 1 and "source: expected a face in the 96x80 pixels, found none" in result.error_lines[0]


def test_a_rebuilt_clip_in_another_size(
    run: Callable[..., Any], mesh: Path, tiny: Path, clip: Path, tmp_path: Path
) -> None:
    common = ["animate", "--driving", clip, "-o", tmp_path / "out.mp4", "--engine", "eager", "--size", 96]
    result = run(*common, "--model", mesh, "--start", 0.08)
    assert result.code == 0, result.err
    frames = whole(tmp_path / "out.mp4")
    assert len(frames) == 2 and frames[0].shape == (96, 96, 3)
    result = run(*common, "--model", tiny)
    assert result.code == 1 and "size: expected 32, the size fomm was trained at, found 96" in result.error_lines[0]


def test_driving_frames_without_a_face_are_counted(animate: Callable[..., Any], tmp_path: Path) -> None:
    frames = to_uint8(face_frames(4))
    frames[2:] = 127
    clip = write_clip(tmp_path / "gone.mp4", frames)
    result = animate("--json", driving=clip)
    assert result.code == 0, result.err
    assert json.loads(result.out)["frames_without_face"] == 2
