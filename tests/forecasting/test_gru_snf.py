from pathlib import Path
from typing import Any

import dcor
import pytest
import torch
from torch import Tensor

from ar_motion import ar_series, ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF, GRUSNFConfig
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster

SIZES: dict[str, Any] = {"hidden": 8, "flow_hidden": 8, "blocks": 3}


@pytest.fixture(scope="module")
def trained() -> GRUNF:
    config = ForecasterTrainingConfig(
        model="gru-nf", overrides=SIZES, observed=6, forecast=4, steps=60, learning_rate=1e-2
    )
    model = train_forecaster(ar_series(), config).model
    assert isinstance(model, GRUNF)
    model.zero_grad(set_to_none=True)
    return model


REFINEMENTS: dict[str, dict[str, Any]] = {
    "published": {},
    "joint": {"acceptance": "joint"},
    "langevin": {"kernel": "langevin", "epsilon": 0.2},
    "one share": {"power": 0.0, "variance": 0.25},
    "exact": {"energy": "exact", "acceptance": "joint"},
    "exact langevin": {"energy": "exact", "acceptance": "joint", "kernel": "langevin", "epsilon": 0.2},
    "head": {"mean": "head"},
}


def refined(trained: GRUNF, name: str, **changes: Any) -> GRUSNF:
    model = GRUSNF.from_gru_nf(trained, **(REFINEMENTS[name] | changes))
    if model.config.mean == "head":
        model.fit_head(ar_windows(40, 10), 6)
    return model


@pytest.mark.parametrize("name", list(REFINEMENTS))
@pytest.mark.parametrize("nothing", [{"steps": 0}, {"epsilon": 0.0}])
def test_without_moves_the_samples_are_gru_nfs(trained: GRUNF, name: str, nothing: dict[str, Any]) -> None:
    observed = ar_windows(3, 6)
    samples, report = refined(trained, name, **nothing).sample_with_report(observed, 4, samples=5, seed=3)
    assert torch.equal(samples, trained.forecast(observed, 4, samples=5, seed=3))
    assert report.acceptance_rate is None and report.acceptance_by_layer == ()
    assert not torch.equal(refined(trained, name).forecast(observed, 4, samples=5, seed=3), samples)


