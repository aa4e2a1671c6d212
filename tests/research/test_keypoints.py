import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ar_motion import ar_series
from kinecast.data.windows import Horizon, evaluation_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import Forecaster, build_forecaster
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.storage import load_forecaster_file
from kinecast.forecasting.vrnn_released import ReleasedVRNN
from kinecast.research import keypoint_models, keypoints, selection
from kinecast.research.keypoints import MODELS, KeypointTableConfig, keypoint_table, score_forecaster
from kinecast.research.scoring import score_samples
from kinecast.training.forecaster import ForecasterTrainingConfig

pytest.importorskip("scoringrules")
SHORT = Horizon(4, 3)
TINY = {"steps": 2, "batch_size": 4}


def config(**changes: object) -> KeypointTableConfig:
    values: dict = {"horizons": (SHORT,), "validate": "id1", "samples": 5, "training": TINY} | changes
    return KeypointTableConfig(**values)


def released() -> dict[Horizon, ReleasedVRNN]:
    model = build_forecaster("vrnn-released", 4, hidden=8, latent=3, fc=8)
    assert isinstance(model, ReleasedVRNN)
    return {SHORT: model.eval()}


def test_the_table_has_every_row_and_marks_the_one_that_reads_the_future(tmp_path: Path) -> None:
    tables = keypoint_table(ar_series(), released(), config(seeds=(0, 1)), tmp_path)
    rows = {row["name"]: row for row in tables["4-3"]["rows"]}
    assert list(rows) == [
        "repeat",
        "velocity",
        "damped",
        "climatology",
        "ridge",
        "var",
        *(f"{name} (kinecast)" for name in MODELS),
        "vrnn released, free-running",
        "vrnn released, as released",
    ]
    assert [name for name, row in rows.items() if row["reads_future"]] == ["vrnn released, as released"]
    assert rows["climatology"]["crps_to_climatology"] == pytest.approx(1)
    assert rows["repeat"]["deviation"]["mae"] == 0 and rows["vrnn (kinecast)"]["deviation"]["mae"] > 0
    assert rows["repeat"]["scores"]["crps"] == pytest.approx(rows["repeat"]["scores"]["mae"])
    json.dumps(tables)


def test_models_see_no_person_that_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    train = keypoint_models.train_forecaster

    def spy(series, *rest):
        seen.append(set(series))
        return train(series, *rest)

    monkeypatch.setattr(keypoint_models, "train_forecaster", spy)
    keypoint_table(ar_series(), {}, config(models=("gru",)), tmp_path)
    assert seen and all(not clip.startswith("id1") for clips in seen for clip in clips)


def test_models_are_kept_and_reused_only_for_the_same_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keypoint_table(ar_series(), {}, config(), tmp_path)
    trained: list[str] = []
    train = keypoint_models.train_forecaster

    def spy(series, training, *rest):
        trained.append(training.model)
        return train(series, training, *rest)

    monkeypatch.setattr(keypoint_models, "train_forecaster", spy)
    again = keypoint_table(ar_series(), {}, config(), tmp_path)
    assert not trained
    for table in (first, again):
        for row in table["4-3"]["rows"]:
            row["scores"].pop("seconds_per_window")
    assert first == again
    keypoint_table(ar_series(), {}, config(training=TINY | {"steps": 3}), tmp_path)
    assert "gru" in trained


def test_gru_snf_is_the_gru_nf_of_the_table_refined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Forecaster] = {}
    score = keypoints.score_forecaster

    def spy(model, *rest):
        seen[model.name] = model
        return score(model, *rest)

    monkeypatch.setattr(keypoints, "score_forecaster", spy)
    keypoint_table(ar_series(), {}, config(models=("gru-nf", "gru-snf")), tmp_path)
    refined, plain = seen["gru-snf"], seen["gru-nf"]
    assert isinstance(refined, GRUSNF) and not list(tmp_path.glob("gru-snf*"))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(refined.gru_nf.state_dict()[name], tensor), name


def test_bundled_weights_are_a_row_unless_they_saw_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_forecaster("climatology", 4)
    model.fit(torch.randn(20, SHORT.frames, 4), SHORT.observed)
    model.about = {"kept_out": "id1"}
    monkeypatch.setattr(keypoint_models, "load_forecaster", lambda name, device: model.eval())
    table = keypoint_table(ar_series(), {}, config(models=("known",)), tmp_path)["4-3"]
    assert [row["name"] for row in table["rows"]][-1] == "known (bundled)" and not list(tmp_path.glob("known*"))
    model.about = {"kept_out": "id2"}
    with pytest.raises(KinecastError, match="expected weights of a training that kept id1 out, found 'id2'"):
        keypoint_table(ar_series(), {}, config(models=("known",)), tmp_path)


