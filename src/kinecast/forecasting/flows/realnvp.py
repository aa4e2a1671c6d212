"""Conditional RealNVP: a density of vectors given a vector, with an exact likelihood and one-pass sampling.

Layers f_1 ... f_L, numbered from the base outwards; z = f_1(f_2(... f_L(x))), z ~ N(0, I). One layer is

    coupling    z_a = x_a,  z_b = (x_b - t(x_a, h)) exp(-log s(x_a, h)),  log s = tanh(net)      Dinh et al. 2016
    batch norm  z = exp(g) (z - mean) / sqrt(var + eps) + b, but not behind f_1                  ibid., section 3.7
    log p(x) = log N(z; 0, I) + sum of log |det df_i|                                            change of variables

s is a tanh net and t a ReLU net of concat(x_a, h), as in Rasul et al., arXiv 2002.06103, which conditions a flow on a
recurrent state h. The split into x_a and x_b alternates from layer to layer. The module never stores h: `flow(h)` is a
distribution, a value. With D = 1 there is no x_a, and each layer is affine in x given h.

Sampling one row takes many small operations, whose calls cost more than their arithmetic. `RealNVP.fold` combines the
weights: both nets of a layer become one batched product, and every constant is computed once.

Notation: R rows, D numbers, K numbers of the condition, L layers.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError

Mask = Literal["alternating", "halves"]
MASKS: tuple[str, ...] = ("alternating", "halves")

_MOMENTUM = 0.1
_EPS = 1e-5  # of a variance, in a space where it is about 1
_LOG_2PI = math.log(2 * math.pi)
_FOLDED = 128  # hidden units: with more the products dominate, and a second copy of the weights is large

Condition = tuple[Tensor | None, Tensor | None]  # the two nets' terms of h in a coupling


@dataclass(frozen=True)
class RealNVPConfig:
    """Sizes: `blocks` layers f_i, whose nets have `layers` linear layers of `hidden` units.

    `mask` selects the numbers that pass a layer unchanged: every second one, or the first half, alternating by layer.
    """

    blocks: int = 4
    hidden: int = 32
    layers: int = 3
    batch_norm: bool = True
    mask: Mask = "alternating"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("blocks", 1), ("hidden", 1), ("layers", 2)):
            if getattr(self, name) < least:
                raise KinecastError(f"RealNVP: expected {name} of at least {least}, found {getattr(self, name)}")
        if self.mask not in MASKS:
            raise KinecastError(f"RealNVP: expected mask one of {', '.join(MASKS)}, found {self.mask!r}")
        if not 0 <= self.dropout < 1:
            raise KinecastError(f"RealNVP: expected dropout in [0, 1), found {self.dropout}")


def passing_masks(dim: int, blocks: int, kind: Mask) -> list[Tensor]:
    """Return for each layer which of the D numbers pass it unchanged: booleans (D,), opposite from layer to layer.

    A single number never passes, since the layer would then do nothing.
    """
    place = torch.arange(dim)
    first = place % 2 == 0 if kind == "alternating" else place < (dim + 1) // 2
    return [torch.zeros(1, dtype=torch.bool) if dim == 1 else first ^ bool(i % 2) for i in range(blocks)]


class _Net(nn.Module):
    """A net of concat(x_a, h). Its first layer is in two halves, so that h is read once however often x changes."""

    def __init__(self, sizes: tuple[int, int, int], config: RealNVPConfig, activation: type[nn.Module]) -> None:
        super().__init__()
        inputs, context, outputs = sizes
        hidden = config.hidden
        self.of_context = nn.Linear(context, hidden) if context else None
        self.of_input = nn.Linear(inputs, hidden, bias=not context) if inputs else None
        parts: list[nn.Module] = []
        for _ in range(config.layers - 2):
            parts += [activation(), nn.Dropout(config.dropout), nn.Linear(hidden, hidden)]
        last = nn.Linear(hidden, outputs)
        with (
            torch.no_grad()
        ):  # the flow starts near the identity, but not on it, so that gradients reach earlier layers
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.rest = nn.Sequential(*parts, activation(), nn.Dropout(config.dropout), last)

    def forward(self, passed: Tensor, condition: Tensor | None) -> Tensor:
        """Return (R, outputs) of x_a (R, inputs) and `of_context(h)` (R, hidden)."""
        if self.of_input is None:
            assert condition is not None
            return self.rest(condition)
        first = self.of_input(passed)
        return self.rest(first if condition is None else first + condition)


class Coupling(nn.Module):
    """The affine coupling for any mask: `passing` (D,) marks the numbers of x_a."""

    passed: Tensor
    changed: Tensor

    def __init__(self, passing: Tensor, context: int, config: RealNVPConfig) -> None:
        super().__init__()
        self.register_buffer("passed", passing.nonzero()[:, 0], persistent=False)
        self.register_buffer("changed", (~passing).nonzero()[:, 0], persistent=False)
        if len(self.changed) == 0:
            raise KinecastError("RealNVP: expected a mask that leaves some number to change, found one that passes all")
        if len(self.passed) == 0 and context == 0:
            raise KinecastError(
                f"RealNVP: expected a condition where no number passes (D = {len(passing)}), found none: the layer "
                "would depend on nothing"
            )
        sizes = (len(self.passed), context, len(self.changed))
        self.log_scale_net = _Net(sizes, config, nn.Tanh)
        self.shift_net = _Net(sizes, config, nn.ReLU)

    def condition(self, h: Tensor | None) -> Condition:
        """Return the two nets' terms of h (R, K), which are the same for any x."""
        nets = (self.log_scale_net, self.shift_net)
        log_scale, shift = (None if h is None or net.of_context is None else net.of_context(h) for net in nets)
        return log_scale, shift

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return z (R, D) and log |det dz/dx| (R,)."""
        log_scale, shift = self._scale_and_shift(x, condition)
        changed = (x.index_select(1, self.changed) - shift) * torch.exp(-log_scale)
        return x.index_copy(1, self.changed, changed), -log_scale.sum(dim=1)

    def inverse(self, z: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return x (R, D) and log |det dx/dz| (R,)."""
        log_scale, shift = self._scale_and_shift(z, condition)
        changed = z.index_select(1, self.changed) * torch.exp(log_scale) + shift
        return z.index_copy(1, self.changed, changed), log_scale.sum(dim=1)

    def inverse_of_zero(self, z: Tensor, condition: Condition) -> Tensor:
        """Return `inverse` of z = 0 (R, D) alone, for which the scale, and so one of the two nets, is not needed."""
        return z.index_copy(1, self.changed, self.shift_net(z.index_select(1, self.passed), condition[1]))

    def _scale_and_shift(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        passed = x.index_select(1, self.passed)
        return torch.tanh(self.log_scale_net(passed, condition[0])), self.shift_net(passed, condition[1])


class InvertibleBatchNorm(nn.Module):
    """Batch normalisation as a layer of a flow, with its exact log-determinant.

    In training the density direction uses the batch's statistics; evaluation, and sampling always, the running ones.
    These are parameters without gradient, not buffers, so that a moving average of the parameters averages them too.
    Averaged weights with the statistics of other weights would be another density.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.log_gain = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.running_mean = nn.Parameter(torch.zeros(dim), requires_grad=False)
        self.running_variance = nn.Parameter(torch.ones(dim), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (R, D) and log |det dz/dx| (R,), the same for each row."""
        if self.training:
            if len(x) < 2:
                raise KinecastError("RealNVP: expected at least 2 rows to train batch normalisation, found 1")
            mean, variance = x.mean(dim=0), x.var(dim=0, correction=0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, _MOMENTUM)
                self.running_variance.lerp_(variance * len(x) / (len(x) - 1), _MOMENTUM)
        else:
            mean, variance = self.running_mean, self.running_variance
        log_factor = self.log_gain - 0.5 * torch.log(variance + _EPS)
        return (x - mean) * log_factor.exp() + self.bias, log_factor.sum().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (R, D) and log |det dx/dz| (R,), by the running statistics."""
        log_factor, mean = self._inverse()
        return (z - self.bias) * log_factor.exp() + mean, log_factor.sum().expand(len(z))

    def as_affine(self) -> tuple[Tensor, Tensor]:
        """Return factor and shift (D,) of `inverse`: x = factor z + shift."""
        log_factor, mean = self._inverse()
        factor = log_factor.exp()
        return factor, mean - factor * self.bias

    def _inverse(self) -> tuple[Tensor, Tensor]:
        mean, variance = self.running_mean.clone(), self.running_variance.clone()  # a later batch changes them in place
        return 0.5 * torch.log(variance + _EPS) - self.log_gain, mean


class FlowLayer(nn.Module):
    """One f_i: a coupling, then a batch normalisation where there is one."""

    def __init__(self, coupling: Coupling, batch_norm: InvertibleBatchNorm | None) -> None:
        super().__init__()
        self.coupling = coupling
        self.batch_norm = batch_norm

    def forward(self, x: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return f_i(x) (R, D) and its log-determinant (R,)."""
        z, log_det = self.coupling(x, condition)
        if self.batch_norm is None:
            return z, log_det
        z, more = self.batch_norm(z)
        return z, log_det + more

    def inverse(self, z: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return f_i^{-1}(z) (R, D) and its log-determinant (R,)."""
        if self.batch_norm is None:
            return self.coupling.inverse(z, condition)
        z, more = self.batch_norm.inverse(z)
        x, log_det = self.coupling.inverse(z, condition)
        return x, log_det + more


class RealNVP(nn.Module):
    """The weights of the flow; `flow(h)` is the distribution given h (R, K), `flow()` the one of a flow with K = 0."""

    def __init__(self, dim: int, context: int, config: RealNVPConfig) -> None:
        super().__init__()
        if dim < 1 or context < 0:
            raise KinecastError(
                f"RealNVP: expected D of at least 1 and a condition of at least 0, found {dim}, {context}"
            )
        self.dim = dim
        self.context = context
        self.config = config
        self.layers = nn.ModuleList()
        for i, passing in enumerate(passing_masks(dim, config.blocks, config.mask)):
            normalised = config.batch_norm and i > 0
            self.layers.append(
                FlowLayer(Coupling(passing, context, config), InvertibleBatchNorm(dim) if normalised else None)
            )

    def forward(self, h: Tensor | None = None, fold: "FoldedInverse | None" = None) -> "FlowDistribution":
        """Return the distribution of x given h (R, K), each row its own; without a condition for any number of rows.

        `fold`, if given, is used by `image`; it must be of the same weights.

        Raises:
            KinecastError: h is missing, unexpected, or of another size.
        """
        found = None if h is None else tuple(h.shape)
        expected = f"(R, {self.context})" if self.context else "None"
        if (h is None) != (self.context == 0) or (h is not None and (h.ndim != 2 or h.shape[1] != self.context)):
            raise KinecastError(f"RealNVP: expected a condition {expected}, found {found}")
        return FlowDistribution(self, h, fold)

    def fold(self) -> "FoldedInverse | None":
        """Return the inverse with the current weights, combined for small steps; None if too large.

        For evaluation: it has no dropout, and no gradient reaches the weights.
        """
        foldable = self.context > 0 and self.dim > 1 and self.config.hidden <= _FOLDED
        return FoldedInverse(self) if foldable else None


class _FoldedLayer(NamedTuple):
    """One layer f_i^{-1}: both nets as batched weights (2, in, out), log s first; zeros where a number passes."""

    factor: Tensor | None  # of the batch normalisation, as its shift (D,)
    shift: Tensor | None
    first: Tensor  # of all D numbers, and without a bias, which the condition has
    rest: list[tuple[Tensor, Tensor]]  # weights, and biases (2, 1, out)

    def __call__(self, y: Tensor, condition: Tensor) -> Tensor:
        """Return f_i^{-1}(y) (R, D), the nets' condition given (2, R, hidden)."""
        if self.factor is not None and self.shift is not None:
            y = torch.addcmul(self.shift, y, self.factor)
        nets = torch.baddbmm(condition, y.expand(2, -1, -1), self.first)
        for weight, bias in self.rest:
            nets[0].tanh_()
            nets[1].relu_()
            nets = torch.baddbmm(bias, nets, weight)
        log_scale, shift = nets.unbind(0)
        return torch.addcmul(shift, y, log_scale.tanh_().exp_())  # of a number that passes: y exp(0) + 0


class FoldedInverse:
    """f^{-1} of a conditional flow, layer by layer, with few operations. A value of the weights it was made from."""

    @torch.no_grad()
    def __init__(self, flow: RealNVP) -> None:
        layers = [layer for layer in flow.layers if isinstance(layer, FlowLayer)]
        nets = [net for layer in layers for net in (layer.coupling.log_scale_net, layer.coupling.shift_net)]
        of_context = [net.of_context for net in nets if net.of_context is not None]
        self._context = torch.stack([part.weight.T for part in of_context])  # (2L, K, hidden)
        self._bias = torch.stack([part.bias for part in of_context]).unsqueeze(1)
        self._layers = [_folded(layer, flow.dim) for layer in layers]

    def conditions(self, h: Tensor) -> tuple[Tensor, ...]:
        """Return the nets' first-layer terms of h (R, K): (2, R, hidden) for each layer."""
        both = torch.baddbmm(self._bias, h.expand(len(self._context), -1, -1), self._context)
        return both.unflatten(0, (-1, 2)).unbind(0)

    def __call__(self, layer: int, y: Tensor, condition: Tensor) -> Tensor:
        """Return f_{layer+1}^{-1}(y) (R, D)."""
        return self._layers[layer](y, condition)


def _folded(layer: FlowLayer, dim: int) -> _FoldedLayer:
    coupling = layer.coupling
    nets = (coupling.log_scale_net, coupling.shift_net)
    inputs = [net.of_input.weight.T for net in nets if net.of_input is not None]
    first = inputs[0].new_zeros(2, dim, inputs[0].shape[1])
    first[:, coupling.passed] = torch.stack(inputs)
    pairs = zip(*([part for part in net.rest if isinstance(part, nn.Linear)] for net in nets), strict=True)
    rest = [
        (torch.stack([one.weight.T for one in pair]), torch.stack([one.bias for one in pair]).unsqueeze(1))
        for pair in pairs
    ]
    weight, bias = rest[-1]
    all_weight, all_bias = weight.new_zeros(2, weight.shape[1], dim), bias.new_zeros(2, 1, dim)
    all_weight[..., coupling.changed], all_bias[..., coupling.changed] = weight, bias
    rest[-1] = (all_weight, all_bias)
    factor, shift = (None, None) if layer.batch_norm is None else layer.batch_norm.as_affine()
    return _FoldedLayer(factor, shift, first, rest)


class FlowDistribution:
    """p(x | h) of R rows: a value. The nets' first-layer terms of h are computed once."""

    def __init__(self, flow: RealNVP, h: Tensor | None, fold: FoldedInverse | None = None) -> None:
        self.flow = flow
        self.h = h
        self._fold = fold

    @cached_property
    def conditions(self) -> list[Condition]:
        """Each layer's terms of h."""
        return [layer.coupling.condition(self.h) for layer in self._layers]

    @cached_property
    def _folded_conditions(self) -> tuple[Tensor, ...]:
        assert self._fold is not None and self.h is not None
        return self._fold.conditions(self.h)

    @property
    def num_layers(self) -> int:
        """L."""
        return len(self.flow.layers)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x | h) of x (R, D): (R,)."""
        return self.log_prob_at(self.num_layers, x)

    def log_prob_at(self, layer: int, y: Tensor) -> Tensor:
        """Return the log density (R,) at y (R, D) of f_i^{-1}(... f_1^{-1}(z)), z ~ N(0, I), i = `layer`; 0: of z."""
        z, log_det = self._to_base(layer, y)
        return log_det - 0.5 * (z.square().sum(dim=1) + self.flow.dim * _LOG_2PI)

    def to_base(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (R, D) = f_1(... f_L(x)) and log |det dz/dx| (R,)."""
        return self._to_base(self.num_layers, x)

    def from_base(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (R, D) of z, the inverse of `to_base`, and log |det dx/dz| (R,)."""
        total = z.new_zeros(len(z))
        for layer in range(self.num_layers):
            z, log_det = self.inverse(layer, z)
            total = total + log_det
        return z, total

    def from_zero(self) -> Tensor:
        """Return x (R, D) of z = 0."""
        like = next(self.flow.parameters())
        zero = like.new_zeros(1 if self.h is None else len(self.h), self.flow.dim)
        if self._fold is not None:
            return self.image(zero)
        first = self._layers[0].coupling  # f_1 has no batch normalisation
        x = first.inverse_of_zero(zero, self.conditions[0])
        for layer in range(1, self.num_layers):
            x, _ = self.inverse(layer, x)
        return x

    def image(self, z: Tensor) -> Tensor:
        """Return x (R, D) of z: `from_base` without the log-determinant."""
        for layer in range(self.num_layers):
            z = self.layer_image(layer, z)
        return z

    def layer_image(self, layer: int, y: Tensor) -> Tensor:
        """Return the result of `inverse` without the log-determinant, by the fold if there is one."""
        if self._fold is None:
            return self.inverse(layer, y)[0]
        return self._fold(layer, y, self._folded_conditions[layer])

    def inverse(self, layer: int, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return f_{layer+1}^{-1}(y) (R, D), layers counted from 0 at the base, and its log-determinant (R,)."""
        return self._layers[layer].inverse(y, self.conditions[layer])

    def rsample(self, rows: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw per row, (R, D), differentiably. `rows` is R if there is no condition."""
        like = next(self.flow.parameters())
        count = rows if self.h is None else len(self.h)
        if count is None or (rows is not None and rows != count):
            raise KinecastError(f"RealNVP: expected rows {'to draw' if count is None else count}, found {rows}")
        noise = torch.randn(count, self.flow.dim, generator=generator, device=like.device, dtype=like.dtype)
        return self.from_base(noise)[0]

    def sample(self, rows: int | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Return one draw per row, (R, D)."""
        with torch.no_grad():
            return self.rsample(rows, generator)

    @property
    def _layers(self) -> list[FlowLayer]:
        return list(self.flow.layers)  # type: ignore[arg-type]

    def _to_base(self, layer: int, y: Tensor) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(len(y))
        for i in reversed(range(layer)):
            y, log_det = self._layers[i](y, self.conditions[i])
            total = total + log_det
        return y, total
