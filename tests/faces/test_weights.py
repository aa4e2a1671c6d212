"""The bundled file: whole, small, described, and what the recipe makes of the original."""

import runpy
import sys

import pytest

from kinecast.errors import KinecastError
from kinecast.faces import weights

ROOT = weights.FILE.parents[4]


def test_the_file_is_small_and_described():
    assert weights.FILE.stat().st_size < 4_000_000
    card = weights.FILE.with_suffix(".md").read_text()
    for needed in ("Licence", "Provenance", "Trained on", "Recipe", "Limits"):
        assert needed in card


@pytest.mark.parametrize("damage", ["missing", "altered"])
def test_a_damaged_file_is_refused(damage, tmp_path, monkeypatch):
    file = tmp_path / "face-landmarker.safetensors"
    if damage == "altered":
        file.write_bytes(weights.FILE.read_bytes()[:-1] + b"?")
    monkeypatch.setattr(weights, "FILE", file)
    weights._tensors.cache_clear()
    with pytest.raises(KinecastError, match="reinstall kinecast"):
        weights.load_detector()


def test_the_recipe_makes_the_file_anew(data_folder, tmp_path, monkeypatch):
    pytest.importorskip("tflite")
    made = tmp_path / "made.safetensors"
    bundle = data_folder / "models" / "face_landmarker.task"
    monkeypatch.setattr(sys, "argv", ["face_landmarker.py", str(bundle), "-o", str(made)])
    runpy.run_path(str(ROOT / "recipes" / "face_landmarker.py"), run_name="__main__")
    assert made.read_bytes() == weights.FILE.read_bytes()
