"""Scores of sampled forecasts: CRPS, energy score, error of the median, spread, calibration, coverage of branches.

All are of trajectories (S, B, H, D) against truth (B, H, D), in the units they are given in. CRPS and energy score
(`scoringrules`) are the *fair* estimators, unbiased for any number of samples, so that models with few samples are not
penalised: Ferro 2014; Zamo & Naveau 2018. A model whose S samples are equal scores its absolute error.

Notation: S samples, B windows, H horizon, D numbers per frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.median import sample_median

LEVELS = (0.5, 0.8, 0.95)


def crps(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the continuous ranked probability score of each number, (B, H, D). Lower is better. S of at least 2.

    Gneiting & Raftery 2007, eq. 21, by probability-weighted moments: the fair estimator in S log S.
    """
    import scoringrules

    _check(samples, truth, at_least=2)
    # "pwm" equals "fair" term by term of the sum; the latter holds S^2 numbers for each of the truth's.
    values = scoringrules.crps_ensemble(
        truth.double().numpy(), samples.double().numpy(), m_axis=0, estimator="pwm", backend="numpy"
    )
    return torch.from_numpy(values)


def energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the energy score of each window's trajectory, joint over its H D numbers, (B,). Lower is better.

    Gneiting & Raftery 2007, eq. 22 with beta = 1, the fair estimator: unlike CRPS it depends on the joint distribution
    of a frame's numbers and a trajectory's frames. S of at least 2.
    """
    import scoringrules

    _check(samples, truth, at_least=2)
    flat, true = samples.flatten(2), truth.flatten(1)
    values = [  # one window at a time: S^2 H D numbers are held
        scoringrules.es_ensemble(true[b], flat[:, b], m_axis=0, v_axis=-1, estimator="fair", backend="torch")
        for b in range(len(truth))
    ]
    return torch.stack(values).double()


def median_error(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the absolute error of the samples' median, number by number, (B, H, D)."""
    _check(samples, truth)
    return (sample_median(samples) - truth).abs()


def spread(samples: Tensor) -> Tensor:
    """Return the standard deviation over samples of each number, (B, H, D); 0 for one sample."""
    return samples.std(dim=0) if len(samples) > 1 else torch.zeros_like(samples[0])


def coverage(samples: Tensor, truth: Tensor, levels: Sequence[float] = LEVELS) -> dict[float, float]:
    """Return for each level the share of true values inside the central interval of that probability.

    Interval ends are sample quantiles at p (S + 1) (Weibull), with which exchangeable samples cover exactly the level;
    for that S must be at least (1 + level) / (1 - level), 39 for 0.95.
    """
    return {level: float(inside.mean()) for level, inside in covered(samples, truth, levels).items()}


def covered(samples: Tensor, truth: Tensor, levels: Sequence[float] = LEVELS) -> dict[float, np.ndarray]:
    """Return for each level which true values are inside that interval (`coverage`), booleans (B, H, D)."""
    _check(samples, truth)
    tails = [(1 - level) / 2 for level in levels]
    ends = np.quantile(samples.numpy(), [*tails, *(1 - t for t in tails)], axis=0, method="weibull")
    true = truth.numpy()
    return {level: (true >= ends[i]) & (true <= ends[i + len(tails)]) for i, level in enumerate(levels)}


def pit_histogram(samples: Tensor, truth: Tensor, bins: int = 10) -> Tensor:
    """Return the PIT histogram (bins,), the ranks of true values among their samples: flat if calibrated.

    The probability integral transform, nonrandomised (Czado, Gneiting & Held 2009): a truth with r of S samples below
    and t equal to it is spread evenly over [r, r + t + 1] / (S + 1). A U shape means too narrow, a hump too wide.
    """
    _check(samples, truth)
    if bins < 2:
        raise KinecastError(f"PIT histogram: expected at least 2 bins, found {bins}")
    below = (samples < truth).sum(dim=0).flatten().double()
    equal = (samples == truth).sum(dim=0).flatten().double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    cumulative = [((edge * (len(samples) + 1) - below) / (equal + 1)).clamp(0, 1).mean() for edge in edges]
    return torch.stack(cumulative).diff()


def pit_deviation(histogram: Tensor) -> float:
    """Return the share of a PIT histogram in the wrong bin: 0 if flat, up to 1."""
    return float((histogram - 1 / len(histogram)).abs().sum() / 2)


@dataclass(frozen=True)
class BranchCoverage:
    """Coverage of the possible branches of the future by samples; shares and errors are means over windows."""

    shares: tuple[float, ...]  # of samples, by branch
    true_shares: tuple[float, ...]
    share_error: float  # mean over branches of |share - true share|, window by window
    all_reached: float  # share of windows where every branch has at least `least` of the samples
    astray: float  # share of samples on no branch, such as between two


def branch_coverage(branches: Tensor, true_shares: Tensor, least: float = 0.1) -> BranchCoverage:
    """Compare the branches of samples with their true probabilities.

    Args:
        branches: of each sample of each window, (S, B): 0, 1, ..., or -1 for none.
        true_shares: probability of each branch in each window, (B, branches).
        least: minimum share of samples for a branch to count as reached.

    Raises:
        KinecastError: the shapes do not fit.
    """
    if branches.ndim != 2 or true_shares.ndim != 2 or branches.shape[1] != len(true_shares) or not len(branches):
        raise KinecastError(
            f"branch coverage: expected branches (S, B) and shares (B, branches), found {tuple(branches.shape)} and "
            f"{tuple(true_shares.shape)}"
        )
    shares = torch.stack([(branches == k).double().mean(dim=0) for k in range(true_shares.shape[1])], dim=1)
    return BranchCoverage(
        shares=tuple(shares.mean(dim=0).tolist()),
        true_shares=tuple(true_shares.double().mean(dim=0).tolist()),
        share_error=float((shares - true_shares).abs().mean()),
        all_reached=float((shares >= least).all(dim=1).double().mean()),
        astray=float((branches < 0).double().mean()),
    )


def _check(samples: Tensor, truth: Tensor, at_least: int = 1) -> None:
    if samples.shape[1:] != truth.shape or truth.ndim != 3:
        raise KinecastError(
            f"scores: expected samples (S, B, H, D) of a truth (B, H, D), found {tuple(samples.shape)} "
            f"and {tuple(truth.shape)}"
        )
    if len(samples) < at_least:
        raise KinecastError(f"scores: expected at least {at_least} samples, found {len(samples)}: draw more")
