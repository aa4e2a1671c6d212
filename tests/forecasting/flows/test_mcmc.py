"""Every kernel must leave its target invariant: rows drawn from the target are still distributed as the target."""

import dcor
import pytest
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.flows import mcmc
from kinecast.forecasting.flows.layers import RealNVPConfig
from kinecast.forecasting.flows.mcmc import DensityEnergy, Energy, KernelConfig, PaperEnergy, refine
from kinecast.forecasting.flows.realnvp import RealNVP

ROWS = 20000
MEAN = torch.tensor([1.0, -0.5])
SETTINGS: list[tuple[mcmc.Kernel, mcmc.Acceptance]] = [
    (kernel, acceptance) for kernel in mcmc.KERNELS for acceptance in mcmc.ACCEPTANCES
]


class SeparableMixture(Energy):
    """In each dimension a half of N(-1, .3) and a half of N(1.5, .6)."""

    separable = True

    def terms(self, y: Tensor) -> Tensor:
        left = torch.distributions.Normal(-1, 0.3).log_prob(y)
        right = torch.distributions.Normal(1.5, 0.6).log_prob(y)
        return -torch.logaddexp(left, right)


def flow() -> RealNVP:
    torch.manual_seed(2)
    model = RealNVP(2, 1, RealNVPConfig(blocks=3, hidden=8))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "variance" not in name:
                parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval()


def target(name: str, seed: int) -> tuple[Tensor, Energy]:
    """Return exact draws (ROWS, 2) of a target, and its energy."""
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(ROWS, 2, generator=random)
    if name == "gaussian":  # (1 - l) |y|^2 / 2 + l |y - m|^2 is N(2 l m / (1 + l), 1 / (1 + l))
        return 2 * 0.6 * MEAN / 1.6 + noise / 1.6**0.5, PaperEnergy(MEAN, 0.5, 0.6)
    if name == "mixture":
        right = torch.rand(ROWS, 2, generator=random) < 0.5
        return torch.where(right, 1.5 + 0.6 * noise, -1 + 0.3 * noise), SeparableMixture()
    if name == "correlated mixture":
        mixture = _joint_mixture()
        torch.manual_seed(seed)
        return mixture.sample((ROWS,)), DensityEnergy(mixture.log_prob)
    distribution = flow()(torch.randn(ROWS, 1, generator=random))
    with torch.no_grad():
        layers = 2 if name == "flow, two layers" else 3
        y = noise
        for layer in range(layers):
            y, _ = distribution.inverse(layer, y)
    return y.detach(), DensityEnergy(lambda y: distribution.log_prob_at(layers, y))


def _joint_mixture() -> torch.distributions.MixtureSameFamily:
    covariance = torch.tensor([[[1.0, 0.8], [0.8, 1.0]], [[0.3, 0.0], [0.0, 0.3]]])
    parts = torch.distributions.MultivariateNormal(torch.tensor([[-1.0, -1.0], [2.0, 0.0]]), covariance)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.tensor([0.4, 0.6])), parts)


TARGETS = [(name, *setting) for name in ("gaussian", "mixture") for setting in SETTINGS] + [
    (name, kernel, "joint") for name in ("correlated mixture", "flow, two layers", "flow") for kernel in mcmc.KERNELS
]


def moments(y: Tensor) -> Tensor:
    """Features whose means tell distributions apart."""
    bounded = y.clamp(-6, 6)
    return torch.cat([bounded, bounded.square(), bounded[:, :1] * bounded[:, 1:], y.abs().sqrt(), y.tanh()], dim=1)


def deviation(before: Tensor, after: Tensor) -> float:
    """Return the largest difference of a moment, in its standard errors, of the same rows before and after."""
    difference = moments(after) - moments(before)
    return float((difference.mean(dim=0) / (difference.std(dim=0) / ROWS**0.5)).abs().amax())


def energy_test(first: Tensor, second: Tensor) -> float:
    """Return the p-value of equal distributions by the energy distance, of 300 rows each."""
    pair = (first[:300].numpy(), second[:300].numpy())
    return float(dcor.homogeneity.energy_test(*pair, num_resamples=250, random_state=0).pvalue)


@pytest.mark.parametrize(("name", "kernel", "acceptance"), TARGETS)
def test_the_target_stays(name: str, kernel: mcmc.Kernel, acceptance: mcmc.Acceptance) -> None:
    before, energy = target(name, seed=0)
    config = KernelConfig(kernel, acceptance, steps=4, epsilon=0.8)
    with torch.inference_mode():  # as in a forecast
        refined = refine(before, energy, config, torch.Generator().manual_seed(1))
    assert 0.2 < float(refined.accepted) < 0.98 and not torch.equal(refined.y, before)
    assert deviation(before, refined.y) < 4.5
    assert energy_test(refined.y, target(name, seed=5)[0]) > 0.005


