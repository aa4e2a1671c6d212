"""`kinecast benchmark` on a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import make_clip
from kinecast.research import cost_tables
from tiny_backbones import tiny_face_vid2vid, tiny_tps

ARGUMENTS = ("--forecaster", "repeat", "--rounds", 1, "--device", "cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path / "cache"))


def test_json_and_what_was_chosen(run: Callable[..., Any], tiny: Path) -> None:
    result = run("benchmark", "--model", tiny, "--json", *ARGUMENTS)
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)["rows"]
    assert found["engine"] in ("eager", "fast") and found["precision"] == "exact"
    assert f"engine {found['engine']} exact: auto: {found['engine']} exact was fastest of eager exact" in result.err
    assert found["kbps"] == pytest.approx(18 * 32 * 30 / 2 / 1000)
    assert found["frame_size"] == [32, 32] and found["timed"] == {"frames": 60, "rounds": 1}
    assert json.loads(result.out)["machine"].endswith("1 threads")


def test_published_rows_stand_beside(run: Callable[..., Any], tiny: Path) -> None:
    result = run("benchmark", "--model", tiny, "--engine", "fast", *ARGUMENTS)
    assert result.code == 0, result.err
    for figure in ("0.8176", "36.69", "2.7194", "17.36", "10.0026", "8.64"):
        assert figure in result.out


def test_tables_of_the_published_networks_and_of_ours(
    run: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_tables, "NETWORKS", {"TPS": tiny_tps, "face-vid2vid SPADE": tiny_face_vid2vid})
    film = make_clip(tmp_path / "film.mp4", 24)
    options = ("--tables", "--model", f"ours={tiny}+velocity", "--clip", film, "--fps", 30, "-o", tmp_path / "cost")
    result = run("benchmark", *options, "--engine", "eager", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["rows"]
    assert [row["model"] for row in rows] == ["TPS", "face-vid2vid SPADE", "ours"]
    assert all(row["timed"] == {"frames": 12, "rounds": 1} for row in rows)
    assert [("coded" in row, "mae" in row) for row in rows] == [(False, False), (False, False), (True, True)]
    assert json.loads((tmp_path / "cost" / "cost.json").read_text())["rows"] == rows
    assert f"{rows[2]['coded']['kbps']:.2f}" in (tmp_path / "cost" / "cost.md").read_text()


def test_a_pair_that_does_not_exist_is_one_line(run: Callable[..., Any], tiny: Path) -> None:
    result = run("benchmark", "--model", tiny, "--engine", "fast", "--precision", "int8", *ARGUMENTS)
    assert result.code == 1
    assert result.error_lines == [
        "kinecast: engine fast: expected precision exact or bf16, found int8: use engine openvino or auto"
    ]


@pytest.mark.slow  # see tests/runtime/conftest.py
def test_calibrating_on_a_clip(run: Callable[..., Any], tiny: Path, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    options = ("--calibrate", clip, "--engine", "openvino", "--precision", "int8", "--json")
    result = run("benchmark", "--model", tiny, *options, *ARGUMENTS)
    assert result.code == 0, result.err
    assert "calibrated: " in result.err and json.loads(result.out)["rows"][0]["precision"] == "int8"
    assert len(list((tmp_path / "cache").rglob("renderer-int8.xml"))) == 1
