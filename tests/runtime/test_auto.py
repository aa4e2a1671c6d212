"""`auto` measures, keeps the tolerance asked for, says why, and remembers."""

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from faces_in_motion import tiny_mesh
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.runtime import accelerate, auto, fast
from kinecast.runtime.fomm import EngineFOMM, folded_parts
from tiny import pictures, tiny_fomm


@pytest.fixture(autouse=True)
def without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path))
    monkeypatch.setattr(auto, "_FRAMES", 1)


def offer(monkeypatch: pytest.MonkeyPatch, builders: dict[tuple[str, str], Any]) -> None:
    """Let auto choose between plain torch and these."""
    monkeypatch.setattr(auto, "_candidates", lambda precision: list(builders))
    monkeypatch.setattr(auto, "builder", lambda engine: lambda model, level: builders[engine, level](model, level))


def times(monkeypatch: pytest.MonkeyPatch, ms: dict[str, float]) -> None:
    """Replace the clock: milliseconds of each engine."""
    monkeypatch.setattr(auto, "_times", lambda clips: {pair: ms[pair[0]] for pair in clips})


def built(model: FOMM, level: str, **parts: nn.Module) -> EngineFOMM:
    """Build a `fast` engine, exact on every processor, that says it is of a precision."""
    engine = EngineFOMM(model, folded_parts(model) | parts)
    engine.engine, engine.precision = "fast", level
    return engine


class Grey(nn.Module):
    """A renderer whose pictures are all grey."""

    def forward(self, *maps: torch.Tensor) -> torch.Tensor:
        return torch.full((len(maps[0]), 3, 64, 64), 0.5)


def wrong(model: FOMM, precision: str) -> EngineFOMM:
    return built(model, precision, renderer=Grey())


def test_the_fastest_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, {"eager": 10, "fast": 5})
    chosen = accelerate(tiny_fomm())
    assert isinstance(chosen, EngineFOMM) and (chosen.engine, chosen.precision) == ("fast", "exact")
    assert "fast exact was fastest of eager exact 10.0 ms" in chosen.reason and "fast exact 5.0 ms" in chosen.reason


def test_plain_torch_is_kept_where_it_is_not_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, {"eager": 10, "fast": 9.9})
    model = tiny_fomm()
    assert accelerate(model) is model
    assert "eager exact was fastest" in model.reason


def test_exact_is_never_answered_by_less() -> None:
    assert auto._candidates("exact") == [("fast", "exact")]
    assert all(level != "int8" for _, level in auto._candidates("bf16"))


def test_an_engine_outside_its_tolerance_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {("fast", "exact"): wrong})
    times(monkeypatch, {"eager": 10, "fast": 1})
    chosen = accelerate(tiny_fomm())
    assert chosen.engine == "eager" and "outside its tolerance" in chosen.reason