@pytest.mark.parametrize(("name", "kernel", "acceptance"), TARGETS)
def test_a_wrong_acceptance_rule_would_be_seen(
    name: str, kernel: mcmc.Kernel, acceptance: mcmc.Acceptance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same figure: a random walk that halves the log ratio, a Langevin step that is always taken."""
    right, factor = mcmc._propose, 0.5 if kernel == "random-walk" else 0.0

    def wrong(*args: object) -> tuple[mcmc._State, Tensor]:
        proposed, log_ratio = right(*args)  # type: ignore[arg-type]
        return proposed, factor * log_ratio

    monkeypatch.setattr(mcmc, "_propose", wrong)
    before, energy = target(name, seed=0)
    refined = refine(before, energy, KernelConfig(kernel, acceptance, 4, 0.8), torch.Generator().manual_seed(1))
    assert deviation(before, refined.y) > 6


def test_the_energy_distance_sees_a_chain_that_takes_every_step() -> None:
    before, _ = target("gaussian", seed=0)
    astray = before + 1.6 * torch.randn(before.shape, generator=torch.Generator().manual_seed(1))
    assert energy_test(astray, target("gaussian", seed=5)[0]) < 0.005


def test_moves_reach_the_target_from_elsewhere() -> None:
    energy = PaperEnergy(MEAN, 0.5, 1.0)
    for kernel, acceptance in SETTINGS:
        start = torch.full((4000, 2), 3.0)
        drawn = refine(start, energy, KernelConfig(kernel, acceptance, 60, 0.7), torch.Generator().manual_seed(0)).y
        torch.testing.assert_close(drawn.mean(dim=0), MEAN, atol=0.06, rtol=0)
        torch.testing.assert_close(drawn.var(dim=0), torch.full((2,), 0.5), atol=0.06, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_papers_gradient_is_its_energys(share: float) -> None:
    energy, y = PaperEnergy(MEAN, 0.5, share), torch.randn(7, 2)
    torch.testing.assert_close(energy.gradient(y), Energy.gradient(energy, y))
    expected = (1 - share) * y.square().sum(dim=1) / 2 + share * (y - MEAN).square().sum(dim=1) / (2 * 0.5)
    torch.testing.assert_close(energy.terms(y).sum(dim=1), expected)


def test_work_is_the_change_of_energy() -> None:
    for (kernel, acceptance), energy in zip(SETTINGS, [PaperEnergy(MEAN, 0.5, 0.4)] * 4, strict=True):
        y = torch.randn(50, 2)
        refined = refine(y, energy, KernelConfig(kernel, acceptance, 3, 0.5), torch.Generator().manual_seed(0))
        torch.testing.assert_close(refined.work, (energy.terms(refined.y) - energy.terms(y)).sum(dim=1))
        assert refined.work.shape == (50,)


def test_joint_rows_move_as_a_whole_and_dimensions_alone() -> None:
    energy, y = PaperEnergy(torch.zeros(5), 0.5, 1.0), torch.zeros(500, 5)
    moved = {
        acceptance: refine(y, energy, KernelConfig("random-walk", acceptance, 1, 1.0), torch.Generator()).y != y
        for acceptance in mcmc.ACCEPTANCES
    }
    assert set(moved["joint"].sum(dim=1).tolist()) == {0, 5}
    assert set(moved["per-dimension"].sum(dim=1).tolist()) > {1, 2, 3, 4}


def test_a_seed_gives_the_same_moves_and_nothing_depends_on_the_global_generator() -> None:
    energy, y = PaperEnergy(MEAN, 0.5, 0.5), torch.randn(9, 2)
    first = refine(y, energy, KernelConfig(), torch.Generator().manual_seed(3))
    torch.manual_seed(77)
    assert torch.equal(refine(y, energy, KernelConfig(), torch.Generator().manual_seed(3)).y, first.y)
    assert not torch.equal(refine(y, energy, KernelConfig(), torch.Generator().manual_seed(4)).y, first.y)


def test_no_steps_and_no_step_size_change_nothing() -> None:
    y, energy = torch.randn(9, 2), PaperEnergy(MEAN, 0.5, 0.5)
    still = refine(y, energy, KernelConfig(steps=0), torch.Generator())
    assert torch.equal(still.y, y) and bool(still.accepted.isnan()) and not still.work.any()
    assert torch.equal(refine(y, energy, KernelConfig(epsilon=0.0), torch.Generator()).y, y)
    assert not KernelConfig(steps=0).moves and not KernelConfig(epsilon=0.0).moves and KernelConfig().moves


def test_what_cannot_be_is_refused() -> None:
    joint = DensityEnergy(_joint_mixture().log_prob)
    cases = [
        (lambda: refine(torch.zeros(3, 2), joint, KernelConfig()), "not a sum over dimensions"),
        (lambda: KernelConfig("gibbs"), "expected kernel one of random-walk, langevin, found 'gibbs'"),  # type: ignore[arg-type]
        (lambda: KernelConfig(acceptance="always"), "expected acceptance one of joint, per-dimension"),  # type: ignore[arg-type]
        (lambda: KernelConfig(epsilon=-1.0), "of at least 0, found 2 and -1"),
        (lambda: PaperEnergy(MEAN, 0.0, 0.5), "expected a variance above 0"),
    ]
    for call, message in cases:
        with pytest.raises(KinecastError, match=message):
            call()
