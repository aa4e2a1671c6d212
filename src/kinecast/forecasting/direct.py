"""Direct: all frames of a forecast at once, by a recurrent net that each of the D numbers has to itself.

    h        = GRU(features(x_1), ..., features(x_N))              a state for each of the D numbers, shared weights
    x_{N+i} ~ Laplace(m_i, b_i)                                    read out of h (`marginals`)
    U        = the probability-integral transforms of a training window's residuals, drawn from a bank
    sample   = F^{-1}(U),  F the distribution functions above

Ours, not of the papers. A recurrent sampler (GRU-NF, VRNN) must learn its own errors of many steps from few people;
here each step ahead has its own read-out. What goes together within a frame and over time is an empirical copula (Clark
et al. 2004, the Schaake shuffle; Schefzik et al. 2013) of residuals in units of their window.

Notation: T frames, N observed, H horizon, D numbers per frame, R rows, M training windows.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from kinecast.forecasting.features import MotionFeatures, RecurrentCell, hidden_layer, mlp
from kinecast.forecasting.marginals import MarginalForecaster, Marginals, MarginalsConfig, around_velocity
from kinecast.forecasting.normalize import Units


@dataclass(frozen=True)
class DirectConfig(MarginalsConfig):
    """Sizes of the nets."""

    hidden: int = 48
    mlp: int = 32
    read_out: int = 64
    identity: int = 4  # numbers of the learnt vector that tells the shared net which of D it reads

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("hidden", "mlp", "read_out")
        self._expect("identity", self.identity >= 0, "of at least 0")


class Direct(MarginalForecaster):
    """Direct multi-step marginals of single numbers, with an empirical copula."""

    name = "direct"
    config_type = DirectConfig
    config: DirectConfig
    presets: ClassVar = {"kinecast": DirectConfig(), "general": DirectConfig(vary_observed=True)}

    def _member(self) -> nn.Module:
        return _Member(self.motion_dim, self.config)

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D), and keep the ranks of some windows' residuals.

        The bank (at most `bank_size`, at most `longest`, D) has, of residuals x_{N+i} - x_N in steps of their own
        window, the share of kept windows below each: uniform over the bank, number by number.
        """
        observed = self._split(windows, observed)
        self.normalizer.fit(windows)
        kept = self._picked(windows)
        later = kept[:, observed : observed + self.config.longest]
        residual = (later - kept[:, observed - 1 : observed]) / self.normalizer(kept[:, :observed]).step
        ranks = residual.argsort(dim=0).argsort(dim=0)
        self.bank = ((ranks + 0.5) / len(kept)).to(torch.float16)

    def _draw(self, marginals: Marginals, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw trajectories (*shape, H, D): ranks of a kept window, moved by up to half a rank, through F^{-1}."""
        device, count = marginals.location.device, len(self.bank)
        picked = torch.randint(count, shape, generator=generator, device=device)
        rank = self.bank[picked, : marginals.location.shape[1]].float()
        # One offset per trajectory, so that the bank does not repeat and neighbouring frames do not jitter.
        offset = torch.rand((*shape, 1, 1), generator=generator, device=device) - 0.5
        probability = rank + offset / count
        return marginals.quantile(probability.clamp(0.1 / count, 1 - 0.1 / count))


class _Member(nn.Module):
    """One net of the ensemble: observed frames (R, N, D) to the distributions of H frames ahead."""

    def __init__(self, motion_dim: int, config: DirectConfig) -> None:
        super().__init__()
        self.features = MotionFeatures(motion_dim, "shared", config.identity)
        self.input = hidden_layer(self.features.size, config.mlp, config.dropout)
        self.cell = RecurrentCell(config.mlp, config.hidden)
        read = config.hidden + config.identity
        self.head = mlp(read, config.read_out, 2 * config.longest, config.dropout, near_zero=True)
        self.damping = nn.Parameter(torch.full((motion_dim,), 0.4))

    def forward(self, units: Units, observed: Tensor, horizon: int) -> Marginals:
        rows, _, dim = observed.shape
        increments = observed.diff(dim=1) / units.step
        state = self.cell.initial(rows, dim, observed)
        window = self.features.unchanging(units, rows)
        for inputs in self.input(self.features(window, observed[:, 1:].transpose(0, 1), increments.transpose(0, 1))):
            state = self.cell(inputs, state)
        if self.features.identity is not None:
            state = torch.cat([state, self.features.identity.expand(rows, -1, -1)], dim=2)
        shift, spread = self.head(state).unflatten(2, (2, -1))[..., :horizon].permute(2, 0, 3, 1)  # (R, H, D) each
        return around_velocity(observed, units.step, self.damping, shift, spread)