@pytest.mark.parametrize("name", list(REFINEMENTS))
def test_the_generator_is_left_as_gru_nf_leaves_it_and_no_weight_changes(trained: GRUNF, name: str) -> None:
    before = {key: tensor.clone() for key, tensor in trained.state_dict().items()}
    mine, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    refined(trained, name).forecast(ar_windows(2, 6), 4, 3, generator=mine)
    trained.forecast(ar_windows(2, 6), 4, 3, generator=other)
    assert torch.equal(mine.get_state(), other.get_state())
    assert all(torch.equal(tensor, before[key]) for key, tensor in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_what_is_drawn_next_is_refined_by_other_moves(trained: GRUNF) -> None:
    model, random = refined(trained, "published"), torch.Generator().manual_seed(5)
    first = model.forecast(ar_windows(2, 6), 4, 3, generator=random)
    assert not torch.equal(model.forecast(ar_windows(2, 6), 4, 3, generator=random), first)


def test_the_report(trained: GRUNF) -> None:
    model = refined(trained, "published")
    samples, report = model.sample_with_report(ar_windows(2, 6), 4, samples=50)
    assert torch.equal(samples, model.forecast(ar_windows(2, 6), 4, samples=50))
    assert (report.steps, report.epsilon, report.kernel, report.energy) == (2, 0.35, "random-walk", "paper")
    assert len(report.acceptance_by_layer) == 3 and report.log_weights is None
    assert report.acceptance_rate == pytest.approx(sum(report.acceptance_by_layer) / 3)
    # N(0, 1) under a random walk of step eps accepts 2/pi atan(2/eps); the later targets are narrower.
    assert report.acceptance_by_layer[0] == pytest.approx(0.889, abs=0.02)
    assert report.acceptance_by_layer[2] < report.acceptance_by_layer[0]
    assert refined(trained, "published", epsilon=1.0).sample_with_report(ar_windows(2, 6), 4)[1].acceptance_rate < 0.85  # type: ignore[operator]


@pytest.mark.parametrize("name", ["exact", "exact langevin"])
def test_exact_refinement_leaves_the_distribution(trained: GRUNF, name: str) -> None:
    """Of trajectories given one window; and the refinement does move each of them."""
    observed = ar_windows(1, 6)
    moved = refined(trained, name, steps=4, epsilon=0.6).forecast(observed, 3, samples=2000, seed=0)[:, 0].flatten(1)
    plain = trained.forecast(observed, 3, samples=2000, seed=0)[:, 0].flatten(1)
    assert (moved - plain).abs().mean() > 0.3 * plain.std(dim=0).mean()
    fresh = trained.forecast(observed, 3, samples=2000, seed=1)[:, 0].flatten(1)
    scale = fresh.std(dim=0)
    for feature in (torch.tanh, torch.abs, torch.sign):
        a, b = (feature((x - fresh.median(dim=0).values) / scale) for x in (moved, fresh))
        assert ((a.mean(dim=0) - b.mean(dim=0)).abs() / ((a.var(dim=0) + b.var(dim=0)) / 2000).sqrt()).amax() < 4.5
    assert _energy_test(moved / scale, fresh / scale) > 0.01


def test_the_papers_refinement_does_not(trained: GRUNF) -> None:
    """So that the test above can fail: the paper's energy is another distribution."""
    observed = ar_windows(1, 6)
    moved = refined(trained, "one share", steps=10, epsilon=0.5, variance=0.1).forecast(
        observed, 3, samples=300, seed=0
    )[:, 0]
    fresh = trained.forecast(observed, 3, samples=300, seed=1)[:, 0]
    scale = fresh.std(dim=0).flatten()
    assert _energy_test(moved.flatten(1) / scale, fresh.flatten(1) / scale) < 0.01


def _energy_test(a: Tensor, b: Tensor) -> float:
    pair = (a[:300].numpy(), b[:300].numpy())
    return float(dcor.homogeneity.energy_test(*pair, num_resamples=199, random_state=0).pvalue)


@pytest.mark.parametrize("name", ["exact", "exact langevin"])
def test_log_weights_of_exact_refinement_are_zero(trained: GRUNF, name: str) -> None:
    _, report = refined(trained, name).sample_with_report(ar_windows(2, 6), 4, samples=5, log_weights=True)
    assert report.log_weights is not None and report.log_weights.shape == (5, 2, 4)
    assert report.log_weights.abs().max() < 1e-3


@pytest.mark.parametrize("name", ["published", "joint", "langevin", "head"])
@pytest.mark.parametrize("steps", [0, 2])
def test_weights_average_to_one(trained: GRUNF, name: str, steps: int) -> None:
    """E[w] = 1 for a normalised target (Wu et al. 2020); it holds of the whole path, moves included."""
    model = refined(trained, name, steps=steps, variance=0.25)
    _, report = model.sample_with_report(ar_windows(1, 6), 1, samples=10000, log_weights=True)
    assert report.log_weights is not None
    weights = report.log_weights.exp()
    error = float(weights.std()) / len(weights) ** 0.5
    assert error < 0.1 and float(weights.mean()) == pytest.approx(1, abs=4 * error)
    assert float(weights.std()) > 0.1


def test_the_head_is_the_least_squares_read_out(trained: GRUNF) -> None:
    model, windows = refined(trained, "head"), ar_windows(40, 10)
    with torch.no_grad():
        following = trained.next_frames(trained.normalizer(windows[:, :6]), windows, 6)
        target, _ = following.to_flow(windows[:, 6:].flatten(0, 1))
        states = following.flow.h
        assert states is not None
        left = target - (states @ model.head_weight.T + model.head_bias)
        design = torch.cat([states, torch.ones(len(states), 1)], dim=1).double()
        best = torch.linalg.lstsq(design, target.double()).solution
        least = (target - design @ best).square().mean()
    assert float(left.square().mean()) == pytest.approx(float(least), rel=0.01)
    assert float(left.mean(dim=0).abs().max()) < 1e-4


def test_a_head_that_is_not_fitted_is_not_used(trained: GRUNF, tmp_path: Path) -> None:
    model = GRUSNF.from_gru_nf(trained, mean="head")
    with pytest.raises(KinecastError, match=r"expected a fitted head for mean=head, found none: call fit_head"):
        model.forecast(ar_windows(1, 6), 2)
    model.fit_head(ar_windows(40, 10), 6)
    save_forecaster(model, tmp_path / "model.safetensors")
    loaded = load_forecaster_file(tmp_path / "model.safetensors")
    assert torch.equal(loaded.forecast(ar_windows(1, 6), 2), model.forecast(ar_windows(1, 6), 2))


def test_moves_draw_the_samples_to_the_mean(trained: GRUNF) -> None:
    """Many moves at the last layer alone (power so high that the others keep N(0, I)) sample N(mu, variance)."""
    model = refined(trained, "head", steps=60, epsilon=0.6, power=1e6, variance=0.1)
    with torch.no_grad():
        model.head_weight.zero_()
        model.head_bias.copy_(torch.tensor([1.0, -1.0, 0.5, 0.0]))
        observed = ar_windows(1, 6)
        drawn = model.forecast(observed, 1, samples=3000)[:, 0]
        windows = torch.cat([observed.expand(3000, -1, -1), drawn], dim=1)
        y, _ = trained.next_frames(trained.normalizer(windows[:, :6]), windows, 6).to_flow(drawn[:, 0])
    torch.testing.assert_close(y.mean(dim=0), model.head_bias, atol=0.04, rtol=0)
    torch.testing.assert_close(y.var(dim=0), torch.full((4,), 0.1), atol=0.02, rtol=0)


def test_trained_by_its_own_name_the_gru_nf_inside_is_the_one_that_is_trained_alone() -> None:
    def train(name: str) -> Any:
        config = ForecasterTrainingConfig(model=name, overrides=SIZES, observed=6, forecast=4, steps=15)
        return train_forecaster(ar_series(), config).model

    alone, inside = train("gru-nf"), train("gru-snf").gru_nf
    assert all(torch.equal(tensor, inside.state_dict()[key]) for key, tensor in alone.state_dict().items())


def test_shares_run_from_the_base_to_the_target() -> None:
    assert [GRUSNFConfig(blocks=5).share(i) for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert [GRUSNFConfig(blocks=3, power=2.0).share(i) for i in range(3)] == [0, 0.25, 1]
    assert [GRUSNFConfig(blocks=3, power=0.0).share(i) for i in range(3)] == [1, 1, 1]
    assert GRUSNFConfig(blocks=1).share(0) == 1


def test_what_cannot_be_is_refused(trained: GRUNF) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"energy": "exact"}, "expected acceptance joint where energy is exact"),
        ({"energy": "mine"}, "expected energy paper or exact, found 'mine'"),
        ({"mean": "oracle"}, "expected mean flow or head"),
        ({"kernel": "gibbs"}, "expected kernel one of random-walk, langevin"),
        ({"epsilon": -1.0}, "expected epsilon of at least 0"),
        ({"variance": 0.0}, "expected variance above 0"),
        ({"hidden": 0}, "expected hidden above 0"),
        ({"wings": 1}, "found wings"),
    ]
    for overrides, message in cases:
        with pytest.raises(KinecastError, match=message):
            build_forecaster("gru-snf", 4, **overrides)
    with pytest.raises(KinecastError, match="at least 1 observed frames, found 0"):
        refined(trained, "published").sample_with_report(ar_windows(1, 6)[:, :0], 2)
