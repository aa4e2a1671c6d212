import pytest

from kinecast.research.bjontegaard import bd_rate, crossing, distortion_at, envelope

CURVE = [(1.0, 3.0), (2.0, 2.0), (4.0, 1.0)]


def test_a_curve_at_twice_the_rate_needs_twice_the_rate():
    double = [(2 * rate, distortion) for rate, distortion in CURVE]
    assert bd_rate(CURVE, double) == pytest.approx(1.0) and bd_rate(double, CURVE) == pytest.approx(-0.5)
    assert bd_rate(CURVE, CURVE) == pytest.approx(0.0)


def test_only_qualities_that_both_reach_count():
    assert bd_rate(CURVE, [(1.0, 9.0), (8.0, 3.0)]) is None
    assert bd_rate(CURVE, [(1.0, 2.0)]) is None
    shifted = [(2.0, 2.5), (8.0, 0.5)]
    assert bd_rate(CURVE, shifted) is not None


def test_points_that_are_worse_at_more_rate_do_not_count():
    assert envelope([(4.0, 1.0), (1.0, 3.0), (3.0, 3.5), (2.0, 2.0)]) == CURVE


def test_the_rate_from_which_on_another_curve_is_better():
    other = [(1.0, 4.0), (4.0, 0.0)]
    rate, after = crossing(CURVE, other)
    assert after == "other" and rate == pytest.approx(2.0, rel=0.02)
    assert crossing(CURVE, [(1.0, 9.0), (4.0, 8.0)]) == (None, "ours")
    assert crossing(CURVE, [(1.0, 0.5), (4.0, 0.4)]) == (None, "other")
    assert crossing(CURVE, [(10.0, 9.0), (40.0, 8.0)]) == (None, "neither")
    assert distortion_at(CURVE, 2.0) == pytest.approx(2.0) and distortion_at(CURVE, 9.0) is None
