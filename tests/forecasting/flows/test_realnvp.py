import math

import pytest
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.flows.layers import Coupling, RealNVPConfig, passing_masks
from kinecast.forecasting.flows.realnvp import FlowDistribution, RealNVP

CASES = {
    "normalised": (5, 3, RealNVPConfig(blocks=3, hidden=8)),
    "plain": (4, 2, RealNVPConfig(blocks=2, hidden=8, layers=2, batch_norm=False)),
    "halves": (5, 7, RealNVPConfig(blocks=3, hidden=8, layers=5, mask="halves")),
    "unconditional": (3, 0, RealNVPConfig(blocks=4, hidden=8)),
    "one number": (1, 3, RealNVPConfig(blocks=3, hidden=8)),
}


def moved(dim: int, context: int, config: RealNVPConfig, seed: int = 0) -> RealNVP:
    """Return a flow far from the identity, whose running statistics are not the initial ones, in float64."""
    torch.manual_seed(seed)
    flow = RealNVP(dim, context, config).double()
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "variance" in name:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return flow.eval()


def given(flow: RealNVP, rows: int, seed: int = 1) -> tuple[FlowDistribution, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(rows, flow.context, generator=generator, dtype=torch.float64) if flow.context else None
    return flow(h), torch.randn(rows, flow.dim, generator=generator, dtype=torch.float64)


@pytest.fixture(params=list(CASES))
def flow(request: pytest.FixtureRequest) -> RealNVP:
    return moved(*CASES[request.param])


def test_inverse(flow: RealNVP) -> None:
    distribution, x = given(flow, 20)
    z, log_det = distribution.to_base(x)
    back, inverse_log_det = distribution.from_base(z)
    torch.testing.assert_close(back, x, atol=1e-10, rtol=1e-9)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-10, rtol=1e-9)
    assert not torch.allclose(z, x, atol=0.1)


def test_the_image_of_zero(flow: RealNVP) -> None:
    distribution, x = given(flow, 6)
    expected = distribution.from_base(torch.zeros_like(x))[0]
    found = distribution.from_zero()
    torch.testing.assert_close(found.expand_as(expected), expected)


@pytest.mark.parametrize("case", list(CASES))
def test_folded_it_is_the_same_inverse(case: str) -> None:
    flow = moved(*CASES[case])
    fold, (plain, z) = flow.fold(), given(flow, 6)
    assert (fold is None) == (flow.context == 0 or flow.dim == 1)
    with torch.no_grad():
        folded, expected = flow(plain.h, fold), plain.from_base(z)[0]
        torch.testing.assert_close(folded.image(z), expected, atol=1e-10, rtol=1e-9)
        torch.testing.assert_close(plain.image(z), expected, atol=0, rtol=0)
        torch.testing.assert_close(folded.from_zero(), plain.from_zero(), atol=1e-10, rtol=1e-9)
        torch.testing.assert_close(folded.log_prob(z), plain.log_prob(z), atol=0, rtol=0)
        for layer in range(plain.num_layers):
            y = plain.inverse(layer, z)[0]
            torch.testing.assert_close(folded.layer_image(layer, z), y, atol=1e-10, rtol=1e-9)


def test_a_fold_is_of_the_weights_that_it_was_made_of() -> None:
    flow = moved(*CASES["normalised"])
    fold, (plain, z) = flow.fold(), given(flow, 6)
    with torch.no_grad():
        before = flow(plain.h, fold).image(z)
        for parameter in flow.parameters():
            parameter.mul_(1.5)
        assert torch.equal(flow(plain.h, fold).image(z), before)
        assert not torch.allclose(flow(plain.h, flow.fold()).image(z), before)


def test_large_flows_are_not_copied() -> None:
    assert RealNVP(4, 2, RealNVPConfig(hidden=128)).fold() is not None
    assert RealNVP(4, 2, RealNVPConfig(hidden=129)).fold() is None


def test_log_determinant_against_autograd(flow: RealNVP) -> None:
    for row in range(4):
        distribution, x = given(flow, 1, seed=row)
        for function, point in ((distribution.to_base, x), (distribution.from_base, x)):
            jacobian = torch.autograd.functional.jacobian(lambda y, f=function: f(y)[0][0], point)[:, 0]
            expected = torch.linalg.slogdet(jacobian).logabsdet
            torch.testing.assert_close(function(point)[1][0], expected, atol=1e-9, rtol=1e-9)


