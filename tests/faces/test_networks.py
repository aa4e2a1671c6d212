"""The three networks against the original ones, run by LiteRT: seeded inputs, and real pictures where the data is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from faces.golden import network_inputs
from kinecast.faces.weights import load_blendshapes, load_detector, load_landmarks

GOLDEN = Path(__file__).parents[1] / "golden" / "face_landmarker.npz"
PARITY = 1e-3  # of an output's range
RANGES = {"boxes": 200.0, "scores": 100.0, "points": 200.0, "presence": 10.0, "shapes": 1.0}


def run(part: str, given: np.ndarray) -> dict[str, np.ndarray]:
    x = torch.from_numpy(given)
    with torch.inference_mode():
        if part == "blendshapes":
            return {"shapes": load_blendshapes()(x).numpy()}
        network, names = {
            "detector": (load_detector(), ("boxes", "scores")),
            "landmarks": (load_landmarks(), ("points", "presence")),
        }[part]
        outputs = network(x.permute(0, 3, 1, 2))
    return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}


def distance(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found.ravel() - wanted.ravel()).max())


@pytest.mark.parametrize("part", ["detector", "landmarks", "blendshapes"])
def test_networks_give_what_the_original_gives(part):
    golden = np.load(GOLDEN)
    for name, found in run(part, network_inputs()[part]).items():
        assert distance(found, golden[name]) < PARITY * RANGES[name], name


def test_networks_give_what_the_original_gives_on_pictures(data_folder, record_property):
    golden = np.load(data_folder.parent / "reference" / "face_landmarker_networks.npz")
    parts = {"face_detector": "detector", "face_landmarks_detector": "landmarks", "face_blendshapes": "blendshapes"}
    outputs = {"boxes": "regressors", "scores": "classificators", "points": "Identity", "presence": "Identity_1"}
    outputs["shapes"] = "output"
    worst = 0.0
    inputs = [name for name in golden.files if name.endswith("|input")]
    for key in inputs:
        given = golden[key] if golden[key].ndim != 3 or "blend" in key else golden[key][None]
        for name, found in run(parts[key.split("|")[0]], given).items():
            wanted = golden[key.removesuffix("input") + outputs[name]]
            worst = max(worst, distance(found, wanted) / RANGES[name])
    assert len(inputs) == 9 and worst < PARITY
    record_property("measured", f"face landmarker: networks within {worst:.1e} of their outputs' ranges")


@pytest.mark.parametrize("load, shape", [(load_detector, (128, 128)), (load_landmarks, (256, 256))])
def test_pictures_of_a_batch_do_not_touch_each_other(load, shape):
    network, pictures = load(), torch.rand(3, 3, *shape)
    with torch.inference_mode():
        together, alone = network(pictures), network(pictures[1:2])
    for all_of_them, one in zip(together, alone, strict=True):
        assert torch.allclose(all_of_them[1], one[0], atol=1e-3)