@pytest.mark.slow
def test_workers_train_the_same_models(tmp_path: Path) -> None:
    tables = [
        keypoint_table(ar_series(), {}, config(models=("gru", "direct"), workers=n), tmp_path / str(n)) for n in (1, 2)
    ]
    for row, other in zip(*(table["4-3"]["rows"] for table in tables), strict=True):
        for of in (row, other):
            of["scores"].pop("seconds_per_window")
            of["trained"] = [{**record, "seconds": None} for record in of["trained"]]
        assert row == other


def test_scores_of_a_known_forecast() -> None:
    windows = evaluation_windows({"a": torch.arange(12.0).view(12, 1)}, Horizon(4, 2))
    scores = score_forecaster(build_forecaster("repeat", 1), windows, samples=9, seed=0).mean()
    assert scores.mae == scores.crps == 1.5  # 1 and 2 frames behind
    assert scores.mae_normalised == pytest.approx(1.5 / 9)  # frames 0-3 and 6-9 are observed
    assert scores.energy_score == pytest.approx(5**0.5)
    assert scores.spread == 0 and scores.coverage_80 == 0


def test_everybody_is_kept_out_once_and_nobody_by_a_model_that_saw_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    train = keypoint_models.train_forecaster

    def spy(series, *rest):
        trained.append({clip[:3] for clip in series})
        return train(series, *rest)

    monkeypatch.setattr(keypoint_models, "train_forecaster", spy)
    table = keypoint_table(ar_series(), {}, config(models=("gru",), folds=3), tmp_path)["4-3"]
    assert table["people"] == 3 and all(len(people) == 2 for people in trained)
    row = table["rows"][-1]
    assert set(row["by_person"]) == {"id0", "id1", "id2"} and row["family"] == "kinecast"
    people = [of["mae"] for of in row["by_person"].values()]
    assert row["scores"]["mae"] == pytest.approx(sum(people) / 3, abs=1e-5)
    assert row["people"]["mae"]["worst"] == pytest.approx(max(people), abs=1e-5)
    assert row["people"]["mae"]["low"] < row["scores"]["mae"] < row["people"]["mae"]["high"]
    damped = next(r for r in table["rows"] if r["name"] == "damped")
    ratios = [row["by_person"][p]["mae"] / damped["by_person"][p]["mae"] for p in row["by_person"]]
    assert row["against"]["mae"]["mean"] == pytest.approx(sum(ratios) / 3 - 1, abs=1e-3)
    pair = [p for p in table["paired"] if (p["first"], p["second"], p["column"]) == ("gru (kinecast)", "damped", "mae")]
    assert pair[0]["mean"] == pytest.approx(row["against"]["mae"]["mean"])
    with pytest.raises(KinecastError, match="that kept each fold's people out"):
        monkeypatch.setattr(
            keypoint_models, "load_forecaster", lambda name, device: load_forecaster_file(next(tmp_path.iterdir()))
        )
        keypoint_table(ar_series(), {}, config(models=("known",), folds=3), tmp_path)


def test_a_setting_is_chosen_on_training_people_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    train = selection.train_forecaster

    def spy(series, *rest):
        seen.append({clip[:3] for clip in series})
        return train(series, *rest)

    monkeypatch.setattr(selection, "train_forecaster", spy)
    keypoint_table(ar_series(), {}, config(models=()), tmp_path)
    assert seen and all(people in ({"id0"}, {"id2"}) for people in seen)  # id1 is the outer one; one inner is left out
    model = load_forecaster_file(tmp_path / "ridge_4-3_seed0.safetensors")
    assert model.config.penalty == model.about["chosen"]["penalty"] in selection.PENALTIES  # type: ignore[attr-defined]


def test_the_candidate_of_least_crps_on_people_left_out_is_chosen() -> None:
    training = ForecasterTrainingConfig(model="var", observed=4, forecast=3)
    chosen = selection.choose_settings(ar_series(12), training, [{"penalty": 1e6}, {"penalty": 0.1}])
    assert chosen == {"penalty": 0.1}  # increments tell the next ones here, so that shrinking all away is worse
    one = {clip: motion for clip, motion in ar_series().items() if clip.startswith("id0")}
    assert selection.choose_settings(one, training, selection.CANDIDATES["ridge"]) == {}


def test_presets_are_rows_of_their_own_and_differences_stand_beside_them(tmp_path: Path) -> None:
    sized = config(models=("gru", "gru:paper"), training=TINY)
    rows = {row["name"]: row for row in keypoint_table(ar_series(), {}, sized, tmp_path)["4-3"]["rows"]}
    assert "gru (kinecast)" in rows and rows["gru (paper)"]["family"] == "paper"
    assert any("hidden layer of SiLU" in line for line in rows["gru (paper)"]["differences"])
    assert rows["damped"]["differences"] == ()


def test_bad_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KinecastError, match="at least 2 samples"):
        config(samples=1)
    with pytest.raises(KinecastError, match="persons are id0, id1, id2"):
        keypoint_table(ar_series(), {}, config(validate="nobody"), tmp_path)


