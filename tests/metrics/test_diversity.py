import math

import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.metrics.diversity import keep_closest_to_truth, scaled_ratios


def test_the_closest_to_the_truth_are_kept() -> None:
    mae = torch.tensor([0.3, 0.1, 0.2, 0.5, 0.1])
    assert keep_closest_to_truth(mae, 3).tolist() == [1, 4, 2]
    with pytest.raises(KinecastError, match=r"found 6 of \(5,\)"):
        keep_closest_to_truth(mae, 6)


def test_ratios_by_hand() -> None:
    apd = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": torch.tensor([5.0, 1.0, 2.0])}  # scaled by 1 to 5
    mae = {"a": torch.tensor([0.1, 0.3, 0.5]), "b": torch.tensor([0.3, 0.2, 0.1])}  # scaled by 0.1 to 0.5
    ratios = scaled_ratios(apd, mae)
    a, b = ratios["a"], ratios["b"]
    assert math.isnan(a.ratios[0]) and a.ratios[1:].tolist() == pytest.approx([0.5, 0.5])
    assert (a.mean, a.median, a.infinite, a.undefined) == (pytest.approx(0.5), pytest.approx(0.5), 0, 1)
    assert b.ratios[:2].tolist() == pytest.approx([2, 0]) and math.isinf(b.ratios[2])
    assert (b.mean, b.median, b.infinite, b.undefined) == (pytest.approx(1), pytest.approx(2), 1, 0)


def test_a_median_of_an_even_number_lies_between() -> None:
    ratios = scaled_ratios({"a": torch.tensor([0.0, 1.0, 3.0, 4.0])}, {"a": torch.tensor([2.0, 1.0, 1.0, 0.0])})["a"]
    assert ratios.ratios.tolist() == [0, 0.5, 1.5, math.inf]
    assert ratios.median == 1 and ratios.mean == pytest.approx(2 / 3) and ratios.infinite == 1


def test_a_ratio_depends_on_the_other_models() -> None:
    apd, mae = torch.tensor([1.0, 2.0]), torch.tensor([0.2, 0.1])
    alone = scaled_ratios({"a": apd}, {"a": mae})["a"]
    other = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([4.0, 4.0])}
    beside = scaled_ratios(other, {"a": mae, "b": torch.tensor([0.4, 0.05])})["a"]
    assert math.isinf(alone.ratios[1]) and not math.isinf(beside.ratios[1])


def test_what_cannot_be_scaled_is_refused() -> None:
    values = {"a": torch.tensor([1.0, 2.0])}
    with pytest.raises(KinecastError, match="expected finite APD that differs .*found 0 to 0"):
        scaled_ratios({"a": torch.zeros(2)}, values)
    with pytest.raises(KinecastError, match="MAE that differs"):
        scaled_ratios(values, {"a": torch.tensor([torch.nan, 1.0])})
    for mae in ({"b": values["a"]}, {"a": torch.ones(3)}, {}):
        with pytest.raises(KinecastError, match="of the same videos of the same models"):
            scaled_ratios(values, mae)
    with pytest.raises(KinecastError, match="found none and none"):
        scaled_ratios({}, {})
