"""GRU-NF: a normalising flow given a recurrent state, arXiv 2504.05537, section 3.2, after Rasul et al., 2002.06103.

    h_t = GRU(x_{t-1}, h_{t-1}),  h_0 = 0;     v_t ~ RealNVP(. | h_t);     loss -(1/NT) sum over t of log p(x_t | h_t)

h_t depends on x_{<t} only, and every sample has its own state and reads its own frames. The flow's variable v_t is

    position   (x_t - shift) / scale                                     (as printed, in training units)
    residual   d_t - damping * d_{t-1},  d_t = (x_t - x_{t-1}) / step    (generalises to people not trained on)

With `shared` channels each number has a state of its own, from which an affine layer with free tails is read, and a
fixed whitening follows; the flow is conditioned on the mean of the states and models the rest, the dependence of the
numbers:

    r = (v - m(h)) / exp(s(h));     e = sinh(asinh(r) / a);     y = C^{-1} e,  C C' the correlation of e in training

a > 1 gives tails heavier than a Gaussian's (after Jones & Pewsey 2009; a = 2: a Laplace's). All of it is invertible, so
the likelihood stays exact.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, R rows, C channels, K hidden units.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.features import CHANNELS, Channels, MotionFeatures, mlp
from kinecast.forecasting.flows.folding import FoldedInverse
from kinecast.forecasting.flows.layers import RealNVPConfig
from kinecast.forecasting.flows.realnvp import FlowDistribution, RealNVP
from kinecast.forecasting.normalize import NORMALIZATIONS, Normalization, Normalizer, Units

_DAMPING = 0.4
_LOG_SCALE = (-6.0, 2.0)  # of the affine layer, in log steps: beyond these a sample would freeze or diverge
_TAIL = (1.0, 2.5)  # of the exponent a, initially 1.5
_SHRINKAGE = 0.1  # of the correlation towards none: there are few independent windows
_JUMP = 8.0  # of its spread: larger residuals (a cut, a lost keypoint) do not steer the correlation

Inversion = Callable[[FlowDistribution, Tensor], Tensor]  # a flow and noise (R, D) to y (R, D)


@dataclass(frozen=True)
class GRUNFConfig(ForecasterConfig):
    """Sizes and choices of a GRU-NF. `layers` are the GRU's; `flow_layers` linear ones in each net of a block."""

    hidden: int = 24
    layers: int = 1
    blocks: int = 4
    flow_hidden: int = 24
    flow_layers: int = 3
    batch_norm: bool = True
    channels: Channels = "shared"
    identity: int = 4  # size of the learnt embedding of the D numbers
    normalization: Normalization = "window"
    variable: Literal["position", "residual"] = "residual"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("hidden", "layers", "blocks", "flow_hidden")
        self._expect("flow_layers", self.flow_layers >= 2, "of at least 2")
        self._expect("identity", self.identity >= 0, "of at least 0")
        self._expect("channels", self.channels in CHANNELS, f"one of {', '.join(CHANNELS)}")
        self._expect("normalization", self.normalization in NORMALIZATIONS, f"one of {', '.join(NORMALIZATIONS)}")
        self._expect("variable", self.variable in ("position", "residual"), "position or residual")
        self._expect("dropout", 0 <= self.dropout < 1, "in [0, 1)")

    @property
    def flow(self) -> RealNVPConfig:
        """Sizes of the flow."""
        return RealNVPConfig(
            self.blocks, self.flow_hidden, self.flow_layers, batch_norm=self.batch_norm, dropout=self.dropout
        )


PAPER = GRUNFConfig(
    hidden=512,
    layers=3,
    blocks=12,
    flow_hidden=2048,
    flow_layers=5,
    channels="frame",
    identity=0,
    normalization="training",
    variable="position",
    dropout=0.0,
)
PRESETS = {
    "kinecast": GRUNFConfig(),
    "paper": PAPER,
    "released": replace(PAPER, blocks=5, flow_hidden=512),
}


