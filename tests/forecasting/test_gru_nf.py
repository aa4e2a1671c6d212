import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ar_motion import ar_series, ar_windows
from kinecast.data.windows import Horizon, training_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster

SIZES: dict[str, Any] = {"hidden": 8, "flow_hidden": 8, "blocks": 3}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "kinecast": ("kinecast", SIZES),
    "paper": ("paper", SIZES | {"layers": 2, "flow_layers": 3}),
    "residual of training units": ("paper", SIZES | {"variable": "residual", "channels": "joint"}),
    "position of a window": ("kinecast", SIZES | {"variable": "position"}),
}


def build(case: str, dim: int = 4, windows: Tensor | None = None) -> GRUNF:
    preset, overrides = CASES[case]
    torch.manual_seed(1)
    model = build_forecaster("gru-nf", dim, preset, **overrides)
    assert isinstance(model, GRUNF)
    model.fit(ar_windows(40, 10, dim) if windows is None else windows, 6)
    with torch.no_grad():
        for name, parameter in model.flow.named_parameters():
            if "variance" not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(params=list(CASES))
def model(request: pytest.FixtureRequest) -> GRUNF:
    return build(request.param)


def test_log_prob_is_of_raw_units(model: GRUNF) -> None:
    """By autograd: p(x) = N(z(x)) |det dz/dx| of the map from the later frames to all the noise behind them."""
    model.double()
    window = ar_windows(1, 9).double()

    def noise(later: Tensor) -> Tensor:
        whole = torch.cat([window[:, :6], later.view(1, 3, 4)], dim=1)
        units = model.normalizer(whole[:, :6])
        following = model.next_frames(units, whole, 6)
        return following.flow.to_base(following.to_flow(whole[:, 6:].flatten(0, 1))[0])[0].flatten()

    later = window[:, 6:].flatten()
    z, jacobian = noise(later), torch.autograd.functional.jacobian(noise, later)
    expected = -0.5 * (z.square().sum() + len(z) * math.log(2 * math.pi)) + torch.linalg.slogdet(jacobian).logabsdet
    log_prob = model.log_prob(window, 6)
    assert log_prob.shape == (1,)
    torch.testing.assert_close(log_prob[0], expected, atol=1e-6, rtol=1e-6)


def test_terms_of_the_likelihood_see_no_later_frame(model: GRUNF) -> None:
    windows = ar_windows(3, 10)

    def terms(windows: Tensor) -> Tensor:
        following = model.next_frames(model.normalizer(windows[:, :6]), windows, 6)
        return following.log_prob(windows[:, 6:].flatten(0, 1)).view(3, 4)

    before = terms(windows)
    for t in range(6, 10):
        changed = windows.clone()
        changed[:, t:] += 0.05
        after = terms(changed)
        assert torch.equal(before[:, : t - 6], after[:, : t - 6])
        assert not torch.isclose(before[:, t - 6 :], after[:, t - 6 :]).any()


def test_sampling_inverts_the_likelihood(model: GRUNF) -> None:
    """The noise that a sampled trajectory is read as is the noise that it was drawn from, sample by sample."""
    observed, samples, horizon = ar_windows(3, 6), 5, 4
    drawn = model.forecast(observed, horizon, samples, seed=4)
    random = torch.Generator().manual_seed(4)
    noise = torch.stack([torch.randn(samples * 3, 4, generator=random) for _ in range(horizon)], dim=1)
    windows = torch.cat([observed.repeat(samples, 1, 1), drawn.flatten(0, 1)], dim=1)
    with torch.no_grad():
        following = model.next_frames(model.normalizer(windows[:, :6]), windows, 6)
        read, _ = following.flow.to_base(following.to_flow(windows[:, 6:].flatten(0, 1))[0])
    torch.testing.assert_close(read.view(15, horizon, 4), noise, atol=2e-3, rtol=1e-3)


def white_noise(count: int, seed: int, dim: int = 2) -> Tensor:
    return torch.randn(count, 8, dim, generator=torch.Generator().manual_seed(seed))


class Anticausal(GRUNF):
    """Conditions x_t on the state that has read it, as the released code does."""

    def next_frames(self, units: Any, windows: Tensor, first: int) -> Any:
        ahead = torch.cat([windows[:, 1:], windows[:, -1:]], dim=1)  # one frame early: state t-1 has read x_t
        return super().next_frames(units, ahead, first)


