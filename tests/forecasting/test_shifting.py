"""VAE and NF: what they see, how they go on beyond k frames, and that they learn a distribution that is known."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.nf import NF
from kinecast.forecasting.shifting import ShiftingForecaster
from kinecast.forecasting.vae import VAE

K = 4
SIZES: dict[str, dict[str, Any]] = {"vae": {"latent": 3, "mlp": 16}, "nf": {"blocks": 2, "hidden": 16}}


def build(name: str, dim: int = 3, windows: Tensor | None = None, **overrides: Any) -> ShiftingForecaster:
    torch.manual_seed(2)
    model = build_forecaster(name, dim, "kinecast", **(SIZES[name] | {"normalization": "training"} | overrides))
    assert isinstance(model, ShiftingForecaster)
    model.fit(ar_windows(30, 2 * K, dim) if windows is None else windows, K)
    return model.eval()


def trained(model: ShiftingForecaster, windows: Tensor, steps: int = 150) -> ShiftingForecaster:
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(steps):
        loss, _ = model.loss(windows[torch.randint(len(windows), (64,))], K)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("name", list(SIZES))
def test_a_frame_is_forecast_from_the_one_k_before_it_alone(name: str) -> None:
    model, observed = build(name), ar_windows(2, K, 3)
    before = model.forecast(observed, 2 * K, samples=3)
    for i in range(K):
        changed = observed.clone()
        changed[:, i] += 1
        frames = (model.forecast(changed, 2 * K, samples=3) != before).any(dim=3).any(dim=1).any(dim=0)
        assert frames.nonzero()[:, 0].tolist() == [i, i + K]  # and through it, its own later frames


@pytest.mark.parametrize("name", list(SIZES))
def test_a_short_horizon_is_the_beginning_of_a_long_one(name: str) -> None:
    model, observed = build(name), ar_windows(2, K, 3)
    torch.testing.assert_close(model.forecast(observed, 2, samples=3), model.forecast(observed, K, samples=3)[:, :, :2])


@pytest.mark.parametrize("name", list(SIZES))
def test_beyond_k_each_sample_reads_its_own_frames(name: str) -> None:
    model, observed = build(name), ar_windows(1, K, 3)
    drawn: list[Tensor] = []
    draw = model.draw
    model.draw = lambda frames, generator: drawn.append(frames) or draw(frames, generator)  # type: ignore
    forecast = model.forecast(observed, K + 2, samples=5)[:, 0]
    unit = model.normalizer(observed)
    read = unit.shift + unit.scale * drawn[1]
    torch.testing.assert_close(read, forecast[:, :2])
    assert len(torch.unique(read[:, 0], dim=0)) == 5


@pytest.mark.parametrize("name", list(SIZES))
def test_before_the_first_frame_it_stood_still(name: str) -> None:
    model, observed = build(name), ar_windows(2, 1, 3)
    still = observed.expand(-1, K, -1)
    assert torch.equal(model.forecast(observed, K, samples=2), model.forecast(still, K, samples=2))


@pytest.mark.parametrize("name", list(SIZES))
def test_shared_noise_leaves_each_frame_its_distribution(name: str) -> None:
    shared, apart = build(name, noise="shared"), build(name, noise="independent")
    apart.load_state_dict(shared.state_dict())
    observed = ar_windows(1, K, 3)
    first, second = (m.forecast(observed, K, samples=4000)[:, 0] for m in (shared, apart))
    torch.testing.assert_close(first.mean(dim=0), second.mean(dim=0), atol=0.02 * float(first.std()) + 0.01, rtol=0.05)
    torch.testing.assert_close(first.std(dim=0), second.std(dim=0), atol=0, rtol=0.08)

    def step_to_step(samples: Tensor) -> Tensor:
        left = samples - samples.mean(dim=0)
        return (left[:, 0] * left[:, 1]).mean(dim=0) / (left[:, 0].std(dim=0) * left[:, 1].std(dim=0))

    assert step_to_step(first).amin() > 0.9 and step_to_step(second).abs().amax() < 0.1


@pytest.mark.parametrize("name", list(SIZES))
def test_they_learn_a_known_distribution(name: str) -> None:
    # A Gaussian walk of single frames: x_{t+4} given x_t has mean 0.6 x_t and deviation 0.8, in units of 1.
    torch.manual_seed(0)
    start = torch.randn(2000, K, 1)
    windows = torch.cat([start, 0.6 * start + 0.8 * torch.randn(2000, K, 1)], dim=1)
    model = trained(build(name, 1, windows), windows)
    for x in (-1.0, 0.5):
        samples = model.forecast(torch.full((1, K, 1), x), 1, samples=4000)[:, 0, 0, 0]
        assert float(samples.mean()) == pytest.approx(0.6 * x, abs=0.12)
        assert float(samples.std()) == pytest.approx(0.8, abs=0.12)


def test_a_bound_in_full_weight_would_forget_the_frame() -> None:
    # What the latent tells of x_{t+k} is at most what it tells of x_t, which the KL costs: data processing. The
    # default weight is therefore far below 1.
    torch.manual_seed(0)
    start = torch.randn(2000, K, 1)
    windows = torch.cat([start, 0.6 * start + 0.8 * torch.randn(2000, K, 1)], dim=1)
    model = trained(build("vae", 1, windows, kl_weight=1.0), windows)
    assert isinstance(model, VAE)
    low, high = model.forecast(torch.tensor([-1.0, 1.0]).view(2, 1, 1).expand(-1, K, -1), 1, samples=2000).mean(dim=0)
    assert abs(float(high - low)) < 0.3  # 1.2 in truth


def test_the_published_vae_has_the_latents_spread_alone() -> None:
    model = build_forecaster("vae", 3, "paper", latent=3, mlp=16)
    assert isinstance(model, VAE) and model.log_deviation is None
    model.fit(ar_windows(30, 2 * K, 3), K)
    batch = ar_windows(4, 2 * K, 3)
    assert set(model.loss(batch, K)[1]) == {"squared", "kl"} and set(build("vae").loss(batch, K)[1]) == {"nll", "kl"}
    last = model.encoder[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(-40)  # no deviation left in the latent
    samples = model.forecast(batch[:, :K], K, samples=3)
    assert samples.std(dim=0).amax() < 1e-2 * batch.std()


@pytest.mark.parametrize("preset", ["kinecast", "paper"])
def test_the_vaes_bound_is_of_a_drawn_latent_and_of_its_divergence_from_the_prior(preset: str) -> None:
    torch.manual_seed(0)
    model = build_forecaster("vae", 3, preset, latent=3, mlp=16)
    assert isinstance(model, VAE)
    frames, later = torch.randn(40, 3), torch.randn(40, 3)
    with torch.no_grad():
        torch.manual_seed(5)
        total, parts = model.pair_loss(frames, later)
        q = model.posterior(frames)
        torch.manual_seed(5)
        error = (model.decoder(q.rsample()) - later).square().mean()
        central = (model.decoder(q.mean) - later).square().mean()
    if preset == "paper":
        fit = parts["squared"]
    else:  # of deviation 1
        fit = 2 * parts["nll"] - math.log(2 * math.pi)
    torch.testing.assert_close(fit, error)
    assert not torch.isclose(fit, central, rtol=1e-4)
    variance = q.stddev.square()
    kl = 0.5 * (variance + q.mean.square() - 1 - variance.log()).sum(dim=1).mean()
    kl = kl if preset == "paper" else kl / 3
    torch.testing.assert_close(parts["kl"], kl)
    told = parts["squared" if preset == "paper" else "nll"]
    torch.testing.assert_close(total, told + model.config.kl_weight * kl)


def test_the_flow_alone_is_its_forecast_where_nothing_is_remembered() -> None:
    model = build("nf", noise="independent")
    assert isinstance(model, NF)
    with torch.no_grad():
        model.memory.fill_(-40)
    generator = torch.Generator().manual_seed(1)
    drawn = model.draw(torch.randn(3000, 1, 3), generator)[:, 0]
    direct = model.flow().sample(3000, generator)
    torch.testing.assert_close(drawn.mean(dim=0), direct.mean(dim=0), atol=0.08, rtol=0)
    torch.testing.assert_close(drawn.std(dim=0), direct.std(dim=0), atol=0, rtol=0.06)
    with torch.no_grad():
        model.memory.fill_(40)
    frames = torch.randn(5, 2, 3)
    torch.testing.assert_close(model.draw(frames, generator), frames, atol=1e-4, rtol=1e-4)


def test_unfitted_or_too_short_is_refused() -> None:
    with pytest.raises(KinecastError, match="nf: expected a fitted forecaster"):
        build_forecaster("nf", 3).forecast(torch.zeros(1, K, 3), 2)
    with pytest.raises(KinecastError, match="expected windows of at least 5 frames, one more than its shift, found 4"):
        build("vae").loss(torch.zeros(2, 4, 3), 2)
