from typing import Any

import pytest
import torch
from torch.distributions import Normal

from ar_motion import ar_windows
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.vrnn import VRNN


def small(**overrides: Any) -> VRNN:
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden": 8, "latent": 3, "mlp": 8, "dropout": 0.0}
    model = build_forecaster("vrnn", 4, **(sizes | overrides))
    assert isinstance(model, VRNN)
    model.fit(ar_windows(30, 10), 6)
    return model


@pytest.mark.parametrize("preset", ["kinecast", "paper", "released"])
def test_the_prior_is_trained(preset: str) -> None:
    model = build_forecaster("vrnn", 4, preset)
    model.fit(ar_windows(30, 10), 6)
    loss, parts = model.loss(ar_windows(8, 10), 6)
    assert float(parts["kl"]) > 1e-4
    loss.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("prior_net"):
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_the_prior_learns_from_the_divergence_alone() -> None:
    model = small(crps_weight=0.0)
    batch = ar_windows(8, 10)
    units = model.normalizer(batch[:, :6])
    _, divergence = model.bound(units, model._encode(units, batch[:, :6]), batch, 6)
    assert (divergence > 0).all()
    divergence.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.prior_net.parameters())


def test_the_divergence_is_of_the_posterior_from_the_prior() -> None:
    """KL(q || p) by its formula (Kingma & Welling 2014, appendix B, for any prior), not KL(p || q)."""
    model, batch = small(), ar_windows(8, 7)
    with torch.no_grad():
        units = model.normalizer(batch[:, :6])
        state = model._encode(units, batch[:, :6])
        _, divergence = model.bound(units, state, batch, 6)
        q, p = model.posterior(state, (batch[:, 6] - batch[:, 5]) / units.step[:, 0]), model.prior(state)

    def kl(a: Normal, b: Normal) -> torch.Tensor:
        ratio = (a.stddev / b.stddev).square()
        return 0.5 * (ratio - 1 - ratio.log() + ((a.mean - b.mean) / b.stddev).square()).sum(dim=1)

    torch.testing.assert_close(divergence[:, 0], kl(q, p))
    assert ((kl(q, p) - kl(p, q)).abs() > 1e-3).all()


def test_the_likelihood_is_of_latents_that_are_drawn() -> None:
    """At the posterior's mean it would be no bound: a wide posterior would cost nothing."""
    model, batch = small(), ar_windows(4, 7)
    with torch.no_grad():
        units = model.normalizer(batch[:, :6])
        state = model._encode(units, batch[:, :6])
        increment, following = ((batch[:, t] - batch[:, t - 1]) / units.step[:, 0] for t in (5, 6))
        q = model.posterior(state, following)
        torch.manual_seed(5)
        surprise, _ = model.bound(units, state, batch, 6)
        torch.manual_seed(5)
        drawn, central = (
            -model.decode(state, z, increment).log_prob(following).sum(dim=1) for z in (q.rsample(), q.mean)
        )
    torch.testing.assert_close(surprise[:, 0], drawn)
    assert ((surprise[:, 0] - central).abs() > 1e-4).all()


def test_terms_of_the_bound_see_no_later_frame() -> None:
    model = small()
    batch = ar_windows(3, 10)

    def bound(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(0)
        units = model.normalizer(batch[:, :6])
        return model.bound(units, model._encode(units, batch[:, :6]), batch, 6)

    before = bound(batch)
    for t in range(7, 10):
        changed = batch.clone()
        changed[:, t:] += 1
        for mine, other in zip(before, bound(changed), strict=True):
            assert torch.equal(mine[:, : t - 6], other[:, : t - 6])
            assert not torch.equal(mine[:, t - 6 :], other[:, t - 6 :])


def test_a_window_moved_as_a_whole_is_forecast_moved() -> None:
    model = small().eval()
    observed = ar_windows(3, 6)
    moved = torch.tensor([1.0, -2.0, 0.5, 3.0])
    expected = model.forecast(observed, 4, samples=3) + moved
    torch.testing.assert_close(model.forecast(observed + moved, 4, samples=3), expected, atol=1e-4, rtol=1e-4)


def test_untrained_samples_move_together_as_in_training() -> None:
    model = small(latent=4, identity=0).eval()
    windows = ar_windows(200, 10)
    model.fit(windows, 6)
    steps = model.forecast(windows[:1, :6], 1, samples=2000)[:, 0, 0] - windows[0, 5]
    sampled, true = torch.corrcoef(steps.T), torch.corrcoef(windows.diff(dim=1).diff(dim=1).flatten(0, 1).T)
    upper = torch.triu_indices(4, 4, offset=1)
    assert torch.corrcoef(torch.stack([sampled[*upper], true[*upper]]))[0, 1] > 0.9


def test_training_lowers_the_loss() -> None:
    model = small().train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    batch = ar_windows(32, 10)
    losses = []
    for _ in range(25):
        loss, _ = model.loss(batch, 6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
