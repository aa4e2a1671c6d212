"""`auto` measures, keeps the tolerance asked for, says why, and remembers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kinecast.backbones.base import Backbone
from kinecast.backbones.fomm import FOMM
from kinecast.engine import accelerate, auto
from kinecast.engine.fast import build_fast
from kinecast.engine.fomm import EngineFOMM
from kinecast.engine.parts import Parts
from kinecast.errors import KinecastError, KinecastWarning
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
    monkeypatch.setattr(auto, "_times", lambda able, frames: {pair: ms[pair[0]] for pair in able})


def wrong(model: FOMM, precision: str) -> EngineFOMM:
    """Build an engine whose pictures are all grey."""
    right = build_fast(model, "exact").parts
    parts = Parts(right.detector, right.encoder, right.hourglass, lambda *maps: 0.5 + 0 * right.renderer(*maps))
    return EngineFOMM(model, parts, "fast", precision)


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
    for text in ("no json", json.dumps({"engine": "fast", "precision": "int8", "reason": ""})):
        kept.write_text(text)
        with pytest.raises(AssertionError, match="measured again"):
            accelerate(model)


def test_what_cannot_be_had_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(model: FOMM, precision: str) -> Backbone:
        raise KinecastError("expected a calibrated model, found none")

    offer(monkeypatch, {("fast", "bf16"): build_fast, ("openvino", "int8"): missing})
    times(monkeypatch, {"eager": 10, "fast": 5})
    with pytest.warns(KinecastWarning, match="precision int8 is not to be had: expected a calibrated model"):
        chosen = accelerate(tiny_fomm(), precision="int8")
    assert (chosen.engine, chosen.precision) == ("fast", "bf16")


def test_a_folder_that_cannot_be_written_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path / "file"))
    frames = pictures(1)
    model = tiny_fomm()
    found = accelerate(model).detect(frames).vectors()
    torch.testing.assert_close(found, model.detect(frames).vectors(), atol=1e-5, rtol=0)
