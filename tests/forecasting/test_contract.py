"""What every forecaster of the registry must do, one body for all."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import FORECASTERS, Forecaster, build_forecaster, forecaster_class
from kinecast.forecasting.baselines import Baseline, Climatology, ConstantVelocity, DampedVelocity, RepeatLast
from kinecast.forecasting.direct import Direct
from kinecast.forecasting.gru import GRUForecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.linear import VAR, Ridge
from kinecast.forecasting.nf import NF
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.forecasting.transformer import Transformer
from kinecast.forecasting.vae import VAE
from kinecast.forecasting.vrnn import VRNN
from kinecast.forecasting.vrnn_released import ReleasedVRNN

NAMED: dict[str, type[Forecaster]] = {
    "repeat": RepeatLast,
    "velocity": ConstantVelocity,
    "damped": DampedVelocity,
    "climatology": Climatology,
    "ridge": Ridge,
    "var": VAR,
    "gru": GRUForecaster,
    "vae": VAE,
    "nf": NF,
    "gru-nf": GRUNF,
    "gru-snf": GRUSNF,
    "vrnn": VRNN,
    "vrnn-released": ReleasedVRNN,
    "direct": Direct,
    "transformer": Transformer,
}
_GRU: dict[str, Any] = {"hidden": 8, "read_out": 8}
_FLOW: dict[str, Any] = {"hidden": 8, "blocks": 2, "flow_hidden": 8}
_VRNN: dict[str, Any] = {"hidden": 8, "latent": 3, "mlp": 8}
CASES: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "repeat": ("repeat", None, {}),
    "velocity": ("velocity", None, {}),
    "damped": ("damped", None, {}),
    "climatology": ("climatology", None, {}),
    "ridge": ("ridge", None, {}),
    "var": ("var", None, {}),
    "gru": ("gru", "kinecast", _GRU),
    "gru-published": ("gru", "paper", _GRU),
    "gru-window-teacher": ("gru", "paper", _GRU | {"normalization": "window", "error": "absolute"}),
    "vae": ("vae", "kinecast", {"latent": 3, "mlp": 8}),
    "vae-published": ("vae", "paper", {"latent": 3, "mlp": 8}),
    "nf": ("nf", "kinecast", {"blocks": 2, "hidden": 8}),
    "nf-published": ("nf", "paper", {"blocks": 2, "hidden": 8}),
    "gru-nf": ("gru-nf", "kinecast", _FLOW),
    "gru-nf-published": ("gru-nf", "paper", _FLOW | {"layers": 2}),
    "gru-snf": ("gru-snf", "kinecast", _FLOW),
    "gru-snf-exact": ("gru-snf", "released", _FLOW | {"energy": "exact", "acceptance": "joint", "kernel": "langevin"}),
    "vrnn": ("vrnn", "kinecast", _VRNN),
    "vrnn-scores": ("vrnn", "kinecast", _VRNN | {"energy_weight": 1.0, "noise": "gaussian", "loading": False}),
    "vrnn-published": ("vrnn", "paper", _VRNN | {"latent_features": 8}),
    "direct": ("direct", "kinecast", {"hidden": 8, "mlp": 8, "read_out": 8, "members": 2}),
    "direct-longer": ("direct", "kinecast", {"hidden": 8, "mlp": 8, "read_out": 8, "members": 1, "longest": 3}),
    "transformer": ("transformer", "kinecast", {"width": 8, "heads": 2, "layers": 1, "members": 2, "absolute": True}),
    "transformer-longer": ("transformer", "general", {"width": 8, "layers": 1, "longest": 3, "reads": 5}),
    "vrnn-released": ("vrnn-released", "released", {"hidden": 8, "latent": 3, "fc": 8}),
}
N, H, D = 6, 4, 4


def build(case: str, dim: int = D, fit: Tensor | None = None, observed: int = N) -> Forecaster:
    name, preset, overrides = CASES[case]
    torch.manual_seed(3)
    model = build_forecaster(name, dim, preset, **overrides)
    model.fit(ar_windows(30, N + H, dim) if fit is None else fit, observed)
    return model.eval()


@pytest.fixture(params=list(CASES))
def model(request: pytest.FixtureRequest) -> Forecaster:
    return build(request.param)


def observed(count: int = 3, frames: int = N, dim: int = D) -> Tensor:
    return ar_windows(count, frames, dim)


def test_every_name_builds_the_class_it_names() -> None:
    assert FORECASTERS == NAMED
    assert {name for name, _, _ in CASES.values()} == set(FORECASTERS)
    for name, kind in NAMED.items():
        for preset, config in kind.presets.items():
            model = build_forecaster(name, 3, preset)
            assert type(model) is kind and model.name == name and model.config == config


def test_shapes(model: Forecaster) -> None:
    forecast = model.forecast(observed(), H, samples=5)
    assert forecast.shape == (5, 3, H, D)
    assert forecast.dtype == torch.float32 and torch.isfinite(forecast).all()


def test_frames_after_the_observed_ones_change_nothing(model: Forecaster) -> None:
    series = ar_windows(3, 20)
    before = model.forecast(series[:, :N], H, samples=3)
    series[:, N:] = 1e6 * torch.randn(3, 20 - N, D)
    assert torch.equal(model.forecast(series[:, :N], H, samples=3), before)


def test_the_median_is_that_of_many_samples(model: Forecaster) -> None:
    median = model.median(observed(), H, samples=600)
    assert median.shape == (3, H, D)
    samples = model.forecast(observed(), H, samples=600, seed=1)
    near = (median - samples.median(dim=0).values).abs() <= 0.5 * samples.std(dim=0) + 1e-6
    assert near.float().mean() > 0.95


def test_a_seed_gives_the_same_samples(model: Forecaster) -> None:
    first = model.forecast(observed(), H, samples=4, seed=7)
    torch.manual_seed(123)  # nothing depends on the global generator
    assert torch.equal(model.forecast(observed(), H, samples=4, seed=7), first)
    assert torch.equal(model.forecast(observed(), H, 4, generator=torch.Generator().manual_seed(7)), first)
    if not model.deterministic:
        assert not torch.equal(model.forecast(observed(), H, samples=4, seed=8), first)


def test_dropout_is_off_in_a_forecast_and_the_mode_is_kept(model: Forecaster) -> None:
    expected = model.forecast(observed(), H, samples=2)
    model.train()
    assert torch.equal(model.forecast(observed(), H, samples=2), expected)
    assert model.training


def test_samples_differ_unless_there_is_no_randomness(model: Forecaster) -> None:
    forecast = model.forecast(observed(), H, samples=6)
    assert (forecast.std(dim=0).amax() == 0) == model.deterministic
    if not model.deterministic:
        assert len(torch.unique(forecast.flatten(1), dim=0)) == 6


# Of the others that draw an untrained one forgets its frames; a test of its own steers the draws.
FORGETFUL = ("vrnn-released", "vrnn-published", "gru-nf-published", "gru-snf-exact")
DRAWING = ("climatology", "ridge", "var", "vrnn", "direct", "transformer", "gru-nf", "gru-snf")


@pytest.mark.parametrize("case", [name for name in CASES if name.startswith(DRAWING) and name not in FORGETFUL])
def test_each_sample_goes_on_from_its_own_frames(case: str) -> None:
    forecast = build(case).forecast(observed(1), 2, samples=400)[:, 0]
    first, second = (forecast - forecast.mean(dim=0)).unbind(dim=1)
    correlation = (first * second).mean(dim=0) / (first.std(dim=0) * second.std(dim=0))
    # Samples that all went on from the same frame (their mean, say) would have a second step uncorrelated to the first.
    assert correlation.amin() > 0.4


def test_other_windows_of_the_batch_change_nothing(model: Forecaster) -> None:
    batch = observed(4)
    before = model.forecast(batch, H, samples=3)[:, 1]
    batch[[0, 2, 3]] = torch.randn(3, N, D)
    torch.testing.assert_close(model.forecast(batch, H, samples=3)[:, 1], before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", [name for name, (kind, _, _) in CASES.items() if kind not in list(NAMED)[:6]])
def test_gradient_reaches_every_parameter(case: str) -> None:
    model = build(case).train()
    loss, parts = model.loss(ar_windows(8, N + H), N)
    assert loss.ndim == 0 and parts and not any(part.requires_grad for part in parts.values())
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:  # a flow's batch statistics are parameters, to be averaged with the weights
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("case", list(NAMED)[:6])
def test_a_baseline_has_a_loss_and_no_parameters(case: str) -> None:
    model = build(case)
    assert isinstance(model, Baseline)
    windows = ar_windows(8, N + H)
    assert not list(model.parameters())
    following = [model._central(windows[:, :t], 1) for t in range(N, N + H)]
    expected = (torch.cat(following, dim=1) - windows[:, N:]).square().mean()
    torch.testing.assert_close(model.loss(windows, N)[0], expected)


def test_saved_and_loaded_it_is_the_same_bit_for_bit(model: Forecaster, tmp_path: Any) -> None:
    save_forecaster(model, tmp_path / "model.safetensors", {"horizon": "6-4"})
    loaded = load_forecaster_file(tmp_path / "model.safetensors")
    assert type(loaded) is type(model) and loaded.config == model.config and loaded.about == {"horizon": "6-4"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert torch.equal(loaded.forecast(observed(), H, samples=3), model.forecast(observed(), H, samples=3))


@pytest.mark.parametrize("case", list(CASES))
def test_one_number_a_frame_and_a_horizon_of_one(case: str) -> None:
    model = build(case, dim=1, fit=ar_windows(10, N + 1, 1))
    assert model.forecast(observed(2, N, 1), 1, samples=2).shape == (2, 2, 1, 1)
    assert torch.isfinite(model.loss(ar_windows(2, N + 1, 1), N)[0])


@pytest.mark.parametrize("case", list(CASES))
def test_motion_that_stands_still_is_forecast_finite(case: str) -> None:
    still = torch.ones(5, N + H, D)
    model = build(case, fit=still)
    assert torch.isfinite(model.forecast(still[:, :N], H, samples=2)).all()
    assert torch.isfinite(model.loss(still, N)[0])


def test_the_fewest_observed_frames_are_enough_and_fewer_are_refused(model: Forecaster) -> None:
    fewest = model.min_observed
    assert model.forecast(observed(2, fewest), H).shape == (1, 2, H, D)
    with pytest.raises(KinecastError, match=f"expected at least {fewest} observed frames, found {fewest - 1}"):
        model.forecast(observed(2, N)[:, : fewest - 1], H)


def test_bad_input_is_refused_in_one_line(model: Forecaster) -> None:
    bad = observed()
    bad[1, 2, 0] = torch.nan
    cases = [
        (lambda: model.forecast(bad, H), "found NaN or infinity in the observed frames"),
        (lambda: model.forecast(observed(dim=D + 1), H), rf"expected observed motion \(B, N, {D}\), found \(3, 6, 5\)"),
        (lambda: model.forecast(observed(), 0), "found horizon 0"),
        (lambda: model.forecast(observed(), 1, samples=0), "samples 0"),
        (lambda: model.loss(ar_windows(2, 6, D + 1)), rf"expected windows \(B, T, {D}\)"),
        (lambda: model.loss(ar_windows(2, N), N), "1 later frame"),
    ]
    for call, message in cases:
        with pytest.raises(KinecastError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_configs_refuse_what_they_do_not_know() -> None:
    with pytest.raises(KinecastError, match="found wings"):
        build_forecaster("gru", 3, wings=2)
    with pytest.raises(KinecastError, match=r"expected hidden above 0, found 0"):
        build_forecaster("gru", 3, hidden=0)
    with pytest.raises(KinecastError, match=r"expected hidden of type int, found 'many'"):
        build_forecaster("vrnn", 3, hidden="many")
    with pytest.raises(KinecastError, match=r"expected channels one of joint, shared, frame, found 'both'"):
        build_forecaster("vrnn", 3, channels="both")
    with pytest.raises(KinecastError, match=r"expected a preset of kinecast, paper; found 'huge'"):
        build_forecaster("gru", 3, "huge")
    with pytest.raises(KinecastError, match=r"expected one of repeat, .*vrnn-released"):
        build_forecaster("oracle", 3)
    with pytest.raises(KinecastError, match="at least 1 number"):
        build_forecaster("repeat", 0)


def test_config_values_are_read_from_text() -> None:
    config_type = forecaster_class("vrnn").config_type
    values = config_type.parse(["hidden=7", "loading=false", "noise=gaussian", "dropout=0"])
    assert values == {"hidden": 7, "loading": False, "noise": "gaussian", "dropout": 0}
    with pytest.raises(KinecastError, match="expected KEY=VALUE, found 'hidden'"):
        config_type.parse(["hidden"])
