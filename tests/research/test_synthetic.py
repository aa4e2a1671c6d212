import math
from pathlib import Path

import pytest
import torch

from kinecast.data.windows import Horizon
from kinecast.errors import KinecastError
from kinecast.forecasting import FORECASTERS
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.research import synthetic
from kinecast.research.data.synthetic import BranchingPath
from kinecast.research.synthetic import MODELS, SyntheticTableConfig, pit_figure, process_of, synthetic_table

pytest.importorskip("scoringrules")
pytest.importorskip("dcor")


def config(**changes: object) -> SyntheticTableConfig:
    values: dict = {"processes": ("branching",), "models": ("repeat", "climatology", "nf"), "horizon": Horizon(6, 8)}
    values |= {"series": 64, "windows": 12, "samples": 39, "steps": 2}
    return SyntheticTableConfig(**(values | changes))


def test_the_truth_is_the_floor_of_every_column(tmp_path: Path) -> None:
    rows = {row.name: row for row in synthetic_table(config(windows=40), tmp_path)["branching"]}
    assert list(rows) == ["truth", "repeat", "climatology", "nf"]
    truth = rows["truth"].scores
    assert abs(truth.energy_distance) < 0.01 and truth.both_reached > 0.8 and truth.astray < 0.02
    assert truth.share_error < 0.1 and truth.pit_deviation < 0.2
    for name in ("repeat", "climatology", "nf"):
        other = rows[name].scores
        assert other.energy_distance > 0.02 + truth.energy_distance and other.crps > truth.crps
        assert other.energy_score > truth.energy_score and other.share_error > truth.share_error
    assert rows["repeat"].scores.astray == 1 and rows["repeat"].scores.both_reached == 0
    assert rows["repeat"].pit[0] + rows["repeat"].pit[-1] == pytest.approx(1)
    assert all(sum(row.pit) == pytest.approx(1) for row in rows.values())


def test_every_model_that_can_be_trained_is_a_row_by_default() -> None:
    assert set(MODELS) == set(FORECASTERS) - {"vrnn-released"}


def test_seeds_have_a_spread_and_models_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = config(processes=("jumps",), models=("repeat", "vae"), seeds=(0, 1))
    first = synthetic_table(asked, tmp_path)["jumps"]
    repeat, vae = first[1], first[2]
    assert repeat.deviation is not None and repeat.deviation.crps == 0
    assert vae.deviation is not None and vae.deviation.crps > 0
    assert math.isnan(vae.scores.astray)
    trained: list[str] = []
    train = synthetic.train_forecaster

    def spy(series: dict, training: synthetic.ForecasterTrainingConfig) -> object:
        trained.append(training.model)
        return train(series, training)

    monkeypatch.setattr(synthetic, "train_forecaster", spy)
    again = synthetic_table(asked, tmp_path)["jumps"]
    assert not trained and [row.pit for row in again] == [row.pit for row in first]
    synthetic_table(config(processes=("jumps",), models=("vae",), steps=3), tmp_path)
    assert trained == ["vae"]


def test_the_refinement_is_of_the_flow_beside_it(tmp_path: Path) -> None:
    small = config(processes=("oscillator",), models=("gru-snf",), steps=1)
    model = synthetic._trained("gru-snf", process_of("oscillator", small.horizon), small, 0, tmp_path)
    flow = synthetic._trained("gru-nf", process_of("oscillator", small.horizon), small, 0, tmp_path)
    assert isinstance(model, GRUSNF) and [path.name for path in tmp_path.iterdir()] == [
        "oscillator_gru-nf_6-8_seed0.safetensors"
    ]
    for name, tensor in flow.state_dict().items():
        assert torch.equal(model.gru_nf.state_dict()[name], tensor)


def test_the_fork_follows_the_horizon() -> None:
    process = process_of("branching", Horizon(6, 8))
    assert isinstance(process, BranchingPath) and process.fork == 7


def test_training_and_test_windows_are_different_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    train = synthetic.train_forecaster

    def spy(series: dict, training: synthetic.ForecasterTrainingConfig) -> object:
        seen.append(torch.stack(list(series.values())))
        return train(series, training)

    monkeypatch.setattr(synthetic, "train_forecaster", spy)
    asked = config(models=("repeat",), series=40)
    process = process_of("branching", asked.horizon)
    synthetic._trained("repeat", process, asked, 0, tmp_path)
    tested = synthetic.windows_of(process, 40, asked.horizon, synthetic._WINDOW_SEED).frames
    assert seen[0].shape == tested.shape
    assert torch.cdist(seen[0].flatten(1), tested.flatten(1)).amin() > 1e-3


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    tables = synthetic_table(config(models=("repeat",)), tmp_path / "models")
    pit_figure(tmp_path / "pit.png", tables)
    assert (tmp_path / "pit.png").read_bytes()[:4] == b"\x89PNG"


def test_what_cannot_be_done_is_refused() -> None:
    cases: list[tuple[dict, str]] = [
        ({"models": ("vrnn-released",)}, "expected models to train, found vrnn-released"),
        ({"models": ("oracle",)}, "forecaster 'oracle': expected one of"),
        ({"models": ()}, "at least one of models"),
        ({"processes": ("weather",)}, "process 'weather': expected one of"),
        ({"samples": 20}, "expected samples of at least 39, found 20"),
        ({"windows": 1}, "expected windows of at least 2"),
    ]
    for changes, message in cases:
        with pytest.raises(KinecastError, match=message):
            config(**changes)
