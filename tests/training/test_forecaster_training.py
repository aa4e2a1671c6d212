"""Training of forecasters: what is learnt, who is kept out, and that a stop changes nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ar_motion import ar_motion, ar_series
from kinecast.data.windows import evaluation_windows, training_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import FORECASTERS, build_forecaster
from kinecast.forecasting.transformer import Transformer
from kinecast.training import forecaster as module
from kinecast.training.checkpoint import load_state, save_state
from kinecast.training.forecaster import (
    ForecasterTrainingConfig,
    augmented,
    learning_rate_factor,
    save_run,
    scores_of,
    train_forecaster,
)

SMALL = {
    "gru": {"hidden": 6, "read_out": 6},
    "vrnn": {"hidden": 6, "latent": 3, "mlp": 6, "latent_features": 2},
    "vrnn-released": {"hidden": 6, "latent": 3, "fc": 6},
    "vae": {"mlp": 6, "latent": 3},
    "nf": {"hidden": 6, "blocks": 2},
    "gru-nf": {"hidden": 6, "blocks": 2, "flow_hidden": 6},
    "gru-snf": {"hidden": 6, "blocks": 2, "flow_hidden": 6},
    "direct": {"hidden": 6, "mlp": 6, "read_out": 6, "members": 2},
    "transformer": {"width": 8, "heads": 2, "layers": 1, "members": 2},
}


def config(model: str = "gru", **changes: object) -> ForecasterTrainingConfig:
    start = ForecasterTrainingConfig(
        model=model, overrides=SMALL.get(model, {}), observed=5, forecast=4, steps=20, batch_size=8, checkpoint_every=10
    )
    return replace(start, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", list(FORECASTERS))
def test_every_forecaster_is_trained_by_one_entry(model: str) -> None:
    result = train_forecaster(ar_series(), config(model, steps=2, validate="id1"))
    assert result.model.name == model and not result.model.training
    assert result.steps == (2 if model in SMALL else 0)
    assert set(result.figures) == {"crps", "mae", "mae_repeat_last"}
    assert result.model.forecast(ar_motion(8)[None, :5], 4, samples=2).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("early_stop", [None, "id2"])
def test_a_run_that_was_stopped_reaches_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, early_stop: str | None
) -> None:
    settings = config("vrnn", early_stop=early_stop, evaluate_every=5)
    uninterrupted = train_forecaster(ar_series(), settings)
    whole = uninterrupted.model.state_dict()

    checkpoint, steps = tmp_path / "run.ckpt", []
    train_step = module._Run._train_step

    def killed_at_13(run: module._Run) -> object:
        if run.step == 13:
            raise KeyboardInterrupt
        steps.append(run.step)
        return train_step(run)

    monkeypatch.setattr(module._Run, "_train_step", killed_at_13)
    with pytest.raises(KeyboardInterrupt):
        train_forecaster(ar_series(), settings, checkpoint)

    def noted(run: module._Run) -> object:
        steps.append(run.step)
        return train_step(run)

    monkeypatch.setattr(module._Run, "_train_step", noted)
    torch.manual_seed(99)
    result = train_forecaster(ar_series(), settings, checkpoint)
    assert steps == [*range(13), *range(10, 20)]
    assert [point.step for point in result.curve] == [5, 10, 15, 20]
    assert result.curve == uninterrupted.curve
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(tensor, whole[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train_forecaster(ar_series(), config(), tmp_path / "run.ckpt").model.state_dict()
    said: list[str] = []
    again = train_forecaster(ar_series(), config(), tmp_path / "run.ckpt", said.append).model.state_dict()
    assert "resuming from step 20" in said
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    train_forecaster(ar_series(), config(), tmp_path / "run.ckpt")
    with pytest.raises(KinecastError, match="found one with another batch_size, seed: delete it"):
        train_forecaster(ar_series(), config(seed=1, batch_size=4), tmp_path / "run.ckpt")


def test_the_seed_decides_and_nothing_else_does() -> None:
    weights = []
    for outer, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(outer)
        weights.append(train_forecaster(ar_series(), config(seed=seed)).model.get_parameter("damping"))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_people_kept_out_do_not_touch_the_weights() -> None:
    series = ar_series()
    without = {clip: motion for clip, motion in series.items() if not clip.startswith("id1")}
    changed = {clip: motion * 100 if clip.startswith("id1") else motion for clip, motion in series.items()}
    first = train_forecaster(changed, config("vrnn", validate="id1")).model.state_dict()
    second = train_forecaster(without, config("vrnn")).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_early_stopping_keeps_the_best_weights_and_ends() -> None:
    said: list[str] = []
    settings = config("gru", early_stop="id2", evaluate_every=2, patience=2, steps=400, learning_rate=0.5)
    result = train_forecaster(ar_series(), settings, log=said.append)
    scores = [float(line.split("CRPS ")[1].split()[0]) for line in said if "CRPS" in line]
    assert result.steps < 400 and len(scores) == scores.index(min(scores)) + 3
    kept_out = {clip: motion for clip, motion in ar_series().items() if clip.startswith("id2")}
    best = scores_of(result.model, evaluation_windows(kept_out, settings.horizon))["crps"]
    assert best == pytest.approx(min(scores), abs=1e-5)


def test_training_beats_what_it_starts_from() -> None:
    series = ar_series(9, 120)
    settings = config("gru", steps=150, batch_size=32, learning_rate=1e-2, validate="id1")
    trained = train_forecaster(series, settings).figures
    start = train_forecaster(series, replace(settings, steps=1, learning_rate=1e-9)).figures
    assert trained["mae"] < start["mae"] < trained["mae_repeat_last"]


def test_augmentation_scales_about_the_mean() -> None:
    batch = torch.randn(5, 6, 3)
    scaled = augmented(batch, 0.7)
    torch.testing.assert_close(scaled.mean(dim=1), batch.mean(dim=1))
    ratio = (scaled - scaled.mean(dim=1, keepdim=True)) / (batch - batch.mean(dim=1, keepdim=True))
    assert (ratio > 0).all()
    torch.testing.assert_close(ratio, ratio[:, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert augmented(batch, 0.0) is batch


def test_the_learning_rate_rises_and_falls() -> None:
    settings = config(steps=100, warmup_steps=10)
    factors = [learning_rate_factor(settings, step) for step in range(101)]
    assert factors[0] == pytest.approx(0.1) and max(factors) == factors[9] and factors[100] == pytest.approx(0)
    assert factors[55] == pytest.approx(0.5, abs=0.1)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(KinecastError, match="expected steps of at least 1, found 0"):
        config(steps=0)
    with pytest.raises(KinecastError, match=r"expected average in \[0, 1\), found 1"):
        config(average=1.0)
    with pytest.raises(KinecastError, match="found wings"):
        train_forecaster(ar_series(), config(overrides={"wings": 1}))
    with pytest.raises(KinecastError, match="horizon 50-4 needs at least 54"):
        train_forecaster({"id1_a": ar_motion(40)}, config(observed=50))
    with pytest.raises(KinecastError, match="expected a finite loss, found nan: lower the learning rate"):
        train_forecaster(ar_series(), config(learning_rate=1e30, clip_norm=1e30))


def test_config_and_figures_are_written_beside(tmp_path: Path) -> None:
    settings = config(validate="id1", steps=1)
    save_run(tmp_path / "run.json", settings, train_forecaster(ar_series(), settings))
    saved = json.loads((tmp_path / "run.json").read_text())
    assert saved["config"]["seed"] == 0 and saved["config"]["validate"] == "id1" and saved["kept_out"]["crps"] > 0


def test_scores_of_a_known_forecast() -> None:
    windows = evaluation_windows(
        {"a": torch.arange(10.0).view(10, 1)}, ForecasterTrainingConfig(observed=3, forecast=2).horizon
    )
    figures = scores_of(build_forecaster("repeat", 1), windows)
    assert figures == {"crps": 1.5, "mae": 1.5, "mae_repeat_last": 1.5}


def test_one_model_is_trained_on_several_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    run = module._Run

    def spy(model, windows, *rest):
        seen.append(windows)
        return run(model, windows, *rest)

    monkeypatch.setattr(module, "_Run", spy)
    series = ar_series()
    train_forecaster(series, config(steps=1, also_every=(2,)))
    parts = [training_windows(series, config().horizon, 1, every).frames for every in (1, 2)]
    assert torch.equal(seen[0], torch.cat(parts)) and len(parts[1])
    with pytest.raises(KinecastError, match="expected also_every of numbers of at least 1, found \\(0,\\)"):
        config(also_every=(0,))


@pytest.mark.parametrize("early_stop", [None, "id2"])
def test_intervals_are_calibrated_on_people_without_gradients_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, early_stop: str | None
) -> None:
    seen: list[int] = []
    calibrate = Transformer.calibrate

    def spy(model: Transformer, windows: torch.Tensor, observed: int) -> None:
        seen.append(len(windows))
        calibrate(model, windows, observed)

    monkeypatch.setattr(Transformer, "calibrate", spy)
    series = ar_series()
    train_forecaster(series, config("transformer", steps=1, early_stop=early_stop))
    mine = {clip: motion for clip, motion in series.items() if clip.startswith("id2")}
    judged = evaluation_windows(mine, config().horizon).frames
    everybody = training_windows(series, config().horizon, 1, 1).frames
    assert seen[-1] == len(judged if early_stop else everybody)


def test_a_checkpoint_of_before_there_were_several_rates_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    train_forecaster(ar_series(), config(), path)
    state = load_state(path)
    state["config"] = json.dumps({k: v for k, v in json.loads(state["config"]).items() if k != "also_every"})
    save_state(path, state)
    said: list[str] = []
    train_forecaster(ar_series(), config(), path, said.append)
    assert "resuming from step 20" in said