def test_a_general_model_is_trained_once_for_all_horizons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, str, int]] = []
    train = keypoint_models.train_forecaster

    def spy(series, training, *rest):
        if training.preset == "general":
            trained.append((training.model, str(training.horizon), training.steps))
            training = replace(training, steps=1)
        return train(series, training, *rest)

    monkeypatch.setattr(keypoint_models, "train_forecaster", spy)
    small = {"observed": 6, "forecast": 5, "every": 1, "also_every": (2,), "steps": 7}
    monkeypatch.setitem(keypoint_models.GENERAL, "transformer", small)
    settings = config(models=("transformer:general", "transformer"), horizons=(SHORT, Horizon(3, 4)))
    tables = keypoint_table(ar_series(), {}, settings, tmp_path)
    assert trained == [("transformer", "6-5", 7)]
    for table in tables.values():
        assert {"transformer:general (kinecast)", "transformer (kinecast)"} <= {row["name"] for row in table["rows"]}
    keypoint_table(ar_series(), {}, settings, tmp_path)
    assert len(trained) == 1  # what is there is used, although its settings hold a tuple


def test_baselines_that_are_left_out_are_neither_fitted_nor_shown(tmp_path: Path) -> None:
    few = ("damped", "climatology")
    table = keypoint_table(ar_series(), {}, config(models=("gru",), baselines=few), tmp_path)["4-3"]
    assert [row["name"] for row in table["rows"]] == [*few, "gru (kinecast)"]
    assert not list(tmp_path.glob("ridge*"))
    for wrong in (("damped",), ("damped", "climatology", "gru")):
        with pytest.raises(KinecastError, match="expected baselines of repeat, .*, climatology and damped among them"):
            config(baselines=wrong)


def test_a_model_that_knows_its_median_is_not_judged_by_that_of_few_samples() -> None:
    windows = evaluation_windows({"a": torch.randn(60, 1, generator=torch.Generator().manual_seed(1))}, Horizon(4, 2))
    model = build_forecaster("climatology", 1)
    model.fit(torch.randn(40, 6, 1, generator=torch.Generator().manual_seed(2)), 4)
    scores = [score_forecaster(model, windows, samples=4, seed=seed).mean() for seed in (0, 1)]
    exact = float((model.median(windows.observed, 2) - windows.truth).abs().mean())
    assert scores[0].mae == pytest.approx(exact) == pytest.approx(scores[1].mae)
    assert scores[0].crps != scores[1].crps


def test_one_rule_says_when_each_model_stops_and_its_curve_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges: dict[str, str | None] = {}
    train = keypoint_models.train_forecaster

    def spy(series, training, *rest):
        judges[training.model] = training.early_stop
        return train(series, training, *rest)

    monkeypatch.setattr(keypoint_models, "train_forecaster", spy)
    monkeypatch.setattr(keypoint_models.Models, "_one_in_ten", lambda self: "^id2$")
    settings = config(models=("gru", "vae"), stop_early=True, training=TINY | {"evaluate_every": 1})
    rows = {row["name"]: row for row in keypoint_table(ar_series(), {}, settings, tmp_path)["4-3"]["rows"]}
    assert judges["gru"] == judges["vae"] == "^id2$" and judges["damped"] is judges["climatology"] is None
    for name in ("gru (kinecast)", "vae (kinecast)"):
        (record,) = rows[name]["trained"]
        assert [point["step"] for point in record["curve"]] == [1, 2] and record["weights"] > 0
        assert all(point["crps"] > 0 for point in record["curve"])
    assert rows["damped"]["trained"] == () and not list(tmp_path.glob("*.state"))
    judges.clear()
    keypoint_table(ar_series(), {}, settings, tmp_path)
    assert not judges  # what is known of a training does not make it another


def test_too_few_people_for_a_rule_are_told(tmp_path: Path) -> None:
    with pytest.raises(KinecastError, match="early stopping: expected at least 20 training people, found 2"):
        keypoint_table(ar_series(), {}, config(models=("gru",), stop_early=True), tmp_path)


def test_the_kept_samples_are_the_fifth_nearest_to_the_truth() -> None:
    windows = evaluation_windows({"a": torch.zeros(6, 1)}, Horizon(4, 2))
    samples = torch.arange(10.0).view(10, 1, 1, 1).expand(-1, 1, 2, 1)
    scores = score_samples(samples, windows, 0.0).mean()
    assert scores.mae_samples == 4.5 and scores.apd == pytest.approx(3.3)  # 2 (9 + 2 8 + 3 7 + ...) / 100
    assert scores.mae_kept == 0.5 and scores.apd_kept == 0.5  # 0 and 1


def test_a_training_that_was_stopped_goes_on_with_the_same_people_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[Path] = []

    def stopped(series, training, state, log):
        states.append(state)
        raise KeyboardInterrupt

    monkeypatch.setattr(keypoint_models, "train_forecaster", stopped)
    for validate in ("id1", "id1", "id2"):
        with pytest.raises(KeyboardInterrupt):
            keypoint_table(ar_series(), {}, config(models=("gru",), validate=validate), tmp_path)
    assert states[0] == states[1] != states[2]
