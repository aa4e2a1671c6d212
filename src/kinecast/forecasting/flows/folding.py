"""The inverse of a conditional RealNVP with its weights combined, for sampling in few operations.

Both nets of a layer become one batched product, and every constant is computed once.

Notation: R rows, D numbers, K numbers of the condition h, L layers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kinecast.forecasting.flows.layers import FlowLayer


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
    def __init__(self, layers: Sequence[FlowLayer], dim: int) -> None:
        nets = [net for layer in layers for net in (layer.coupling.log_scale_net, layer.coupling.shift_net)]
        of_context = [net.of_context for net in nets if net.of_context is not None]
        self._context = torch.stack([part.weight.T for part in of_context])  # (2L, K, hidden)
        self._bias = torch.stack([part.bias for part in of_context]).unsqueeze(1)
        self._layers = [_folded(layer, dim) for layer in layers]

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
