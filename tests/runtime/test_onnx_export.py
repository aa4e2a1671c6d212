"""Each exported part gives in onnxruntime what it gives in torch, at other sizes and batches than at export too."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.runtime import accelerate
from kinecast.runtime.compiled import example_inputs
from kinecast.runtime.onnx_export import export_onnx
from kinecast.runtime.parts import folded_parts
from tiny import COMPACT, pictures, tiny_fomm

pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("variant", [{}, {"single_jacobian_map": True, "estimate_occlusion": False}, COMPACT])
def test_parts_agree_with_torch(variant: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_fomm(**variant)
    files = export_onnx(accelerate(model, "fast"), tmp_path)  # an engine's model too
    assert json.loads((tmp_path / "model.json").read_text())["config"]["num_keypoints"] == 4
    parts = folded_parts(model, native=False)
    for part, path in files.items():
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        for batch, factor in ((1, 1), (2, 2)):
            shapes = [[batch, *example.shape[1:]] for example in example_inputs(model, part)]
            random = torch.Generator().manual_seed(0)
            inputs = [torch.rand([*shape[:3], shape[3] * factor], generator=random) for shape in shapes]
            with torch.inference_mode():
                expected = getattr(parts, part)(*inputs)
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

    with pytest.raises(KinecastError, match="expected a fomm, found other"):
        export_onnx(Other(), tmp_path)  # type: ignore[arg-type]