def test_log_determinant_with_the_batchs_own_statistics() -> None:
    """In training the statistics are constants of the layer, as far as the density goes."""
    flow = moved(*CASES["normalised"]).train()
    norm = flow.layers[1].batch_norm
    x = torch.randn(50, 5, dtype=torch.float64) * 3 + 1
    z, log_det = norm(x)  # type: ignore[operator]
    mean, std = x.mean(dim=0), (x.var(dim=0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(z, norm.log_gain.exp() * (x - mean) / std + norm.bias)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(log_det, (norm.log_gain - std.log()).sum().expand(50))  # type: ignore[union-attr, operator]


def test_running_statistics_approach_the_datas() -> None:
    flow = moved(*CASES["plain"][:2], RealNVPConfig(blocks=2, hidden=8)).train()
    random = torch.Generator().manual_seed(0)
    h = torch.zeros(400, 2, dtype=torch.float64)
    for _ in range(100):
        x = 2 + 3 * torch.randn(400, 4, generator=random, dtype=torch.float64)
        trained = flow(h).log_prob(x)
    flow.eval()
    torch.testing.assert_close(flow(h).log_prob(x).mean(), trained.mean(), atol=0.05, rtol=0)


def test_sampling_while_training_does_not_spoil_the_gradient() -> None:
    flow = moved(*CASES["normalised"]).train()
    distribution, x = given(flow, 30)
    drawn = distribution.rsample(generator=torch.Generator().manual_seed(0))
    (drawn.square().mean() - distribution.log_prob(x).mean()).backward()  # the statistics changed between the two
    assert all(torch.isfinite(p.grad).all() for p in flow.parameters() if p.grad is not None)


def test_density_integrates_to_one() -> None:
    flow = moved(2, 2, RealNVPConfig(blocks=4, hidden=8))
    for row in range(2):
        with torch.no_grad():
            h = torch.randn(1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(row))
            drawn = flow(h.expand(1000, -1)).sample(generator=torch.Generator().manual_seed(0))
            low, high = drawn.amin(dim=0) - 3, drawn.amax(dim=0) + 3
            axes = [torch.linspace(float(low[i]), float(high[i]), 200, dtype=torch.float64) for i in (0, 1)]
            grid = torch.cartesian_prod(*axes)
            cell = float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))
            total = flow(h.expand(len(grid), -1)).log_prob(grid).exp().sum() * cell
        assert float(total) == pytest.approx(1, abs=2e-3)


def test_samples_have_the_density() -> None:
    """E[1/p] over samples inside a box is the box's volume times its probability over probability: checked by cells."""
    flow = moved(2, 1, RealNVPConfig(blocks=3, hidden=8))
    h = torch.full((1, 1), 0.3, dtype=torch.float64)
    with torch.no_grad():
        drawn = flow(h.expand(40000, -1)).sample(generator=torch.Generator().manual_seed(0))
        centre, size = drawn.median(dim=0).values, drawn.std(dim=0) / 4
        axes = [torch.linspace(-0.5, 0.5, 40, dtype=torch.float64) * size[i] + centre[i] for i in (0, 1)]
        grid = torch.cartesian_prod(*axes)
        expected = flow(h.expand(len(grid), -1)).log_prob(grid).exp().mean() * size.prod()
    share = ((drawn - centre).abs() < size / 2).all(dim=1).double().mean()
    assert float(share) == pytest.approx(float(expected), rel=4 / math.sqrt(40000 * float(share)))


def test_the_condition_matters_and_is_not_kept(flow: RealNVP) -> None:
    distribution, x = given(flow, 6)
    before = distribution.log_prob(x)
    other, _ = given(flow, 6, seed=5)
    if flow.context:
        assert not torch.isclose(other.log_prob(x), before).any()
    assert torch.equal(distribution.log_prob(x), before)  # a value: another call of the flow changes nothing
    torch.testing.assert_close(distribution.log_prob(x.flip(0)).flip(0), given(flow, 6)[0].log_prob(x), atol=9, rtol=9)


def test_rows_are_apart(flow: RealNVP) -> None:
    distribution, x = given(flow, 6)
    changed = x.clone()
    changed[2] += 1
    before, after = distribution.log_prob(x), distribution.log_prob(changed)
    assert (before != after).nonzero().flatten().tolist() == [2]


