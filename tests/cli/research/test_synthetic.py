import json

import pytest

pytest.importorskip("scoringrules")
pytest.importorskip("dcor")
pytest.importorskip("matplotlib")


def test_evaluate_synthetic_writes_its_tables(run, tmp_path):
    small = (
        "--series",
        40,
        "--windows",
        6,
        "--samples",
        39,
        "--steps",
        1,
        "--horizon",
        "6-4",
        "--models",
        "repeat, vae",
    )
    result = run(
        "research", "synthetic", "-o", tmp_path, "--process", "branching", "--process", "arm", *small, "--json"
    )
    assert result.code == 0, result.err
    tables = json.loads(result.out)["tables"]
    assert [row["name"] for row in tables["branching"]] == ["truth", "repeat", "vae"]
    assert tables["branching"][1]["scores"]["astray"] == 1 and tables["arm"][1]["scores"]["astray"] is None
    text = (tmp_path / "synthetic.md").read_text()
    assert "## arm, 6-4: 6 windows, 39 samples" in text and "| truth |" in text and "![PIT histograms](pit.png)" in text
    assert json.loads((tmp_path / "results.json").read_text())["config"]["steps"] == 1
    assert (tmp_path / "pit.png").stat().st_size > 1000


def test_a_wrong_model_is_one_line(run, tmp_path):
    result = run("research", "synthetic", "-o", tmp_path, "--models", "oracle")
    assert result.code == 1 and "forecaster 'oracle': expected one of" in result.err
