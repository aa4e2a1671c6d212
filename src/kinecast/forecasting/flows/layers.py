"""Layers of a conditional RealNVP: affine couplings and batch normalisation, each with its log-determinant.

Notation: R rows, D numbers, K numbers of the condition h, L layers. See `realnvp` for the equations.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError

Mask = Literal["alternating", "halves"]
MASKS: tuple[str, ...] = ("alternating", "halves")

_MOMENTUM = 0.1
_EPS = 1e-5  # of a variance, in a space where it is about 1

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
