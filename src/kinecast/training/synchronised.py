"""Batch statistics over the whole batch when each process has a slice of it.

torch's own SyncBatchNorm is for accelerators only. This one consists of two differentiable sums, so that two processes
on a CPU train the same as one, and every device runs the same code.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

_BatchNorm: Any = nn.modules.batchnorm._BatchNorm


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm with training statistics over all processes' slices, which have equal sizes."""

    @staticmethod
    def of(other: Any) -> "SynchronisedBatchNorm":
        """Return one that shares another batch norm's parameters and statistics."""
        made = SynchronisedBatchNorm(
            other.num_features, other.eps, other.momentum, other.affine, other.track_running_stats
        )
        for name in (*other._parameters, *other._buffers):
            setattr(made, name, getattr(other, name))
        return made.train(other.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        if not self.training:
            return super().forward(x)
        world = dist.get_world_size()
        others = [0, *range(2, x.ndim)]
        count = world * x.numel() // x.shape[1]
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        mean = all_reduce(wide.mean(dim=others)) / world
        shape = (1, -1) + (1,) * (x.ndim - 2)
        centred = wide - mean.view(shape)
        variance = all_reduce(centred.square().mean(dim=others)) / world
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _check_input_dim(self, x: Tensor) -> None:
        pass


def synchronise(model: nn.Module) -> None:
    """Replace every batch norm in a model, keeping its state dict's names."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, SynchronisedBatchNorm):
                setattr(parent, name, SynchronisedBatchNorm.of(child))
