"""Transformer: all frames of a forecast at once, each of the D numbers a token that attends to the others.

    token_d  = W [increments, places, liveliness of x_{N-L+1..N, d}] + e_d       one for each of the D numbers
    h        = attention and a small net on each token, so many layers           numbers look at numbers
    x_{N+i} ~ Laplace(m_i, b_i)                                                  read out of h (`marginals`)
    sample   = m + b r,   r = +-(x - m) / b of a whole kept window, drawn from a bank

The arrangement is iTransformer's (Liu et al. 2024, arXiv 2310.06625): what attention mixes is numbers, whose histories
are short, and not frames. Our own are the units of the window, the read-outs around damped velocity and the CRPS as the
loss. Trained on the motion of many people it is a small foundation model of it; `direct` sees each number alone, and
needs fewer people. How far and in what shape truths lie around m is taken from how far they lay, in units of b, in
windows kept after training (split conformal prediction's residuals, Lei et al. 2018, here of whole trajectories), of
people that no gradient saw where some are kept for early stopping; with either sign, so that m stays the median.

Notation: N observed, H horizon, D numbers per frame, R rows, L frames looked back on, C width, F features of a number.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad, scaled_dot_product_attention

from kinecast.forecasting.marginals import MarginalForecaster, Marginals, MarginalsConfig, around_velocity
from kinecast.forecasting.normalize import Units

_FEWEST = 3  # observed frames that the bank is of
_CALIBRATED = 32  # windows of the bank with as many observed frames
_JITTER = 0.05  # sigma of the log-normal factor of a drawn trajectory


@dataclass(frozen=True)
class TransformerConfig(MarginalsConfig):
    """Sizes of the nets. Of more than `reads` observed frames the last ones are read.

    `absolute` tells a number's place among the training frames too, for an open mouth closes; with few training people
    it says more of who they are than of how they move.
    """

    width: int = 48
    layers: int = 1
    heads: int = 4
    reads: int = 12
    absolute: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("width", "layers", "heads")
        self._expect("reads", self.reads >= 2, "of at least 2")
        self._expect("width", self.width % self.heads == 0, f"a multiple of its {self.heads} heads")


class Transformer(MarginalForecaster):
    """Direct multi-step marginals from attention over the numbers of a frame, with a bank of residuals."""

    name = "transformer"
    config_type = TransformerConfig
    config: TransformerConfig
    presets: ClassVar = {
        "kinecast": TransformerConfig(),
        "general": TransformerConfig(vary_observed=True),
    }

    def _member(self) -> nn.Module:
        return _Member(self.motion_dim, self.config)

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D), and the residuals of what the weights forecast as yet."""
        observed = self._split(windows, observed)
        self.normalizer.fit(windows)
        self.calibrate(windows, observed)

    def calibrate(self, windows: Tensor, observed: int) -> None:
        """Keep, of some windows (M, T, D), (x - m) / b of all frames after the N-th: the bank (M, H, D).

        With `vary_observed` the forecasts are from N/2 to N observed frames.
        """
        kept = self._picked(windows)
        reach = min(self.config.longest, windows.shape[1] - observed)
        fewest = max(_FEWEST, observed // 2) if self.config.vary_observed else observed
        parts = []
        with torch.no_grad(), self._evaluating():
            for i, part in enumerate(kept.split(_CALIBRATED)):
                seen = observed - i % (observed - fewest + 1) if observed > fewest else observed
                found = self.marginals(part[:, observed - seen : observed], reach)
                parts.append((part[:, observed : observed + reach] - found.location) / found.scale)
        self.bank = torch.cat(parts).to(torch.float16)

    def _draw(self, marginals: Marginals, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        device = marginals.location.device
        picked = torch.randint(2 * len(self.bank), shape, generator=generator, device=device)
        residual = self.bank[picked // 2, : marginals.location.shape[1]].float()
        # One factor a trajectory: a bank does not repeat itself, and neighbouring frames do not jitter.
        factor = torch.exp(_JITTER * torch.randn(shape, generator=generator, device=device)) * (2 * (picked % 2) - 1)
        return marginals.location + marginals.scale * residual * factor[..., None, None]

    def _each(self, observed: Tensor, horizon: int) -> list[Marginals]:
        return super()._each(observed[:, -self.config.reads :], horizon)


class _Member(nn.Module):
    """One net of the ensemble: observed frames (R, N, D) to the distributions of H frames ahead."""

    def __init__(self, motion_dim: int, config: TransformerConfig) -> None:
        super().__init__()
        self.reads, self.absolute = config.reads, config.absolute
        features = 2 * (config.reads - 1) + 4 + config.absolute
        self.input = nn.Linear(features, config.width)
        self.identity = nn.Parameter(0.1 * torch.randn(motion_dim, config.width))
        self.layers = nn.ModuleList(_Layer(config.width, config.heads, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, 2 * config.longest)
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # corrections to damped velocity start from about 0
            self.head.bias.zero_()
        self.own = nn.Parameter(torch.zeros(motion_dim, 2 * config.longest))  # read-outs of each number's own
        self.damping = nn.Parameter(torch.full((motion_dim,), 0.4))

    def forward(self, units: Units, observed: Tensor, horizon: int) -> Marginals:
        tokens = self.input(self._features(units, observed)) + self.identity
        for layer in self.layers:
            tokens = layer(tokens)
        read = self.head(self.norm(tokens)) + self.own
        shift, spread = read.unflatten(2, (2, -1))[..., :horizon].permute(2, 0, 3, 1)  # (R, H, D) each
        return around_velocity(observed, units.step, self.damping, shift, spread)

    def _features(self, units: Units, observed: Tensor) -> Tensor:
        """Return what is told of each number, (R, D, F). Frames before the first are taken as still."""
        missing = self.reads - observed.shape[1]
        # asinh: a jump (a cut, a lost landmark) must not throw the tokens far out of what they were trained on.
        increments = pad(torch.asinh(observed.diff(dim=1) / units.step), (0, 0, missing, 0))
        places = (observed - units.shift) / units.scale
        earlier = pad(torch.asinh(places[:, :-1]), (0, 0, missing, 0))
        overall = units.level.mean(dim=2, keepdim=True).expand_as(units.level)
        known = torch.full_like(overall, observed.shape[1] / self.reads)
        told = [increments, earlier, units.level, overall, places.mean(dim=1, keepdim=True), known]
        if self.absolute:
            told.append(units.place)
        return torch.cat(told, dim=1).transpose(1, 2)


class _Layer(nn.Module):
    """Attention between tokens (R, D, C), then a net on each; both are added to what comes in, normalised before."""

    def __init__(self, width: int, heads: int, share: float) -> None:
        super().__init__()
        self.heads, self.share = heads, share
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.net = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        read = self.attend(self.before(tokens)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(*read).transpose(1, 2).flatten(2)
        tokens = tokens + dropout(self.joined(seen), self.share, self.training)
        return tokens + dropout(self.net(self.between(tokens)), self.share, self.training)