class Before(NamedTuple):
    """The context of a frame, for R rows: units, the last frame (R, D), its increment in steps (R, D)."""

    units: Units
    frame: Tensor
    increment: Tensor


class NextFrame:
    """p(x_t | x_{<t}) of R rows, in raw units: a value. `flow` is the distribution of y, the flow's own variable."""

    def __init__(self, flow: FlowDistribution, shift: Tensor, scale: Tensor, marginal: "MarginalShape | None") -> None:
        self.flow = flow
        self.shift = shift
        self.scale = scale
        self.marginal = marginal

    def log_prob(self, frame: Tensor) -> Tensor:
        """Return the log density (R,) of frames (R, D) in raw units."""
        return self.log_prob_in_units(frame) - self.scale.log().sum(dim=1)

    def log_prob_in_units(self, frame: Tensor) -> Tensor:
        """Return the same in units of `scale`, (R,), as used in training."""
        y, log_det = self.to_flow(frame)
        return self.flow.log_prob(y) + log_det

    def to_flow(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (R, D) of frames (R, D), and log |det dy/dv| (R,)."""
        v = (frame - self.shift) / self.scale
        return (v, v.new_zeros(len(v))) if self.marginal is None else self.marginal.normalised(v)

    def frame_of(self, y: Tensor) -> Tensor:
        """Return frames (R, D) of y (R, D)."""
        v = y if self.marginal is None else self.marginal.restored(y)
        return torch.addcmul(self.shift, self.scale, v)


class MarginalShape(NamedTuple):
    """The affine layer with tails and the whitening, given the states: mean and log scale (R, D), a (D,), C (D, D)."""

    mean: Tensor
    log_scale: Tensor
    tail: Tensor
    cholesky: Tensor

    def normalised(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (R, D) and log |det dy/dv| (R,)."""
        r = (v - self.mean) * torch.exp(-self.log_scale)
        e, log_slope = _lighter(r, self.tail)
        y = torch.linalg.solve_triangular(self.cholesky, e.T, upper=False).T
        constant = self.cholesky.diagonal().log().sum()
        return y, (log_slope - self.log_scale).sum(dim=1) - constant

    def restored(self, y: Tensor) -> Tensor:
        """Return v (R, D)."""
        e = y @ self.cholesky.T
        return torch.addcmul(self.mean, self.log_scale.exp(), torch.sinh(self.tail * torch.asinh(e)))


class GRUNF(Forecaster):
    """A recurrent model whose next frame has the density of a conditional RealNVP."""

    name = "gru-nf"
    config_type = GRUNFConfig
    config: GRUNFConfig
    presets: ClassVar = PRESETS
    cholesky: Tensor

    def __init__(self, motion_dim: int, config: GRUNFConfig) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, config.normalization)
        self.features = MotionFeatures(motion_dim, config.channels, config.identity)
        between = config.dropout if config.layers > 1 else 0.0
        self.gru = nn.GRU(self.features.size, config.hidden, config.layers, batch_first=True, dropout=between)
        self.flow = RealNVP(motion_dim, config.hidden, config.flow)
        self.damping = nn.Parameter(torch.full((motion_dim,), _DAMPING)) if config.variable == "residual" else None
        self.head: nn.Module | None = None
        if self.features.shared:
            self.head = mlp(config.hidden, config.hidden, 2, config.dropout, near_zero=True)
            self.log_scale = nn.Parameter(torch.zeros(motion_dim))
            self.log_tail = nn.Parameter(torch.full((motion_dim,), math.log(1.5)))
            self.register_buffer("cholesky", torch.eye(motion_dim))

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D); with shared channels, scale and correlation of v too."""
        observed = self._split(windows, observed)
        self.normalizer.fit(windows)
        if self.head is not None:
            self._fit_marginal(windows, observed)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood per number of motion, in units of the window (B, T, D).

        Over all frames if units are the training set's, as published; over the later ones if a window is measured by
        its observed frames, which have no density in units derived from themselves.
        """
        observed = self._split(batch, observed)
        units = self.normalizer(batch[:, :observed])
        first = 0 if self._whole_windows else 1 if self.config.normalization == "training" else observed
        following = self.next_frames(units, batch, first)
        nll = -following.log_prob_in_units(batch[:, first:].flatten(0, 1)).mean() / self.motion_dim
        return nll, {"nll": nll.detach()}

    def log_prob(self, windows: Tensor, observed: int | None = None) -> Tensor:
        """Return log p(x_{N+1}, ..., x_T | x_1, ..., x_N) of windows (B, T, D), raw units: (B,). Default: N = T/2.

        N may be 0 (the density of whole windows) where positions in training units are modelled, as published. Exact in
        evaluation mode; in training dropout and batch statistics are what they are in `loss`.

        Raises:
            KinecastError: wrong shape, N of T or more, or 0 where the first frame has no density.
        """
        if observed == 0 and not self._whole_windows:
            raise KinecastError(
                f"{self.name}: expected at least 1 observed frame, found 0: only positions in training units have a "
                "density from the first frame on (variable=position, normalization=training)"
            )
        observed = 0 if observed == 0 else self._split(windows, observed)
        following = self.next_frames(self.normalizer(windows[:, :observed]), windows, observed)
        return following.log_prob(windows[:, observed:].flatten(0, 1)).view(len(windows), -1).sum(dim=1)

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        return self.trajectories(observed, horizon, samples, generator, lambda flow, noise: flow.image(noise))

    def trajectories(
        self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator, invert: Inversion
    ) -> Tensor:
        """Draw (S, B, H, D) by ancestral sampling, all S x B rows at once: each has its own state, noise and frames.

        `invert` takes noise through the flow: its inverse, or its inverse with refinement between the layers.
        """
        units = self.normalizer(observed)
        increments = _increments(units, observed)
        _, state = self._read(units, observed, increments)  # (layers, B C, K)
        state = state.view(self.config.layers, len(observed), -1).repeat(1, samples, 1)
        states = list(state.view(self.config.layers, -1, self.config.hidden))
        units = units.repeat(samples)
        frame, increment = observed[:, -1].repeat(samples, 1), increments[:, -1].repeat(samples, 1)
        window, fold, weights = self.features.unchanging(units, len(frame)), self.flow.fold(), self.gru.all_weights
        frames = []
        for t in range(horizon):
            top = states[-1].view(len(frame), self.features.channels, -1)
            following = self.next_frame(Before(units, frame, increment), top, fold)
            noise = torch.randn(frame.shape, generator=generator, device=frame.device, dtype=frame.dtype)
            drawn = following.frame_of(invert(following.flow, noise))
            increment, frame = (drawn - frame) / units.step[:, 0], drawn
            frames.append(frame)
            if t + 1 < horizon:
                inputs = self.features(window, frame, increment).flatten(0, 1)
                for layer, of_layer in enumerate(weights):  # the GRU's step for one frame, without its checks
                    inputs = states[layer] = torch.gru_cell(inputs, states[layer], *of_layer)
        return torch.stack(frames, dim=1).view(samples, len(observed), horizon, self.motion_dim)

    def next_frames(self, units: Units, windows: Tensor, first: int) -> NextFrame:
        """Return p(x_t | x_{<t}) of frames `first` to T-1 of windows (B, T, D), true frames read: B (T-first) rows."""
        increments = _increments(units, windows)
        states, _ = self._read(units, windows[:, :-1], increments[:, :-1])  # (B, T-1, C, K): state t-1 has read x_{<t}
        initial = states.new_zeros(len(windows), 1, *states.shape[2:])
        states = torch.cat([initial, states], dim=1)[:, first:].flatten(0, 1)
        at = [max(0, t - 1) for t in range(first, windows.shape[1])]  # frame 0 has no context, and uses none
        before = Before(_per_frame(units, len(at)), windows[:, at].flatten(0, 1), increments[:, at].flatten(0, 1))
        return self.next_frame(before, states)

    def next_frame(self, before: Before, states: Tensor, fold: FoldedInverse | None = None) -> NextFrame:
        """Return p(x_t | x_{<t}) of R rows, whose top states (R, C, K) have read all frames before it.

        `fold` is the flow's, if it is only to be drawn from.
        """
        units = before.units
        if self.damping is None:
            shift, scale = units.shift[:, 0], units.scale[:, 0]
        else:
            scale = units.step[:, 0]
            shift = before.frame + scale * self.damping * before.increment
        shift, scale = shift.expand_as(before.frame), scale.expand_as(before.frame)
        if self.head is None:
            return NextFrame(self.flow(states[:, 0], fold), shift, scale, None)
        mean, log_scale = self.features.split(self.head(states), 2)
        marginal = MarginalShape(mean, (self.log_scale + log_scale).clamp(*_LOG_SCALE), self._tail, self.cholesky)
        return NextFrame(self.flow(states.mean(dim=1), fold), shift, scale, marginal)

    @property
    def _tail(self) -> Tensor:
        return self.log_tail.exp().clamp(*_TAIL)

    @property
    def _whole_windows(self) -> bool:
        return self.config.normalization == "training" and self.config.variable == "position"

    def _read(self, units: Units, frames: Tensor, increments: Tensor) -> tuple[Tensor, Tensor]:
        """Read frames (B, T, D) in one call: the top states after each (B, T, C, K), the last ones (layers, B C, K)."""
        batch, count = frames.shape[:2]
        if count == 0:
            state = frames.new_zeros(self.config.layers, batch * self.features.channels, self.config.hidden)
            return frames.new_zeros(batch, 0, self.features.channels, self.config.hidden), state
        window = self.features.unchanging(units, batch)
        inputs = self.features(window, frames.transpose(0, 1), increments.transpose(0, 1))  # (T, B, C, F)
        states, last = self.gru(inputs.flatten(1, 2).transpose(0, 1))
        return states.view(batch, self.features.channels, count, -1).transpose(1, 2), last

    @torch.no_grad()
    def _fit_marginal(self, windows: Tensor, observed: int) -> None:
        """Set the scales, and the correlation of v's residuals after scales and tails, over frames after the N-th."""
        units = self.normalizer(windows[:, :observed])
        if self.damping is None:
            v = (windows[:, observed:] - units.shift) / units.scale
        else:
            increments = _increments(units, windows)
            v = increments[:, observed:] - self.damping * increments[:, observed - 1 : -1]
        v = v.flatten(0, 1)
        spread = v.abs().mean(dim=0).clamp_min(math.exp(_LOG_SCALE[0]))
        self.log_scale.copy_(spread.log())
        e, _ = _lighter((v / spread).clamp(-_JUMP, _JUMP), self._tail)
        power = e.square().mean(dim=0).clamp_min(1e-6).sqrt()
        e = e / power
        correlation = (1 - _SHRINKAGE) * (e.T @ e / len(e)) + _SHRINKAGE * torch.eye(self.motion_dim)
        correlation.fill_diagonal_(1.0)
        self.cholesky.copy_(torch.linalg.cholesky(correlation))


def _lighter(r: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
    """Return sinh(asinh(r) / a) and the log of its slope, each (R, D)."""
    scaled = torch.asinh(r) / tail
    return torch.sinh(scaled), torch.log(torch.cosh(scaled)) - tail.log() - 0.5 * torch.log1p(r.square())


def _increments(units: Units, frames: Tensor) -> Tensor:
    """Return (B, T, D), in steps: the first frame's is not known, and 0."""
    return torch.cat([torch.zeros_like(frames[:, :1]), frames.diff(dim=1) / units.step], dim=1)


def _per_frame(units: Units, count: int) -> Units:
    """Return the units of (B T) rows, time innermost."""
    return Units(*(t.repeat_interleave(count, dim=0) if len(t) > 1 else t for t in units))
