"""Scores of sampled forecasts: CRPS, energy score, error of the median, spread, interval coverage.

All are of trajectories (S, B, H, D) against truth (B, H, D), in the units they are given in. CRPS and energy score
(`scoringrules`) are the *fair* estimators, unbiased for any number of samples, so that models with few samples are
not punished for it: Ferro 2014; Zamo & Naveau 2018. A model whose S samples are equal scores its absolute error.

Letters: S samples, B windows, H horizon, D numbers a frame.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError

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

    Gneiting & Raftery 2007, eq. 22 with beta = 1, the fair estimator: unlike CRPS it sees whether the numbers of a
    frame, and the frames of a trajectory, go together. S of at least 2.
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
    middle = samples.shape[0] // 2
    ordered = samples.sort(dim=0).values
    median = ordered[middle] if samples.shape[0] % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return (median - truth).abs()


def spread(samples: Tensor) -> Tensor:
    """Return the standard deviation over samples of each number, (B, H, D); 0 for one sample."""
    return samples.std(dim=0) if len(samples) > 1 else torch.zeros_like(samples[0])


def coverage(samples: Tensor, truth: Tensor, levels: Sequence[float] = LEVELS) -> dict[float, float]:
    """Return for each level the share of true numbers inside the central interval of that probability.

    Interval ends are sample quantiles at p (S + 1) (Weibull), with which exchangeable samples cover exactly the level;
    for that S must be at least (1 + level) / (1 - level), 39 for 0.95.
    """
    _check(samples, truth)
    tails = [(1 - level) / 2 for level in levels]
    ends = np.quantile(samples.numpy(), [*tails, *(1 - t for t in tails)], axis=0, method="weibull")
    true = truth.numpy()
    return {level: float(((true >= ends[i]) & (true <= ends[i + len(tails)])).mean()) for i, level in enumerate(levels)}


def _check(samples: Tensor, truth: Tensor, at_least: int = 1) -> None:
    if samples.shape[1:] != truth.shape or truth.ndim != 3:
        raise KinecastError(
            f"scores: expected samples (S, B, H, D) of a truth (B, H, D), found {tuple(samples.shape)} "
            f"and {tuple(truth.shape)}"
        )
    if len(samples) < at_least:
        raise KinecastError(f"scores: expected at least {at_least} samples, found {len(samples)}: draw more")
