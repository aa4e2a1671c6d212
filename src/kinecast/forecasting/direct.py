"""Direct: all frames of a forecast at once, a distribution for each number, and trajectories by a copula.

    h        = GRU(features(x_1), ..., features(x_N))              a state for each of the D numbers, shared weights
    x_{N+i} ~ Laplace(m_i, b_i),   m_i = x_N + (x_N - x_{N-1}) sum over j <= i of phi^j + step * sqrt(i) * a_i(h)
                                   b_i = step * sqrt(i) * exp(c_i(h))
    U        = the probability-integral transforms of a training window's residuals, drawn from a bank
    sample   = F^{-1}(U),  F the distribution functions above

Ours, not of the papers. A recurrent sampler (GRU-NF, VRNN) must learn its own errors of many steps from few people;
here each step ahead has its own read-out, trained by the closed-form CRPS of the Laplace (Gneiting & Raftery 2007; the
closed form: Jordan, Krueger & Lerch 2019). Dependence within a frame and over time is not learnt but resampled: an
empirical copula (Clark et al. 2004, the Schaake shuffle; Schefzik et al. 2013) of residuals in units of their window. A
forecast longer than the bank's trajectories continues from each sample's own frames.

The members of an ensemble start from different weights; locations and log scales are averaged, which keeps the result
one Laplace.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, R rows, M kept windows, E members.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.features import MotionFeatures, RecurrentCell, hidden_layer, mlp
from kinecast.forecasting.normalize import Normalizer, Units

_LOG_SCALE = 5.0  # of a number's scale against its window's step: beyond it a sample would freeze or diverge
_FEWEST = 3  # observed frames with `vary_observed`


@dataclass(frozen=True)
class DirectConfig(ForecasterConfig):
    """Sizes. `longest` frames ahead have read-outs; `bank_size` windows' residuals are kept, drawn by `bank_seed`."""

    hidden: int = 48
    mlp: int = 32
    read_out: int = 64
    identity: int = 4  # size of the learnt embedding of the D numbers
    dropout: float = 0.1
    members: int = 3
    longest: int = 24
    bank_size: int = 512
    bank_seed: int = 0
    vary_observed: bool = False  # train on the last 3 to N observed frames, a random number in each step

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("hidden", "mlp", "read_out", "members", "longest", "bank_size")
        self._expect("identity", self.identity >= 0, "of at least 0")
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


