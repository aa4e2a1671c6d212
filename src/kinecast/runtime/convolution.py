"""Convolutions for inference: constant weights, stored as the processor's kernels want them.

`torch.nn.Conv2d` brings its weights into oneDNN's blocked order at every call, which for the wide layers over few
pixels at the bottom of an hourglass takes longer than the convolution: packing them once makes 2048 channels at 4x4
pixels seven times as fast. The packed operators are those that torch.compile uses when weights are frozen.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def packing_available() -> bool:
    """Whether this torch has oneDNN and its packed operators."""
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name)
        for name in ("_convolution_pointwise", "_convolution_transpose_pointwise", "_reorder_convolution_weight")
    )


def bfloat16_available() -> bool:
    """Whether this processor has bfloat16 convolutions (AVX-512, or AMX, which makes them fast)."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Convolution(nn.Module):
    """A convolution, or a transposed one, and a ReLU if wanted.

    Args:
        weight: (O, I / groups, k, k), or (I, O, k, k) of a transposed convolution.
        bias: (O,), or None.
        padding: on all four sides.
        stride: in both directions.
        relu: whether a ReLU follows.
        transposed: whether it is a transposed convolution.
        dtype: of weights, input and output.
        size: height and width of the inputs to expect, for which weights are packed; other inputs are computed too.
            None leaves the weights as they are, so that the module can be exported.
        groups: of a convolution that is not transposed: of channels in and out that have no part in each other.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        padding: int,
        stride: int = 1,
        relu: bool = False,
        transposed: bool = False,
        dtype: torch.dtype = torch.float32,
        size: tuple[int, int] | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.padding, self.stride, self.relu, self.transposed = padding, stride, relu, transposed
        self.groups = groups
        self.in_channels = weight.shape[0] if transposed else weight.shape[1] * groups
        self.packed = size is not None and packing_available()
        kept = None if bias is None else nn.Parameter(bias.detach().to(dtype).clone(), requires_grad=False)
        self.register_parameter("bias", kept)
        weight = weight.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        if not self.packed:
            self.weight = nn.Parameter(weight, requires_grad=False)
            return
        shape = (1, self.in_channels, *(size or ()))
        pair = (padding, padding), (stride, stride), (1, 1)
        with torch.inference_mode():
            if transposed:
                self._weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                    weight, pair[0], (0, 0), pair[1], pair[2], 1, shape
                )
            else:
                self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *pair, groups, shape)

    def forward(self, x: Tensor, add: Tensor | None = None) -> Tensor:
        """Map (B, I, h, w) to (B, O, h', w').

        Args:
            x: channels last.
            add: (B, O, h', w'), added before the ReLU; not of a transposed convolution.
        """
        if self.packed:
            return self._run_packed(x, add)
        if self.transposed:
            out = F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding)
        else:
            out = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        out = out if add is None else out + add
        return F.relu(out) if self.relu else out

    def _run_packed(self, x: Tensor, add: Tensor | None) -> Tensor:
        padding, stride = (self.padding, self.padding), (self.stride, self.stride)
        then = "relu" if self.relu else "none"
        if self.transposed:
            return torch.ops.mkldnn._convolution_transpose_pointwise(
                x, self._weight, self.bias, padding, (0, 0), stride, (1, 1), 1, then, [], ""
            )
        shape = padding, stride, (1, 1), self.groups
        if add is None:
            return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self.bias, *shape, then, [], "")
        unary = "relu" if self.relu else None
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, add, self._weight, self.bias, *shape, "add", 1.0, unary, [], None
        )