@pytest.mark.parametrize(("kind", "causal"), [(GRUNF, True), (Anticausal, False)])
def test_on_white_noise_the_likelihood_stays_below_the_entropy_floor(kind: type[GRUNF], causal: bool) -> None:
    torch.manual_seed(0)
    config = GRUNF.presets["paper"].from_dict(
        GRUNF.presets["paper"].to_dict() | {"hidden": 16, "layers": 1, "blocks": 2, "flow_hidden": 16, "flow_layers": 2}
    )
    model = kind(2, config)
    model.fit(white_noise(2000, 0), 4)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(120):
        loss, _ = model.train().loss(white_noise(64, 1 + step), 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        nll = -model.eval().log_prob(white_noise(2000, 9999), 0) / 8  # a frame
    floor = 2 * 0.5 * math.log(2 * math.pi * math.e)
    error = float(nll.std()) / len(nll) ** 0.5
    if causal:
        assert floor - 3 * error < float(nll.mean()) < floor + 0.2  # no better than possible, and near it
    else:
        assert float(nll.mean()) < floor - 10 * error  # what this test is there to catch


def test_densities_of_whole_windows_are_published_ones_only() -> None:
    windows = ar_windows(3, 10)
    assert build("paper").log_prob(windows, 0).shape == (3,)
    whole, later = (build("paper").log_prob(windows, n) for n in (0, 6))
    assert not torch.equal(whole, later)
    for case in ("kinecast", "residual of training units", "position of a window"):
        with pytest.raises(KinecastError, match="expected at least 1 observed frame, found 0"):
            build(case).log_prob(windows, 0)


def test_a_window_moved_as_a_whole_is_forecast_moved() -> None:
    model = build("kinecast")
    observed, moved = ar_windows(3, 6), torch.tensor([1.0, -2.0, 0.5, 3.0])
    expected = model.forecast(observed, 4, samples=3) + moved
    torch.testing.assert_close(model.forecast(observed + moved, 4, samples=3), expected, atol=1e-4, rtol=1e-4)


def test_each_sample_goes_on_from_its_own_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where an untrained model forgets them: one sample's draw of the first frame changes its later ones alone."""
    model = build("paper")
    observed = ar_windows(2, 6)

    def run(push: float) -> Tensor:
        calls = iter(range(3))

        def invert(flow: Any, noise: Tensor) -> Tensor:
            pushed = torch.zeros_like(noise)
            if next(calls) == 0:
                pushed[3] = push  # sample 1 of window 1
            return flow.from_base(pushed)[0]

        with torch.inference_mode():
            return model.trajectories(observed, 3, 2, torch.Generator(), invert)

    calm, pushed = run(0.0), run(3.0)
    changed = (calm != pushed).any(dim=3)
    assert changed[1, 1].all() and not changed[0].any() and not changed[1, 0].any()


def test_correlated_motion_is_sampled_correlated_before_any_training() -> None:
    windows = ar_windows(200, 10)
    torch.manual_seed(0)
    model = build_forecaster("gru-nf", 4, **SIZES).eval()
    model.fit(windows, 6)
    steps = model.forecast(windows[:1, :6], 1, samples=2000)[:, 0, 0] - windows[0, 5]
    sampled, true = torch.corrcoef(steps.T), torch.corrcoef(windows.diff(dim=1).diff(dim=1).flatten(0, 1).T)
    upper = torch.triu_indices(4, 4, offset=1)
    assert torch.corrcoef(torch.stack([sampled[*upper], true[*upper]]))[0, 1] > 0.9


def test_statistics_of_batch_normalisation_survive_training() -> None:
    """What is kept of a run is a moving average of the parameters: it must hold the running statistics too."""
    config = ForecasterTrainingConfig(
        model="gru-nf",
        preset="paper",
        overrides=CASES["paper"][1] | {"channels": "joint"},
        observed=6,
        forecast=4,
        steps=80,
        learning_rate=2e-2,
    )
    model = train_forecaster(ar_series(), config).model
    statistics = [tensor for name, tensor in model.state_dict().items() if "running" in name]
    assert len(statistics) == 4
    assert not any(torch.equal(tensor, torch.ones(4)) or not tensor.any() for tensor in statistics)
    assert isinstance(model, GRUNF)
    windows = training_windows(ar_series(), Horizon(6, 4)).frames
    with torch.no_grad():
        by_running = float(model.eval().log_prob(windows, 6).mean())
        by_batch = float(model.train().log_prob(windows, 6).mean())
        for name, parameter in model.named_parameters():
            if "running" in name:
                parameter.fill_(float("variance" in name))
        forgotten = float(model.eval().log_prob(windows, 6).mean())
    assert by_running == pytest.approx(by_batch, abs=0.3)
    assert abs(forgotten - by_batch) > 1


def test_training_raises_the_likelihood_of_windows_not_trained_on() -> None:
    model = build("kinecast")
    fresh = ar_windows(90, 10)[60:]
    with torch.no_grad():
        before = model.log_prob(fresh, 6).mean()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    batch = ar_windows(60, 10)
    for _ in range(25):
        loss, _ = model.train().loss(batch, 6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert float(model.eval().log_prob(fresh, 6).mean()) > float(before) + 1
