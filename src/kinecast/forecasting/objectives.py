"""Proper scores as training losses: differentiable through the samples, unbiased for any number of them.

Training a sampler by its own free-running trajectories: Pacchiardi et al. 2024, *Probabilistic forecasting with
generative networks via scoring rule minimization*, JMLR 25. Notation: S samples, B batch, H horizon, D numbers per
frame.
"""

import torch
from torch import Tensor


def fair_crps(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the CRPS of samples (S, ...) against truth (...), of the truth's shape; S of at least 2.

    E|X - y| - E|X - X'| / 2, the second mean over pairs of *different* samples.
    """
    count = len(samples)
    error = (samples - truth).abs().mean(dim=0)
    ordered = samples.sort(dim=0).values
    # The sum over pairs i < j of |x_i - x_j| is the sum over k of (2k - S - 1) x_(k), x_(k) the k-th smallest.
    rank = torch.arange(1, count + 1, device=samples.device, dtype=samples.dtype)
    weight = (2 * rank - count - 1).view(-1, *[1] * truth.ndim)
    return error - (weight * ordered).sum(dim=0) / (count * (count - 1))


def fair_energy_score(samples: Tensor, truth: Tensor) -> Tensor:
    """Return the energy score of trajectories (S, B, H, D) against truth (B, H, D), joint over H and D: (B,)."""
    count = len(samples)
    flat = samples.flatten(2)
    error = (flat - truth.flatten(1)).norm(dim=2).mean(dim=0)
    i, j = torch.triu_indices(count, count, offset=1, device=samples.device)
    return error - (flat[i] - flat[j]).norm(dim=2).sum(dim=0) / (count * (count - 1))
