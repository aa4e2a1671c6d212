"""Drawn animals: the same number gives the same pictures, they move, and the readers list them as MGIF."""

from pathlib import Path

import numpy as np
import pytest

from kinecast.cli import main
from kinecast.data.datasets import open_dataset
from kinecast.errors import KinecastError
from kinecast.research.data.animals import KINDS, AnimalDataConfig, animal, write_animals


@pytest.mark.parametrize("number", range(8))
def test_an_animal_moves_before_a_still_ground(number: int) -> None:
    kind, pictures = animal(0, number, 12, 32)
    assert kind == KINDS[number % 4] and pictures.shape == (12, 32, 32, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(animal(0, number, 12, 32)[1], pictures)
    changed = np.abs(pictures.astype(int) - pictures[0]).max(axis=(0, 3)) > 40
    assert 0.01 < changed.mean() < 0.6
    assert not changed[0].any() or kind == "bird"  # wings may reach the upper edge
    shown = np.abs(pictures.astype(int) - pictures[:, :1, :1]).max(axis=(2, 3)) > 40
    assert shown.any(axis=1).all()  # in every frame


def test_animals_differ() -> None:
    pictures = [animal(0, number, 2, 32)[1] for number in range(0, 32, 4)]  # of one kind
    apart = [np.abs(a.astype(int) - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(apart) > 2
    assert np.abs(animal(1, 0, 2, 32)[1].astype(int) - pictures[0]).mean() > 2


def test_the_folder_is_read_as_mgif_and_goes_on(tmp_path: Path) -> None:
    config = AnimalDataConfig(clips=8, frames=6, size=16, test_share=0.5)
    assert write_animals(tmp_path, config) == 8
    data = open_dataset(tmp_path, "mgif")
    names = sorted(f"train/{kind}-{i:05d}" for i, kind in enumerate(KINDS))
    assert [clip.name for clip in data.training] == names
    assert len(data.test) == 4 and not data.notes
    frames = np.stack(list(data.test[0].frames((16, 16))))
    drawn = animal(0, int(data.test[0].name[-5:]), 6, 16)[1]
    assert len(frames) == 6 and np.abs(frames.astype(int) - drawn).mean() < 4  # a GIF has 256 colours
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.gif")}
    data.test[0].path.unlink()
    assert write_animals(tmp_path, AnimalDataConfig(12, 6, 16, 0, 0.5)) == 5
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path != data.test[0].path)
    with pytest.raises(KinecastError, match="found another: name another folder"):
        write_animals(tmp_path, AnimalDataConfig(8, 6, 16, 1, 0.5))


def test_the_command_and_unfit_numbers(tmp_path: Path) -> None:
    arguments = ["--clips", "4", "--frames", "2", "--size", "16", "--test-share", "0.5"]
    assert main(["research", "animals", "-o", str(tmp_path / "a"), *arguments]) == 0
    assert len(list((tmp_path / "a").rglob("*.gif"))) == 4
    assert main(["research", "animals", "-o", str(tmp_path / "b"), "--clips", "1"]) == 1
    assert not (tmp_path / "b").exists()
