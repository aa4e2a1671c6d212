"""What only the OpenVINO engine does: converting, remembering, quantising."""

from pathlib import Path
from typing import Any

import pytest
import torch

from faces_in_motion import face_frames, tiny_mesh
from kinecast import load_backbone
from kinecast.errors import KinecastError
from kinecast.machine import openvino as openvino_module
from kinecast.models.base import Backbone
from kinecast.runtime import TOLERANCES, accelerate
from kinecast.runtime.compiled import converted, model_folder
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.fomm import OFFER
from tiny import COMPACT, pictures, tiny_fomm


def render(backbone: Backbone, frames: torch.Tensor) -> torch.Tensor:
    motion = backbone.detect(frames)
    return backbone.animate(backbone.encode_source(frames[:1]), motion[:1], motion)


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(
        KinecastError, match=r"expected the package openvino, found none: pip install 'kinecast\[engine\]'"
    ):
        accelerate(tiny_fomm(), "openvino")


def test_conversion_is_kept_under_the_weights_identity(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    model, frames = tiny_fomm(seed=7), pictures(2)
    first = render(accelerate(model, "openvino"), frames)
    folder = model_folder(model)
    assert folder.is_relative_to(own_cache)
    assert {path.name for path in folder.iterdir()} == {f"{p}.{s}" for p in OFFER.parts for s in ("xml", "bin")}
    assert model_folder(tiny_fomm(seed=1)) != folder

    def fail(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(openvino_module, "_convert", fail)
    assert converted(model, OFFER) == folder
    assert torch.equal(render(accelerate(model, "openvino"), frames), first)


@pytest.mark.parametrize("more, quantised", [({}, 4), (COMPACT["generator"], 6)], ids=["fomm", "compact"])
def test_int8_needs_calibration_and_is_found_after_it(more: dict[str, Any], quantised: int) -> None:
    pytest.importorskip("nncf")
    from kinecast.runtime.calibration import calibrate

    model = tiny_fomm(generator={"block_expansion": 16, "max_features": 32} | more)
    with pytest.raises(KinecastError, match="expected a calibrated model, found none for these weights"):
        accelerate(model, "openvino", "int8")
    frames = pictures(12)
    path = calibrate(accelerate(model, "fast"), frames.split(5), limit=11)
    assert '"frames": 11' in path.with_suffix(".json").read_text()
    assert path.read_text().count("FakeQuantize") == quantised  # two of each residual block, two of up-sampling
    expected, found = (render(b, frames[:3]) for b in (model, accelerate(model, "openvino", "int8")))
    difference = (found - expected).abs()
    assert 1e-5 < difference.mean() <= TOLERANCES["int8"].mean  # quantised it is, and well


@pytest.mark.parametrize("precision", ["exact", *(["bf16"] if bfloat16_available() else []), "int8"])
def test_a_mesh_is_drawn_within_the_tolerance(precision: str) -> None:
    pytest.importorskip("openvino")
    model: Backbone = tiny_mesh()
    frames = face_frames()
    if precision == "int8":  # four channels of random weights bear less of it than a network that was trained
        model = load_backbone("mesh", "cpu", "eager")
        pytest.importorskip("nncf")
        from kinecast.runtime.calibration import calibrate

        calibrate(model, [torch.full((1, 3, 256, 256), 0.5), frames[:2], frames[2:]])  # the first shows no face
    motion = model.detect(frames)
    fast = accelerate(model, "openvino", precision)
    expected, found = (b.animate(b.encode_source(frames[:1]), motion[:1], motion) for b in (model, fast))
    difference, limit = (found - expected).abs(), TOLERANCES[precision]
    assert difference.max() <= limit.largest and difference.mean() <= limit.mean
    assert precision == "exact" or difference.max() > 1e-5
    torch.testing.assert_close(  # a source that plain torch encoded serves too
        fast.animate(model.encode_source(frames[:1]), motion[:1], motion), found, atol=1e-6, rtol=0
    )


def test_calibration_without_frames_is_refused() -> None:
    pytest.importorskip("nncf")
    from kinecast.runtime.calibration import calibrate

    with pytest.raises(KinecastError, match="expected at least one frame, found none"):
        calibrate(tiny_fomm(), iter(()))
