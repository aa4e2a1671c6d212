"""How much rate one curve saves over another at equal quality, as the field counts it.

Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33 (2001), with the piecewise cubic
interpolation that is usual since: logarithms of rates as functions of the quality, integrated over the qualities that
both curves reach.
"""

from collections.abc import Sequence

import numpy as np

Points = Sequence[tuple[float, float]]  # rate and distortion, less of which is better


def envelope(points: Points) -> list[tuple[float, float]]:
    """Return the points, by rate, each of which is better than all of less rate."""
    found: list[tuple[float, float]] = []
    for rate, distortion in sorted(points):
        if not found or distortion < found[-1][1]:
            found.append((rate, distortion))
    return found


def bd_rate(reference: Points, tested: Points) -> float | None:
    """Return how much more rate `tested` needs than `reference` for equal distortion: -0.5 is half of it.

    None if they share no range of distortions, or one has fewer than two points that count.

    >>> round(bd_rate([(1, 3.0), (2, 2.0), (4, 1.0)], [(2, 3.0), (4, 2.0), (8, 1.0)]), 6)
    1.0
    """
    from scipy.interpolate import PchipInterpolator

    curves = [envelope(points)[::-1] for points in (reference, tested)]
    if min(map(len, curves)) < 2:
        return None
    low = max(curve[0][1] for curve in curves)
    high = min(curve[-1][1] for curve in curves)
    if not low < high:
        return None
    areas = []
    for curve in curves:
        rates, distortions = np.array(curve).T
        areas.append(float(PchipInterpolator(distortions, np.log(rates)).integrate(low, high)))
    return float(np.exp((areas[1] - areas[0]) / (high - low)) - 1)


def distortion_at(points: Points, rate: float) -> float | None:
    """Return the distortion at a rate, linear in its logarithm; None outside the curve."""
    rates, distortions = np.array(envelope(points)).T
    if not rates[0] <= rate <= rates[-1]:
        return None
    return float(np.interp(np.log(rate), np.log(rates), distortions))


def crossing(ours: Points, other: Points) -> tuple[float | None, str]:
    """Return the rate from which on `other` is better, and which is better where none is: "ours" or "other".

    Rates are those that both curves have; None if they have none in common, or do not cross.
    """
    low = max(envelope(points)[0][0] for points in (ours, other))
    high = min(envelope(points)[-1][0] for points in (ours, other))
    if not low < high:
        return None, "neither"
    rates = np.geomspace(low * (1 + 1e-9), high * (1 - 1e-9), 200)
    apart = np.array([(distortion_at(ours, r) or 0.0) - (distortion_at(other, r) or 0.0) for r in rates])
    better = apart > 0  # the other one
    if better.all() or not better.any():
        return None, "other" if better.all() else "ours"
    last = int(np.flatnonzero(~better)[-1])  # from the last rate at which ours is as good
    return float(rates[last]), "other" if last < len(rates) - 1 else "ours"
