"""Small motion for tests: damped oscillation with noise that is shared between the numbers of a frame."""

import torch
from torch import Tensor


def ar_motion(frames: int = 40, dim: int = 4, seed: int = 0, level: float = 1.0) -> Tensor:
    """Return (frames, dim): a random walk whose increments are autocorrelated 0.6 and move together."""
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=torch.Generator().manual_seed(99))
    increments = torch.zeros(frames, dim)
    for t in range(1, frames):
        increments[t] = 0.6 * increments[t - 1] + 0.02 * level * (mixing @ torch.randn(dim, generator=random))
    return 0.3 + increments.cumsum(dim=0)


def ar_series(clips: int = 6, frames: int = 40, dim: int = 4) -> dict[str, Tensor]:
    """Return series of three people, two clips each by default, one livelier than the next."""
    return {
        f"id{i % 3}_clip_{i:03d}": ar_motion(frames + 3 * i, dim, seed=i, level=1 + 0.5 * (i % 3)) for i in range(clips)
    }


def ar_windows(count: int = 12, frames: int = 10, dim: int = 4) -> Tensor:
    """Return windows (count, frames, dim)."""
    return torch.stack([ar_motion(frames, dim, seed=100 + i) for i in range(count)])
