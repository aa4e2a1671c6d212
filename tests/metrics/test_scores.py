import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.forecasting.objectives import fair_crps, fair_energy_score
from kinecast.metrics.scores import (
    branch_coverage,
    coverage,
    crps,
    energy_score,
    median_error,
    pit_deviation,
    pit_histogram,
    spread,
)

pytest.importorskip("scoringrules")


def test_scores_by_hand() -> None:
    samples = torch.tensor([[0.0, 3.0], [1.0, 4.0], [5.0, 5.0]]).view(3, 1, 1, 2)
    truth = torch.tensor([2.0, 4.0]).view(1, 1, 2)
    # first number: E|X-y| = (2+1+3)/3 = 2, E|X-X'| over different ones = (1+5+4)/3; second: 2/3 and (1+2+1)/3
    torch.testing.assert_close(crps(samples, truth).flatten(), torch.tensor([2 - 10 / 6, 2 / 3 - 4 / 6]).double())
    assert median_error(samples, truth).flatten().tolist() == [1, 0]
    assert spread(samples)[0, 0, 1] == 1
    corner = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).view(2, 1, 1, 2)
    assert float(energy_score(corner, torch.zeros(1, 1, 2))) == pytest.approx(2.5 - 5 / 2)


def test_the_median_of_an_even_number_is_between() -> None:
    samples = torch.tensor([0.0, 1.0, 3.0, 10.0]).view(4, 1, 1, 1)
    assert float(median_error(samples, torch.zeros(1, 1, 1))) == 2


def test_they_agree_with_the_training_objectives() -> None:
    samples, truth = torch.randn(11, 3, 4, 2), torch.randn(3, 4, 2)
    torch.testing.assert_close(crps(samples, truth).float(), fair_crps(samples, truth))
    torch.testing.assert_close(energy_score(samples, truth).float(), fair_energy_score(samples, truth))


def test_estimators_are_unbiased_for_few_samples() -> None:
    truth = torch.randn(600, 1, 2)
    few, many = torch.randn(3, 600, 1, 2), torch.randn(50, 600, 1, 2)
    for score in (crps, energy_score):  # the plain estimators are 0.18 and 0.28 higher with three samples
        assert float(score(few, truth).mean()) == pytest.approx(float(score(many, truth).mean()), abs=0.08)


def test_a_point_forecast_scores_its_error() -> None:
    point, truth = torch.randn(1, 3, 4, 2).expand(2, -1, -1, -1), torch.randn(3, 4, 2)
    torch.testing.assert_close(crps(point, truth).float(), (point[0] - truth).abs())
    torch.testing.assert_close(energy_score(point, truth).float(), (point[0] - truth).flatten(1).norm(dim=1))


@pytest.mark.parametrize("count", [39, 100])
def test_right_samples_cover_their_levels(count: int) -> None:
    samples, truth = torch.randn(count, 4000, 1, 2), torch.randn(4000, 1, 2)
    for level, share in coverage(samples, truth).items():
        assert share == pytest.approx(level, abs=0.02)


def test_coverage_by_hand() -> None:
    samples = torch.arange(1.0, 10).view(9, 1, 1, 1)  # the interval of 80 % runs from the first to the ninth of nine
    for value, inside in ((0.9, 0), (1.1, 1), (8.9, 1), (9.1, 0)):
        assert coverage(samples, torch.full((1, 1, 1), value), [0.8]) == {0.8: inside}


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(KinecastError, match=r"found \(5, 2, 3\) and \(2, 3\)"):
        crps(torch.zeros(5, 2, 3), torch.zeros(2, 3))
    with pytest.raises(KinecastError, match="expected at least 2 samples, found 1"):
        crps(torch.zeros(1, 2, 3, 1), torch.zeros(2, 3, 1))


def test_pit_by_hand() -> None:
    samples = torch.arange(4.0).view(4, 1, 1, 1).expand(-1, 1, 1, 3)
    truth = torch.tensor([-1.0, 2.5, 1.0]).view(1, 1, 3)
    # below all: all of the first fifth; above three: the fourth fifth; equal to the second: second and third, halves
    expected = torch.tensor([1, 0.5, 0.5, 1, 0]).double() / 3
    torch.testing.assert_close(pit_histogram(samples, truth, bins=5), expected)


def test_pit_is_flat_for_right_samples_and_bent_for_others() -> None:
    truth = torch.randn(3000, 1, 2)
    right = pit_histogram(torch.randn(39, 3000, 1, 2), truth)
    narrow = pit_histogram(0.5 * torch.randn(39, 3000, 1, 2), truth)
    assert right.sum() == pytest.approx(1) and pit_deviation(right) < 0.03
    assert narrow[0] > 0.2 and narrow[-1] > 0.2 and pit_deviation(narrow) > 0.2
    point = pit_histogram(torch.zeros(39, 3000, 1, 2), truth)  # a point forecast: everything outside
    assert point[0] + point[-1] == pytest.approx(1)


def test_branches_by_hand() -> None:
    branches = torch.tensor([[0, 1], [0, 1], [1, 1], [-1, 1]])
    found = branch_coverage(branches, torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
    assert found.shares == (0.25, 0.625) and found.true_shares == (0.25, 0.75)
    assert found.share_error == pytest.approx(0.25 / 4)
    assert found.all_reached == 0.5 and found.astray == 0.125
    with pytest.raises(KinecastError, match=r"found \(4, 2\) and \(3, 2\)"):
        branch_coverage(branches, torch.zeros(3, 2))
