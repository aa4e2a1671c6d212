import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.metrics.distances import conditional_energy_distance, pooled_energy_distance
from kinecast.metrics.scores import energy_score

pytest.importorskip("dcor")


def test_it_is_the_squared_form_by_hand() -> None:
    samples, reference = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.tensor([3.0, 5.0]).view(2, 1, 1, 1)
    # 2 (3 + 5 + 2 + 4) / 4 = 7; within: 1 and 2 over pairs of different windows, 1/2 and 1 with a window and itself
    assert conditional_energy_distance(samples, reference).tolist() == [4]
    assert conditional_energy_distance(samples, reference, unbiased=False).tolist() == [5.5]
    assert pooled_energy_distance(samples.transpose(0, 1), reference[:, 0]) == 5.5


def test_it_is_by_the_norm_of_the_whole_window() -> None:
    samples, truth = torch.zeros(1, 1, 2, 1), torch.tensor([3.0, 4.0]).view(1, 2, 1)
    assert pooled_energy_distance(samples, truth) == 10


def test_observed_frames_enlarge_the_window() -> None:
    truth, observed = torch.randn(8, 3, 2), torch.randn(8, 4, 2)
    samples = truth + 1
    plain, published = (
        pooled_energy_distance(samples[None], truth),
        pooled_energy_distance(samples[None], truth, observed),
    )
    assert 0 < published < plain  # windows that differ in what was observed too are further from each other


def test_pooling_forgets_which_window_it_is() -> None:
    truth = torch.randn(30, 3, 2)
    swapped = truth.flip(0)
    assert pooled_energy_distance(swapped[None], truth) == pytest.approx(0, abs=1e-6)
    reference = truth + 0.1 * torch.randn(20, 30, 3, 2)
    right, wrong = truth + 0.1 * torch.randn(20, 30, 3, 2), swapped + 0.1 * torch.randn(20, 30, 3, 2)
    assert conditional_energy_distance(right, reference).mean().abs() < 0.02
    assert conditional_energy_distance(wrong, reference).mean() > 1


def test_several_samples_are_several_sets() -> None:
    samples, truth = torch.randn(3, 6, 2, 2), torch.randn(6, 2, 2)
    each = [pooled_energy_distance(drawn[None], truth) for drawn in samples]
    assert pooled_energy_distance(samples, truth) == pytest.approx(sum(each) / 3)


def test_the_unbiased_one_is_zero_on_average_for_equal_distributions() -> None:
    samples, reference = torch.randn(6, 400, 2, 2), torch.randn(6, 400, 2, 2)
    unbiased = conditional_energy_distance(samples, reference)
    assert abs(unbiased.mean()) < 3 * unbiased.std() / 20 and (unbiased < 0).any()
    assert conditional_energy_distance(samples, reference, unbiased=False).mean() > 0.3


def test_one_real_future_gives_twice_the_energy_score() -> None:
    pytest.importorskip("scoringrules")
    samples, truth = torch.randn(40, 3, 4, 2), torch.randn(3, 4, 2)
    found = conditional_energy_distance(samples, truth[None], unbiased=False)
    spread = torch.stack([torch.cdist(s, s).sum() / (40 * 39) for s in samples.flatten(2).transpose(0, 1).double()])
    expected = 2 * energy_score(samples, truth) + spread * (1 - 39 / 40)  # the score's own spread is the fair one
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(KinecastError, match=r"expected samples \(S, B, H, D\) of a truth .*found \(2, 3, 4\)"):
        pooled_energy_distance(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    with pytest.raises(KinecastError, match=r"expected observed frames .*found \(1, 2, 2\)"):
        pooled_energy_distance(torch.zeros(1, 2, 3, 2), torch.zeros(2, 3, 2), torch.zeros(1, 2, 2))
    with pytest.raises(KinecastError, match="at least 2 samples and 2 reference samples, found 2 and 1"):
        conditional_energy_distance(torch.zeros(2, 2, 3, 2), torch.zeros(1, 2, 3, 2))