class Direct(Forecaster):
    """Direct multi-step marginals with an empirical copula."""

    name = "direct"
    config_type = DirectConfig
    config: DirectConfig
    min_observed = 2
    presets: ClassVar = {"kinecast": DirectConfig(), "general": DirectConfig(vary_observed=True)}
    kept = "bank"
    bank: Tensor

    def __init__(self, motion_dim: int, config: DirectConfig) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, "window")
        self.members = nn.ModuleList(_Member(motion_dim, config) for _ in range(config.members))
        self.register_buffer("bank", torch.empty(0, 0, motion_dim, dtype=torch.float16))

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D), and keep the ranks of some windows' residuals.

        The bank (at most `bank_size`, at most `longest`, D) has, of residuals x_{N+i} - x_N in steps of their own
        window, the share of kept windows below each: uniform over the bank, number by number.
        """
        observed = self._split(windows, observed)
        self.normalizer.fit(windows)
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(self.config.bank_seed))
        kept = windows[order[: self.config.bank_size].to(windows.device)]
        later = kept[:, observed : observed + self.config.longest]
        residual = (later - kept[:, observed - 1 : observed]) / self.normalizer(kept[:, :observed]).step
        ranks = residual.argsort(dim=0).argsort(dim=0)
        self.bank = ((ranks + 0.5) / len(kept)).to(torch.float16)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean over members of the CRPS of the frames after the N-th, in mean training steps (B, T, D)."""
        observed = self._split(batch, observed)
        truth = batch[:, observed : observed + self._reach()]
        seen = batch[:, :observed]
        if self.config.vary_observed and self.training and observed > _FEWEST:
            seen = seen[:, -int(torch.randint(_FEWEST, observed + 1, ())) :]
        unit = self.normalizer.step.mean()
        crps = torch.stack([m.crps(truth).mean() for m in self._members(seen, truth.shape[1])]).mean() / unit
        return crps, {"crps": crps.detach()}

    def marginals(self, observed: Tensor, horizon: int) -> Marginals:
        """Return the distributions of the next H frames after observed frames (R, N, D); H up to the bank's length."""
        members = self._members(observed, horizon)
        location = torch.stack([m.location for m in members]).mean(dim=0)
        return Marginals(location, torch.stack([m.scale.log() for m in members]).mean(dim=0).exp())

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        count, frames = observed.shape[:2]
        reach = min(horizon, self._reach())
        drawn = self._draw(self.marginals(observed, reach), (samples, count), generator)
        rows = torch.cat([observed.repeat(samples, 1, 1), drawn.flatten(0, 1)], dim=1)
        while rows.shape[1] < frames + horizon:  # each sample continues from its own frames
            reach = min(frames + horizon - rows.shape[1], self._reach())
            following = self._draw(self.marginals(rows[:, -frames:], reach), (len(rows),), generator)
            rows = torch.cat([rows, following], dim=1)
        return rows[:, frames:].view(samples, count, horizon, self.motion_dim)

    def _draw(self, marginals: Marginals, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw trajectories (*shape, H, D): ranks of a kept window, moved by up to half a rank, through F^{-1}."""
        device, count = marginals.location.device, len(self.bank)
        picked = torch.randint(count, shape, generator=generator, device=device)
        rank = self.bank[picked, : marginals.location.shape[1]].float()
        # One offset per trajectory, so that the bank does not repeat and neighbouring frames do not jitter.
        offset = torch.rand((*shape, 1, 1), generator=generator, device=device) - 0.5
        probability = rank + offset / count
        return marginals.quantile(probability.clamp(0.1 / count, 1 - 0.1 / count))

    def _members(self, observed: Tensor, horizon: int) -> list[Marginals]:
        units = self.normalizer(observed)
        return [member(units, observed, horizon) for member in self.members]

    def _reach(self) -> int:
        """Return the horizon it was fitted for."""
        if not len(self.bank):
            raise self._not_fitted()
        return self.bank.shape[1]


class _Member(nn.Module):
    """One net of the ensemble: observed frames (R, N, D) to the distributions of H frames ahead."""

    def __init__(self, motion_dim: int, config: DirectConfig) -> None:
        super().__init__()
        self.features = MotionFeatures(motion_dim, "shared", config.identity)
        self.input = hidden_layer(self.features.size, config.mlp, config.dropout)
        self.cell = RecurrentCell(config.mlp, config.hidden)
        read = config.hidden + config.identity
        # Training starts from damped velocity and the spread of a random walk: corrections to these from about 0.
        self.head = mlp(read, config.read_out, 2 * config.longest, config.dropout, near_zero=True)
        self.damping = nn.Parameter(torch.full((motion_dim,), 0.4))

    def forward(self, units: Units, observed: Tensor, horizon: int) -> Marginals:
        rows, _, dim = observed.shape
        step = units.step
        increments = observed.diff(dim=1) / step
        state = self.cell.initial(rows, dim, observed)
        window = self.features.unchanging(units, rows)
        for inputs in self.input(self.features(window, observed[:, 1:].transpose(0, 1), increments.transpose(0, 1))):
            state = self.cell(inputs, state)
        if self.features.identity is not None:
            state = torch.cat([state, self.features.identity.expand(rows, -1, -1)], dim=2)
        shift, spread = self.head(state).unflatten(2, (2, -1))[..., :horizon].permute(2, 0, 3, 1)  # (R, H, D) each
        ahead = torch.arange(1, horizon + 1, device=observed.device).view(-1, 1)
        walk = step * ahead.sqrt()
        reach = (self.damping.clamp(0, 1) ** ahead).cumsum(dim=0)
        location = observed[:, -1:] + reach * (observed[:, -1:] - observed[:, -2:-1]) + walk * shift
        return Marginals(location, walk * torch.exp((spread - math.log(2) / 2).clamp(-_LOG_SCALE, _LOG_SCALE)))
