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
from functools import cached_property

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.forecasting.flows.folding import FoldedInverse
from kinecast.forecasting.flows.layers import (
    Condition,
    Coupling,
    FlowLayer,
    InvertibleBatchNorm,
    RealNVPConfig,
    passing_masks,
)

_LOG_2PI = math.log(2 * math.pi)
_FOLDED = 128  # hidden units: with more the products dominate, and a second copy of the weights is large


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

    def forward(self, h: Tensor | None = None, fold: FoldedInverse | None = None) -> "FlowDistribution":
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

    def fold(self) -> FoldedInverse | None:
        """Return the inverse with the current weights, combined for small steps; None if too large.

        For evaluation: it has no dropout, and no gradient reaches the weights.
        """
        foldable = self.context > 0 and self.dim > 1 and self.config.hidden <= _FOLDED
        if not foldable:
            return None
        return FoldedInverse([layer for layer in self.layers if isinstance(layer, FlowLayer)], self.dim)


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
