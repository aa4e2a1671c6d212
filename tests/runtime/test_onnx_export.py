"""Each exported part gives in onnxruntime what it gives in torch, at other sizes and batches than at export too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from faces_in_motion import tiny_mesh
from kinecast.errors import KinecastError
from kinecast.models.base import Backbone
from kinecast.runtime import accelerate
from kinecast.runtime.offers import offer_of
from kinecast.runtime.onnx_export import export_onnx
from tiny import COMPACT, pictures, tiny_fomm

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("variant", [{}, {"single_jacobian_map": True, "estimate_occlusion": False}, COMPACT])
def test_parts_agree_with_torch(variant: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_fomm(**variant)
    files = export_onnx(accelerate(model, "fast"), tmp_path)  # an engine's model too
    assert json.loads((tmp_path / "model.json").read_text())["config"]["num_keypoints"] == 4
    check_parts(model, files)


def test_parts_of_a_mesh_agree_with_torch(tmp_path: Path) -> None:
    model = tiny_mesh()
    files = export_onnx(model, tmp_path)
    assert set(files) == {"motion", "render"}
    check_parts(model, files)


def check_parts(model: Backbone, files: dict[str, Path]) -> None:
    offer = offer_of(model)
    assert offer is not None
    parts, examples = offer.fold(model, "exact", False), offer.examples(model)
    for part, path in files.items():
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        assert [taken.name for taken in session.get_inputs()] == list(examples[part])
        for batch, factor in ((1, 1), (2, 2)):
            shapes = [[batch, *example.shape[1:]] for example in examples[part].values()]
            random = torch.Generator().manual_seed(0)
            inputs = [torch.rand([*shape[:3], shape[3] * factor], generator=random) for shape in shapes]
            with torch.inference_mode():
                expected = parts[part](*inputs)
            expected = expected if isinstance(expected, tuple) else (expected,)
            names = (taken.name for taken in session.get_inputs())
            found = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
            assert len(found) == len(expected)
            for mine, theirs in zip(found, expected, strict=True):
                torch.testing.assert_close(torch.from_numpy(mine), theirs, atol=2e-5, rtol=1e-4)


def test_the_detector_finds_the_keypoints(tmp_path: Path) -> None:
    model, frames = tiny_fomm(), pictures(2)
    session = runtime.InferenceSession(str(export_onnx(model, tmp_path)["detector"]))
    value, jacobian = session.run(["value", "jacobian"], {"frame": frames.numpy()})
    motion = model.detect(frames).components
    torch.testing.assert_close(torch.from_numpy(value), motion["value"], atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.from_numpy(jacobian), motion["jacobian"], atol=1e-5, rtol=0)


def test_other_backbones_are_refused(tmp_path: Path) -> None:
    class Other:
        name = "other"

    with pytest.raises(KinecastError, match="expected a fomm or mesh, found other"):
        export_onnx(Other(), tmp_path)  # type: ignore[arg-type]
