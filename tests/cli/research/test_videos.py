"""`evaluate single`, `diverse` and `paper` from the command line: the report, its files, and a user's mistakes."""

import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import draw_frames, write_clip
from kinecast.forecasting import build_forecaster
from kinecast.models.checkpoints import save_backbone
from tiny import tiny_fomm

pytest.importorskip("dcor")
pytest.importorskip("scoringrules")
pytest.importorskip("seaborn")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    frames = draw_frames(40, (32, 32))
    for i, name in enumerate(("id1_a", "id2_a", "id3_a")):
        write_clip(folder / f"{name}.mp4", frames[6 * i : 6 * i + 11 + i])
    return folder


def test_paper_writes_all_tables_and_figures(run, tiny: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(
        *(
            "research",
            "paper",
            "--dataset",
            clips,
            "--validate",
            "id1",
            "--backbone",
            tiny,
            "-o",
            out,
            "--device",
            "cpu",
        ),
        *("--horizon", "3-2", "--models", "gru,vrnn", "--diverse-models", "vrnn", "--steps", 2, "--samples", 3),
        *("--diverse-samples", 3, "--keep", 2, "--compare", "voxceleb", "--json"),
    )
    assert result.code == 0, result.err
    report = (out / "report.md").read_text()
    for words in ("Made by `", "Tables 1-6", "Tables 7-10", "needs weights", "kept by an oracle", "Seeds: 0"):
        assert words in report
    pictures = re.findall(r"\(figures/([^)]+)\)", report)
    assert len(pictures) == len(set(pictures)) >= 2 * (1 + 2) + 2 * 2
    for name in pictures:
        assert (out / "figures" / name).stat().st_size < 150_000
        Image.open(out / "figures" / name).verify()
    results = json.loads((out / "results.json").read_text())
    assert json.loads(result.out)["tables"] == results["tables"]
    assert list(results["tables"]) == [
        f"{k}, {m}, 3-2" for k in ("single", "diverse") for m in ("reconstruction", "transfer")
    ]
    single = results["tables"]["single, reconstruction, 3-2"]
    assert [len(w) for w in single["rows"][-1]["by_window"]["0"].values()] == [len(single["windows"])] * 7
    assert {"command", "date", "machine", "config", "clips", "models"} <= set(results)


def test_as_released_marks_what_reads_the_future(run, clips: Path, tmp_path: Path) -> None:
    backbone = tmp_path / "ten.safetensors"
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=10), backbone, {})
    torch.manual_seed(0)
    model = build_forecaster("vrnn-released", 60, hidden=8, latent=3, fc=8)
    save_file(dict(model.state_dict()), tmp_path / "vrnn_vox_3-2.safetensors")
    common = ("--dataset", clips, "--validate", "id1", "--backbone", backbone, "--samples", 3, "--device", "cpu")
    asked = ("research", "single", *common, "--released", tmp_path, "--horizon", "3-2", "-o", tmp_path / "out")
    assert run(*asked, "--protocol", "as-released").code == 0
    rows = json.loads((tmp_path / "out/results.json").read_text())["tables"]["single, reconstruction, 3-2"]["rows"]
    marked = [row["name"] for row in rows if row["reads_future"]]
    assert marked == ["vrnn released, as released", "previous true frame"]
    assert "vrnn released, free-running" in [row["name"] for row in rows]
    refused = run(*asked[:-4], "--horizon", "4-2", "-o", tmp_path / "out", "--protocol", "as-released")
    assert refused.code == 1 and "expected released weights of horizon 4-2" in refused.error_lines[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--dataset", "nowhere"), "expected a folder of layout clips"),
        (("--layout", "voxceleb"), "found no train/"),
        (("--horizon", "12"), "expected OBSERVED-FORECAST"),
        (("--horizon", "30-30"), "horizon 30-30 needs at least 60"),
        (("--mode", "copying"), "expected one of reconstruction, transfer"),
        (("--engine", "auto"), "expected one of eager, fast"),
        (("--compare", "imagenet"), "expected one of voxceleb, bair, mgif or none"),
        (("--protocol", "as-released"), "add --released"),
        (("--jedi-weights", "nowhere"), "folder of V-JEPA weights"),
        (("--validate", "nobody"), "persons are id1, id2, id3"),
    ],
)
def test_a_users_mistake_is_one_line(run, tiny: Path, clips: Path, tmp_path: Path, options: tuple, words: str) -> None:
    given = {"--dataset": clips, "--validate": "id1", "--backbone": tiny, "--horizon": "3-2", "--device": "cpu"}
    if "--layout" in options:
        del given["--validate"]
    given |= dict(zip(options[::2], options[1::2], strict=True))
    flat = [part for pair in given.items() for part in pair]
    result = run("research", "single", *flat, "--models", "", "-o", tmp_path / "out")
    assert result.code == 1 and len(result.error_lines) == 1
    assert words in result.error_lines[0]
