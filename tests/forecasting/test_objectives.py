import pytest
import scoringrules
import torch

from kinecast.forecasting.objectives import fair_crps, fair_energy_score


def test_scores_by_hand() -> None:
    samples = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
    truth = torch.tensor([[[0.5]]])
    assert float(fair_crps(samples, truth)) == pytest.approx(0.5 - 1 / 2)  # E|X-y| = .5, E|X-X'| = 1
    pair = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).view(2, 1, 1, 2)
    assert float(fair_energy_score(pair, torch.zeros(1, 1, 2))) == pytest.approx(2.5 - 5 / 2)


def test_scores_agree_with_scoringrules() -> None:
    samples, truth = torch.randn(9, 3, 4, 2, dtype=torch.float64), torch.randn(3, 4, 2, dtype=torch.float64)
    expected = scoringrules.crps_ensemble(truth.numpy(), samples.numpy(), m_axis=0, estimator="fair", backend="numpy")
    torch.testing.assert_close(fair_crps(samples, truth), torch.from_numpy(expected))
    expected = scoringrules.es_ensemble(
        truth.flatten(1).numpy(), samples.flatten(2).numpy(), m_axis=0, v_axis=-1, estimator="fair", backend="numpy"
    )
    torch.testing.assert_close(fair_energy_score(samples, truth), torch.from_numpy(expected))


def test_gradient_is_finite_where_samples_are_equal() -> None:
    samples = torch.zeros(3, 2, 2, 2, requires_grad=True)
    truth = torch.randn(2, 2, 2)
    (fair_crps(samples, truth).sum() + fair_energy_score(samples, truth).sum()).backward()
    assert samples.grad is not None and torch.isfinite(samples.grad).all()
