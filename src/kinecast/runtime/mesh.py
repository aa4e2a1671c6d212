"""The `fast` engine of the mesh backbone: folded and packed convolutions; all geometry stays float32."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.models.mesh.model import Mesh
from kinecast.models.mesh.network import MeshNetwork
from kinecast.runtime.convolution import Convolution
from kinecast.runtime.folded import fold_norm, tensors_of

Sizes = dict[nn.Module, tuple[int, int]]


class FastMesh(Mesh):
    """A mesh backbone whose convolutions an engine runs. Weights, and so `state_dict`, are those of the model."""

    def __init__(self, model: Mesh, precision: str, reason: str = "requested") -> None:
        nn.Module.__init__(self)
        self.config, self.frame_size = model.config, model.frame_size
        self.topology, self.expression = model.topology, model.expression
        self.model = model
        self.network = folded(model.network, torch.bfloat16 if precision == "bf16" else torch.float32)
        self._landmarker = model.landmarker
        self.engine, self.precision, self.reason = "fast", precision, reason

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the model's own tensors under their own names."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Refuse: the convolutions are made of the weights and would not follow."""
        raise KinecastError("an engine's weights are fixed: load them into the model and build the engine again")


def folded(network: MeshNetwork, dtype: torch.dtype) -> MeshNetwork:
    """Return a copy of the network whose normalisations are folded into convolutions that compute in `dtype`."""
    network = copy.deepcopy(network).eval()
    sizes = _input_sizes(network)
    _fold(network, sizes, dtype)
    for part in (network.encoder, network.motion, network.render):
        part.dtype = dtype
    return network


def _input_sizes(network: MeshNetwork) -> Sizes:
    """Return the height and width that each convolution is given: kernels are packed for them."""
    sizes: Sizes = {}

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[module] = (inputs[0].shape[2], inputs[0].shape[3])

    hooks = [m.register_forward_pre_hook(note) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.inference_mode():
        network.dry_run()
    for hook in hooks:
        hook.remove()
    return sizes


def _fold(module: nn.Module, sizes: Sizes, dtype: torch.dtype) -> None:
    if isinstance(module, nn.Sequential):
        _fold_sequence(module, sizes, dtype)
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d):
            setattr(module, name, _convolution(child, *tensors_of(child), sizes[child], dtype, relu=False))
        else:
            _fold(child, sizes, dtype)


def _fold_sequence(sequence: nn.Sequential, sizes: Sizes, dtype: torch.dtype) -> None:
    """Make one convolution of a convolution, the normalisation after it, and the ReLU after that."""
    layers = list(sequence)
    for i in range(len(layers) - 1):
        conv, norm = layers[i], layers[i + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            relu = i + 2 < len(layers) and isinstance(layers[i + 2], nn.ReLU)
            sequence[i] = _convolution(conv, *fold_norm(conv, norm), sizes[conv], dtype, relu)
            sequence[i + 1] = nn.Identity()
            if relu:
                sequence[i + 2] = nn.Identity()


def _convolution(
    conv: nn.Conv2d, weight: Tensor, bias: Tensor, size: tuple[int, int], dtype: torch.dtype, relu: bool
) -> Convolution:
    return Convolution(weight, bias, int(conv.padding[0]), int(conv.stride[0]), relu, dtype=dtype, size=size)
