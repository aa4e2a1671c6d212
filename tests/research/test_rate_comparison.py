"""Codecs compared person by person, where some cannot go as low, and some were measured on fewer people."""

import numpy as np
import pytest

from kinecast.research.rate_comparison import complete, mean_ratio, nearer

CURVE = [(4.0, 3.0), (8.0, 2.0), (16.0, 1.0)]


def row(clip: str, curve: str, setting: str) -> dict[str, str]:
    return {"clip": clip, "curve": curve, "setting": setting}


def test_half_and_double_cancel_and_the_interval_holds_the_mean():
    mean = mean_ratio([-0.5, 1.0, -0.5, 1.0])
    assert mean is not None and mean.value == pytest.approx(0.0) and mean.low < 0 < mean.high and mean.people == 4
    assert mean_ratio([]) is None
    alone = mean_ratio([-0.2, -0.2])
    assert alone is not None and np.isnan(alone.low) and alone.percent() == "-20 %"
    same = mean_ratio([-0.2] * 5)
    assert same is not None and same.percent() == "-20 % (-20 to -20)"


@pytest.mark.parametrize(
    ("point", "verdict"),
    [
        ((8.0, 1.9), "ours"),
        ((8.0, 2.1), "other"),
        ((3.0, 3.1), "unable"),  # it has no setting of so low a rate
        ((3.0, 2.9), "ours"),  # nearer for less rate than its coarsest takes
        ((30.0, 1.2), "other"),  # its finest is better for half of the rate
        ((30.0, 0.9), "unknown"),  # it has more rate to spend than any of its settings takes
    ],
)
def test_who_is_nearer_at_our_rate(point, verdict):
    assert nearer(point, CURVE) == verdict


def test_a_run_that_ended_early_counts_as_far_as_it_came():
    both = [row(clip, "ours", setting) for clip in "abcd" for setting in ("5", "20")]
    few = [row("a", "ours", "60")]  # one of four: no setting of the curve
    slow = [row(clip, "slow", setting) for clip in "ab" for setting in ("1", "2")]
    broken = [row("c", "slow", "1")]  # the clip that was being measured
    assert complete([*both, *few, *slow, *broken]) == [*both, *slow]
