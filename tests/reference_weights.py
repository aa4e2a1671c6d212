"""The golden vectors of the published networks, where the shared reference folder is."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinecast.runtime.convolution import bfloat16_available

State = dict[str, dict[str, Tensor]]


def reference_folder(data_folder: Path) -> Path:
    """Return the folder beside the shared data; without it the test is skipped."""
    folder = data_folder.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return folder


def rounding() -> float:
    """Return how much further from a picture of the vectors this processor may be than one with AVX-512.

    Another instruction set adds in another order, and weights that are not trained magnify the difference: with AVX2
    face-vid2vid's picture was seen 2.4e-3 away where AVX-512 gave 7e-4. A wrong `align_corners` moves it by 0.7.
    """
    return 1.0 if bfloat16_available() else 4.0


def filled(folder: Path, model: str, fixed: dict[str, Tensor]) -> State:
    """Return a published checkpoint's parts with the weights of the folder's rule.

    `fixed` gives the kernels that are not learned, by the end of their name.
    """
    spec = importlib.util.spec_from_file_location("reference_fill", folder / "fill.py")
    assert spec is not None and spec.loader is not None
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    shapes = json.loads((folder / f"{model}_vox-256.keys.json").read_text())
    parts: State = {}
    for part in shapes:
        arrays = rule.fill(model, part, shapes[part])
        parts[part] = {
            name: next(t for end, t in fixed.items() if name.endswith(end)) if a is None else torch.from_numpy(a)
            for name, a in arrays.items()
        }
    return parts


def golden(folder: Path, model: str) -> dict[str, Tensor]:
    """Return what the published network gives."""
    with np.load(folder / f"{model}_vox-256.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}
