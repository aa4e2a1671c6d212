"""Energy distances between sets of keypoint windows, by `dcor`.

    E(X, Y) = 2 E|x - y| - E|x - x'| - E|y - y'|        Szekely & Rizzo 2013, Euclidean norm of the flattened window

This is the *squared* form, in the units of motion and without a root, as dcor defines `energy_distance`; the published
figures use that function. 0 if and only if the distributions are equal. Means over pairs may include a window with
itself (V-statistic: dcor's default, never negative, biased upwards by the number of windows) or not (U-statistic:
unbiased, so that it may come out below 0 for equal distributions).

Notation: S samples, R reference samples, B windows, N observed, H horizon, D numbers per frame.
"""

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError


def pooled_energy_distance(samples: Tensor, truth: Tensor, observed: Tensor | None = None) -> float:
    """Return the distance between the set of all forecast windows and the set of all true ones (V-statistic).

    Pooling discards which forecast belongs to which window: a model that returns another window's future scores as well
    as the right one. The published use also includes the observed frames, equal in both sets: pass `observed` for that,
    and omit it for the predicted frames alone. One sample of every window makes a set; the result is the mean over the
    S sets.

    Args:
        samples: forecasts (S, B, H, D).
        truth: (B, H, D).
        observed: (B, N, D), or None.

    Raises:
        KinecastError: wrong shapes.
    """
    _check(samples, truth, "a truth (B, H, D)", truth.shape)
    if observed is not None:
        if observed.ndim != 3 or (observed.shape[0], observed.shape[2]) != (truth.shape[0], truth.shape[2]):
            raise KinecastError(
                f"energy distance: expected observed frames (B, N, D) of a truth {tuple(truth.shape)}, "
                f"found {tuple(observed.shape)}"
            )
        truth = torch.cat([observed, truth], dim=1)
        samples = torch.cat([observed.expand(len(samples), -1, -1, -1), samples], dim=2)
    reference = _flat(truth)
    distances = [_energy_distance(_flat(drawn), reference, unbiased=False) for drawn in samples]
    return float(np.mean(distances))


def conditional_energy_distance(samples: Tensor, reference: Tensor, unbiased: bool = True) -> Tensor:
    """Return for each window the distance between its forecasts and samples of its true future distribution, (B,).

    Unlike pooling, this measures whether a window's forecasts are of *its* future. It needs samples of the true
    conditional distribution (`research.data.synthetic`); real motion has one future per window, and the V-statistic
    with R = 1 is twice the window's (unfair) energy score.

    Args:
        samples: (S, B, H, D).
        reference: futures drawn from the true conditional distribution, (R, B, H, D).
        unbiased: U-statistics; S and R must then be at least 2.

    Raises:
        KinecastError: wrong shapes, or too few samples.
    """
    _check(samples, reference, "a reference (R, B, H, D)", reference.shape[1:])
    if unbiased and min(len(samples), len(reference)) < 2:
        raise KinecastError(
            f"energy distance: expected at least 2 samples and 2 reference samples, found {len(samples)} and "
            f"{len(reference)}: draw more, or use unbiased=False"
        )
    values = [_energy_distance(_flat(samples[:, b]), _flat(reference[:, b]), unbiased) for b in range(samples.shape[1])]
    return torch.tensor(values, dtype=torch.float64)


def _energy_distance(x: np.ndarray, y: np.ndarray, unbiased: bool) -> float:
    import dcor

    kind = dcor.EstimationStatistic.U_STATISTIC if unbiased else dcor.EstimationStatistic.V_STATISTIC
    return float(dcor.energy_distance(x, y, estimation_stat=kind))


def _flat(windows: Tensor) -> np.ndarray:
    return windows.detach().cpu().double().flatten(1).numpy()


def _check(samples: Tensor, other: Tensor, what: str, windows: torch.Size) -> None:
    if samples.ndim != 4 or samples.shape[1:] != windows or 0 in samples.shape:
        raise KinecastError(
            f"energy distance: expected samples (S, B, H, D) of {what}, found {tuple(samples.shape)} and "
            f"{tuple(other.shape)}"
        )
