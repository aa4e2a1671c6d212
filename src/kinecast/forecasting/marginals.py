"""All frames of a forecast at once: a Laplace distribution for each number of each, and trajectories from a bank.

    x_{N+i} ~ Laplace(m_i, b_i)   from nets that read the observed frames
    sample   = m + b times what a kept window had: what goes together is not learnt but remembered

The CRPS of the Laplace, in closed form, is what is trained (Gneiting & Raftery 2007; the closed form: Jordan, Krueger &
Lerch 2019). A forecast longer than the bank's trajectories goes on from each sample's own frames. The members of an
ensemble start from other weights; locations and log scales are averaged, which keeps the result one Laplace.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, R rows, M kept windows, E members.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.normalize import Normalizer

_LOG_SCALE = 5.0  # of a number's scale against its window's step: beyond it a sample would freeze or fly away
_FEWEST = 3  # observed frames with `vary_observed`


@dataclass(frozen=True)
class MarginalsConfig(ForecasterConfig):
    """What all have. `longest` frames ahead have read-outs; `bank_size` windows are kept, drawn by `bank_seed`."""

    members: int = 3
    longest: int = 24
    dropout: float = 0.1
    bank_size: int = 512
    bank_seed: int = 0
    vary_observed: bool = False  # train on the last 3 to N observed frames, as many as chance says in each step

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("members", "longest", "bank_size")
        self._expect("dropout", 0 <= self.dropout < 1, "in [0, 1)")


class Marginals(NamedTuple):
    """Laplace distributions of the frames ahead: location and scale, each (R, H, D), raw units."""

    location: Tensor
    scale: Tensor

    def quantile(self, probability: Tensor) -> Tensor:
        """Return F^{-1}(p) of probabilities (..., R, H, D) inside (0, 1)."""
        centred = probability - 0.5
        return self.location - self.scale * centred.sign() * torch.log1p(-2 * centred.abs())

    def crps(self, truth: Tensor) -> Tensor:
        """Return the CRPS against truth (R, H, D): |y-m| + b exp(-|y-m|/b) - 3b/4."""
        distance = (truth - self.location).abs()
        return distance + self.scale * (torch.exp(-distance / self.scale) - 0.75)


def around_velocity(observed: Tensor, step: Tensor, damping: Tensor, shift: Tensor, spread: Tensor) -> Marginals:
    """Return m_i = x_N + (x_N - x_{N-1}) sum over j <= i of phi^j + step sqrt(i) shift, and b_i likewise.

    Read-outs near 0 are damped velocity with the spread of a random walk: that is where training starts.

    Args:
        observed: (R, N, D).
        step: (R, 1, D), the unit of an increment.
        damping: phi (D), cut to [0, 1].
        shift: (R, H, D) in steps of the walk.
        spread: (R, H, D), the log of the standard deviation in the same.
    """
    ahead = torch.arange(1, shift.shape[1] + 1, device=observed.device).view(-1, 1)
    walk = step * ahead.sqrt()
    reach = (damping.clamp(0, 1) ** ahead).cumsum(dim=0)
    location = observed[:, -1:] + reach * (observed[:, -1:] - observed[:, -2:-1]) + walk * shift
    return Marginals(location, walk * torch.exp((spread - math.log(2) / 2).clamp(-_LOG_SCALE, _LOG_SCALE)))


class MarginalForecaster(Forecaster):
    """Marginals of all frames ahead from an ensemble, and a bank. Subclasses say what its members and its bank are."""

    config: MarginalsConfig
    min_observed = 2
    exact_median = True
    kept = "bank"
    bank: Tensor

    def __init__(self, motion_dim: int, config: MarginalsConfig) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, "window")
        self.members = nn.ModuleList(self._member() for _ in range(config.members))
        self.register_buffer("bank", torch.empty(0, 0, motion_dim, dtype=torch.float16))

    @abstractmethod
    def _member(self) -> nn.Module:
        """Build a net: called with the units of windows, their observed frames (R, N, D) and H, it gives Marginals."""

    @abstractmethod
    def _draw(self, marginals: Marginals, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw trajectories (*shape, H, D) with these marginals, going together as windows of the bank do."""

    def _picked(self, windows: Tensor) -> Tensor:
        """Return the windows (M, T, D) of these that the bank is of: at most `bank_size`, by chance."""
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(self.config.bank_seed))
        return windows[order[: self.config.bank_size].to(windows.device)]

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean over members of the CRPS of the frames after the N-th, in mean training steps (B, T, D)."""
        observed = self._split(batch, observed)
        truth = batch[:, observed : observed + self._reach()]
        seen = batch[:, :observed]
        if self.config.vary_observed and self.training and observed > _FEWEST:
            seen = seen[:, -int(torch.randint(_FEWEST, observed + 1, ())) :]
        unit = self.normalizer.step.mean()
        crps = torch.stack([m.crps(truth).mean() for m in self._each(seen, truth.shape[1])]).mean() / unit
        return crps, {"crps": crps.detach()}

    def marginals(self, observed: Tensor, horizon: int) -> Marginals:
        """Return the distributions of the next H frames after observed frames (R, N, D); H up to the bank's length."""
        members = self._each(observed, horizon)
        location = torch.stack([m.location for m in members]).mean(dim=0)
        return Marginals(location, torch.stack([m.scale.log() for m in members]).mean(dim=0).exp())

    def median(self, observed: Tensor, horizon: int, samples: int = 16, seed: int = 0) -> Tensor:
        """Return the locations (B, H, D), as far ahead as there are any; beyond, medians of samples."""
        if horizon > self._reach():
            return super().median(observed, horizon, samples, seed)
        self._check(observed, horizon, samples)
        with torch.inference_mode(), self._evaluating():
            return self.marginals(observed.to(self.device, torch.float32), horizon).location

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        count, frames = observed.shape[:2]
        reach = min(horizon, self._reach())
        drawn = self._draw(self.marginals(observed, reach), (samples, count), generator)
        rows = torch.cat([observed.repeat(samples, 1, 1), drawn.flatten(0, 1)], dim=1)
        while rows.shape[1] < frames + horizon:  # each sample goes on from its own frames
            reach = min(frames + horizon - rows.shape[1], self._reach())
            following = self._draw(self.marginals(rows[:, -frames:], reach), (len(rows),), generator)
            rows = torch.cat([rows, following], dim=1)
        return rows[:, frames:].view(samples, count, horizon, self.motion_dim)

    def _each(self, observed: Tensor, horizon: int) -> list[Marginals]:
        units = self.normalizer(observed)
        return [member(units, observed, horizon) for member in self.members]

    def _reach(self) -> int:
        """Return how many frames ahead it was fitted for."""
        if not len(self.bank):
            raise self._not_fitted()
        return self.bank.shape[1]