def test_the_choice_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times(monkeypatch, {"eager": 10, "fast": 5})
    model = tiny_fomm()
    accelerate(model)

    def fail(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(auto, "_measured_choice", fail)
    again = accelerate(model)
    assert again.engine == "fast" and again.reason.endswith("(measured earlier)")
    with pytest.raises(AssertionError, match="measured again"):  # other weights are another choice
        accelerate(tiny_fomm(seed=1))
    (kept,) = (tmp_path / "choices").iterdir()
    for text in ("no json", json.dumps({"engine": "fast", "precision": "int8", "reason": "", "lack": ""})):
        kept.write_text(text)
        with pytest.raises(AssertionError, match="measured again"):
            accelerate(model)


def test_what_cannot_be_had_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(model: FOMM, precision: str) -> Backbone:
        raise KinecastError("expected a calibrated model, found none")

    def bf16(model: FOMM, precision: str) -> Backbone:
        return built(model, precision)

    offer(monkeypatch, {("fast", "bf16"): bf16, ("openvino", "int8"): missing})
    times(monkeypatch, {"eager": 10, "fast": 5})
    with pytest.warns(KinecastWarning, match="precision int8 is unavailable: expected a calibrated model"):
        chosen = accelerate(tiny_fomm(), precision="int8")
    assert (chosen.engine, chosen.precision) == ("fast", "bf16")


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(auto, "_installed", lambda package: "")


def test_what_cannot_be_had_is_said_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra there is no candidate that could fail, and a choice of earlier builds none."""
    without_openvino(monkeypatch)
    times(monkeypatch, {"eager": 10, "fast": 5})
    model = tiny_fomm()
    for ending in ("", "(measured earlier)"):
        with pytest.warns(
            KinecastWarning, match=r"precision int8 is unavailable: .* pip install 'kinecast\[engine\]'; using fast"
        ):
            assert accelerate(model, precision="int8").reason.endswith(ending)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        accelerate(model, precision="exact")


def test_what_can_be_had_since_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, {"eager": 10, "fast": 5})
    model = tiny_fomm()
    offer(monkeypatch, {("fast", "exact"): built})
    with pytest.warns(KinecastWarning, match="precision int8 is unavailable: expected a calibrated model"):
        accelerate(model, precision="int8")
    monkeypatch.setattr(auto, "lack_of", lambda model, precision: "")  # it was calibrated
    offer(
        monkeypatch,
        {("fast", "int8"): built},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accelerate(model, precision="int8").precision == "int8"


def test_a_precision_outside_its_tolerance_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "bfloat16_available", lambda: True)
    offer(monkeypatch, {("fast", "bf16"): wrong})
    times(monkeypatch, {"eager": 10, "fast": 5})
    for _ in range(2):
        with pytest.warns(KinecastWarning, match="bf16 is unavailable: fast bf16 5.0 ms .* outside its tolerance"):
            assert accelerate(tiny_fomm(), precision="bf16").engine == "eager"


def test_a_processor_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "bfloat16_available", lambda: False)
    times(monkeypatch, {"eager": 10, "fast": 5, "openvino": 20})
    monkeypatch.setattr(auto, "_candidates", lambda precision: [("fast", "exact"), ("fast", "bf16")])
    with pytest.warns(KinecastWarning, match="bf16 is unavailable: expected a processor .*; using fast exact"):
        assert accelerate(tiny_fomm(), precision="bf16").precision == "exact"
    for engine in ("fast", "openvino"):  # OpenVINO would compute in float32 and call it bf16
        monkeypatch.setitem(sys.modules, "openvino", sys)  # no part of it is reached
        with pytest.raises(KinecastError, match="precision bf16: expected a processor with AVX-512 or AMX, found"):
            accelerate(tiny_fomm(), engine, "bf16")


def test_a_mesh_is_measured_without_a_face_to_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_mesh()
    reason = accelerate(model).reason
    assert "fastest of eager exact" in reason and "fast exact" in reason
    assert auto.remembered(model, "exact") == reason and auto.remembered(tiny_fomm(), "exact") == ""
    monkeypatch.setattr(auto, "_measured_choice", None)
    assert accelerate(model).reason == f"{reason} (measured earlier)"


def test_another_set_of_instructions_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, {"eager": 10, "fast": 5})
    model = tiny_fomm()
    accelerate(model)
    assert auto.remembered(model, "exact").startswith("auto: fast exact was fastest")
    monkeypatch.setattr(auto, "instruction_sets", lambda: ["of another machine"])
    assert not auto.remembered(model, "exact")


def test_a_backbone_without_engines_says_that_it_has_one_precision() -> None:
    model = tiny_fomm().to("meta")
    with pytest.warns(KinecastWarning, match="int8 is unavailable: fomm on meta has none; using eager exact"):
        assert accelerate(model, precision="int8") is model


@pytest.mark.parametrize(
    ("precision", "bfloat16", "taken"), [("int8", True, "bf16"), ("bf16", False, "exact"), ("int8", False, "exact")]
)
def test_a_call_says_so_too(monkeypatch: pytest.MonkeyPatch, precision: str, bfloat16: bool, taken: str) -> None:
    from kinecast.apps.call import models
    from kinecast.apps.call.config import CallConfig

    model = tiny_fomm()
    monkeypatch.setattr(models, "load_backbone", lambda *arguments: model)
    monkeypatch.setattr(
        models, "accelerate", lambda model, engine, level: SimpleNamespace(engine=engine, precision=level)
    )
    monkeypatch.setattr(fast, "bfloat16_available", lambda: bfloat16)
    with pytest.warns(KinecastWarning, match=f"precision {precision} is unavailable: .*; using fast {taken}"):
        models._backbone(CallConfig(precision=precision))


def test_a_folder_that_cannot_be_written_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path / "file"))
    frames = pictures(1)
    model = tiny_fomm()
    found = accelerate(model).detect(frames).vectors()
    torch.testing.assert_close(found, model.detect(frames).vectors(), atol=1e-5, rtol=0)
