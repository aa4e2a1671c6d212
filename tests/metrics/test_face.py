import json

import numpy as np
import pytest
import torch
from skimage.data import astronaut

from kinecast.errors import KinecastError
from kinecast.media.pictures import to_tensor
from kinecast.media.video import read_batches
from kinecast.metrics import face
from kinecast.metrics.face import FaceDistances, IdentityNetwork, box_around


@pytest.fixture(scope="session")
def face_api(tmp_path_factory):
    """Random weights in the files of @vladmandic/face-api: half of them in 8 bits, as there."""
    folder, random = tmp_path_factory.mktemp("face_api"), np.random.default_rng(0)
    shapes = {"conv32_down/conv/filters": [7, 7, 3, 32], "conv32_down/conv/bias": [32]}
    shapes |= {"conv32_down/scale/weights": [32], "conv32_down/scale/biases": [32]}
    before = 32
    for name, channels, _ in IdentityNetwork.stages:
        for i, width in ((1, before), (2, channels)):
            shapes[f"{name}/conv{i}/conv/filters"] = [3, 3, width, channels]
            shapes |= {f"{name}/conv{i}/{part}": [channels] for part in ("conv/bias", "scale/weights", "scale/biases")}
        before = channels
    shapes["fc"] = [256, 128]
    manifest, data = [], b""
    for index, (name, shape) in enumerate(shapes.items()):
        values = random.integers(0, 256, shape).astype(np.uint8)
        entry: dict[str, object] = {"name": name, "shape": shape, "dtype": "float32"}
        if index % 2:
            entry["quantization"] = {"dtype": "uint8", "scale": 0.002, "min": -0.25}
            data += values.tobytes()
        else:
            data += (values * 0.002 - 0.25).astype("<f4").tobytes()
        manifest.append(entry)
    (folder / "face_recognition_model-weights_manifest.json").write_text(json.dumps([{"weights": manifest}]))
    (folder / "face_recognition_model.bin").write_bytes(data)
    return folder


def test_weights_are_read_with_their_scales(face_api):
    weights = IdentityNetwork(face_api)._weights
    assert weights["conv32_down/conv/bias"].min() >= -0.25 and weights["conv32_down/conv/bias"].max() <= 0.26
    steps = (weights["conv32_down/conv/bias"] + 0.25) / 0.002
    assert torch.allclose(steps, steps.round(), atol=1e-3)
    assert weights["fc"].shape == (256, 128)


def test_pictures_of_a_batch_do_not_touch_each_other(face_api):
    network = IdentityNetwork(face_api)
    pictures = torch.rand(3, 3, 150, 150, generator=torch.Generator().manual_seed(0))
    described = network(pictures)
    assert described.shape == (3, 128) and torch.isfinite(described).all()
    alone = network(pictures[1:2])[0]
    assert torch.allclose(described[1], alone, rtol=1e-3, atol=1e-3 * float(alone.abs().max()))
    assert not torch.allclose(described[0], described[1], rtol=1e-3)


def test_foreign_weights_are_refused(face_api, tmp_path):
    with pytest.raises(KinecastError, match="face recognition network"):
        IdentityNetwork(tmp_path)
    for name in ("face_recognition_model-weights_manifest.json", "face_recognition_model.bin"):
        (tmp_path / name).write_bytes((face_api / name).read_bytes()[:5000])
    with pytest.raises(KinecastError, match="expected the weights of @vladmandic/face-api, found JSONDecodeError"):
        IdentityNetwork(tmp_path)
    whole = (face_api / "face_recognition_model-weights_manifest.json").read_bytes()
    (tmp_path / "face_recognition_model-weights_manifest.json").write_bytes(whole)
    with pytest.raises(KinecastError, match="found ValueError"):
        IdentityNetwork(tmp_path)


def test_a_square_is_cut_where_it_is():
    picture = torch.zeros(1, 3, 40, 60)
    picture[:, :, 10:20, 30:40] = 1
    assert face._cut(picture, (35.0, 15.0, 10.0), 20).min() > 0.4
    assert face._cut(picture, (35.0, 15.0, 8.0), 16).min() == 1
    assert face._cut(picture, (15.0, 15.0, 10.0), 20).max() == 0
    assert box_around(np.array([[30.0, 10.0], [40.0, 14.0]]), 1.5) == (35.0, 12.0, 15.0)


def test_nothing_differs_from_itself_and_what_differs_more_is_further(face_api):
    frame = to_tensor(astronaut()[None, :256, 96:352])[0]
    distances = FaceDistances(face_api)
    true = distances.look(frame)
    assert true is not None and 80 < np.ptp(true.points[:, 0]) < 100
    assert distances.compare(frame, true) == {"landmark": 0, "identity": 0}
    near, far = (distances.compare(frame.roll(shift, dims=2), true) for shift in (2, 8))
    eyes = float(np.linalg.norm(true.points[33] - true.points[263]))
    assert near["landmark"] == pytest.approx(2 / eyes, rel=0.3) and far["landmark"] == pytest.approx(8 / eyes, rel=0.3)
    assert 0 < near["identity"]


def test_without_a_face_there_is_no_distance():
    distances = FaceDistances()
    assert distances.look(torch.zeros(3, 128, 128)) is None
    assert np.isnan(distances.compare(torch.zeros(3, 128, 128), None)["landmark"])


def test_real_faces(data_folder, face_api):
    """On a real clip."""
    clip = data_folder / "voxceleb" / "id10291_4aLg_keiGHw_001217_001424.mp4"
    frames = next(read_batches(clip, 128, batch=60))
    distances = FaceDistances(face_api)
    true = distances.look(frames[0])
    assert true is not None
    near, far = (distances.compare(frames[t], true) for t in (3, 40))
    assert 0 < near["landmark"] < far["landmark"] and 0 < near["identity"]