def test_intermediate_densities_are_those_of_the_first_layers() -> None:
    flow = moved(*CASES["normalised"])
    distribution, z = given(flow, 10)
    log_prob, y = distribution.log_prob_at(0, z), z
    torch.testing.assert_close(log_prob, torch.distributions.Normal(0, 1).log_prob(z).sum(dim=1))
    for layer in range(distribution.num_layers):
        y, log_det = distribution.inverse(layer, y)
        log_prob = log_prob - log_det
        torch.testing.assert_close(distribution.log_prob_at(layer + 1, y), log_prob)
    torch.testing.assert_close(distribution.log_prob(y), log_prob)


@pytest.mark.parametrize("case", list(CASES))
def test_gradient_reaches_every_parameter(case: str) -> None:
    torch.manual_seed(0)
    flow = RealNVP(*CASES[case]).double().train()
    distribution, x = given(flow, 30)
    (-distribution.log_prob(x).mean()).backward()
    for name, parameter in flow.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        else:
            assert "running" in name


def two_moons(rows: int, generator: torch.Generator) -> Tensor:
    angle = math.pi * torch.rand(rows, generator=generator)
    upper = torch.rand(rows, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack([x, y], dim=1) + 0.1 * torch.randn(rows, 2, generator=generator)


def test_training_fits_what_no_gaussian_does() -> None:
    torch.manual_seed(0)
    random = torch.Generator().manual_seed(1)
    flow = RealNVP(2, 0, RealNVPConfig(blocks=5, hidden=24, batch_norm=False))
    optimizer = torch.optim.Adam(flow.parameters(), 1e-2)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 150)
        loss = -flow().log_prob(two_moons(256, random)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh = two_moons(4000, random)
    gaussian = torch.distributions.MultivariateNormal(fresh.mean(dim=0), fresh.T.cov())
    with torch.no_grad():
        flow.eval()
        gain = flow().log_prob(fresh).mean() - gaussian.log_prob(fresh).mean()
    assert float(gain) > 0.5


def test_masks() -> None:
    alternating = passing_masks(5, 2, "alternating")
    assert alternating[0].tolist() == [True, False, True, False, True]
    assert torch.equal(alternating[1], ~alternating[0])
    assert passing_masks(5, 1, "halves")[0].tolist() == [True, True, True, False, False]
    assert not any(mask.any() for mask in passing_masks(1, 3, "alternating"))
    odd = Coupling(torch.tensor([False, False, True]), 2, RealNVPConfig(hidden=4)).eval()  # any other will do
    x = torch.randn(3, 3)
    z, _ = odd(x, odd.condition(torch.randn(3, 2)))
    assert torch.equal(z[:, 2], x[:, 2]) and not torch.isclose(z[:, :2], x[:, :2]).any()


def test_what_cannot_be_is_refused() -> None:
    config = RealNVPConfig(hidden=4)
    cases = [
        (lambda: RealNVP(1, 0, config), "expected a condition where no number passes"),
        (lambda: RealNVP(0, 2, config), "expected D of at least 1"),
        (lambda: RealNVP(2, 2, config)(), r"expected a condition \(R, 2\), found None"),
        (lambda: RealNVP(2, 2, config)(torch.zeros(4, 3)), r"expected a condition \(R, 2\), found \(4, 3\)"),
        (lambda: RealNVP(2, 0, config)(torch.zeros(4, 1)), r"expected a condition None, found \(4, 1\)"),
        (lambda: RealNVP(2, 0, config)().sample(), "expected rows to draw, found None"),
        (lambda: RealNVP(2, 1, config)(torch.zeros(4, 1)).sample(3), "expected rows 4, found 3"),
        (lambda: RealNVP(2, 1, config)(torch.zeros(1, 1)).log_prob(torch.zeros(1, 2)), "at least 2 rows to train"),
        (lambda: RealNVPConfig(layers=1), "expected layers of at least 2"),
        (lambda: RealNVPConfig(mask="random"), "expected mask one of alternating, halves"),  # type: ignore[arg-type]
        (lambda: Coupling(torch.tensor([True, True]), 2, config), "found one that passes all"),
    ]
    for call, message in cases:
        with pytest.raises(KinecastError, match=message):
            call()
