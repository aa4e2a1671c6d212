"""What a mesh backbone offers to the engines: the motion net and the render net, folded; all geometry is its own.

A convolution over two inputs put one after the other is the sum of one over each, so nothing is copied together: the
second convolution adds the first one's result. Of the render net, the half of a join that reads the source's warped
maps is a 1x1 convolution, which comes to the same before the warping as after it: it is done once a source.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.faces.landmarker import Landmarker
from kinecast.models.mesh.drawing import Drawing
from kinecast.models.mesh.model import Mesh
from kinecast.models.mesh.network import MeshNetwork, MotionNet, RenderNet, SourceMaps, resize
from kinecast.runtime.folded import FoldedUpJoin, Size, Style, fold_norm, halved, tensors_of
from kinecast.runtime.offers import Engined, Offer, Part
from kinecast.runtime.warping import warp_features


def _folded(block: nn.Sequential, size: Size, style: Style, relu: bool = True) -> nn.Module:
    """Fold a convolution and the normalisation after it, in a block of `kinecast.models.mesh.network`."""
    conv, norm = block[0], block[1]
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    padding, stride = int(conv.padding[0]), int(conv.stride[0])
    return style.convolution(*fold_norm(conv, norm), padding, size, stride=stride, relu=relu)


class _Residual(nn.Module):
    def __init__(self, body: nn.Sequential, size: Size, style: Style) -> None:
        super().__init__()
        first = body[0]
        assert isinstance(first, nn.Sequential)
        self.first, self.second = _folded(first, size, style), _folded(nn.Sequential(body[1], body[2]), size, style)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x), x)


class FoldedMotionNet(nn.Module):
    """`MotionNet`."""

    def __init__(self, net: MotionNet, size: Size, style: Style) -> None:
        super().__init__()
        self.style, self.layers = style, net.last.out_channels - 2
        down: list[Any] = list(net.down)
        up: list[Any] = list(net.up)
        self.first = _folded(net.first, size, style)
        self.down, sizes = nn.ModuleList(), [size]
        for block in down:
            self.down.append(_folded(block, sizes[-1], style))
            sizes.append(halved(sizes[-1]))
        self.middle = _Residual(net.middle.body, sizes[-1], style)
        self.up = nn.ModuleList(
            FoldedUpJoin(block[0], block[1], small, style) for block, small in zip(up, sizes[1:], strict=True)
        )
        self.last = style.convolution(*tensors_of(net.last), 1, size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map what `MotionNet` takes to what it returns."""
        maps = [self.first(self.style.input(x))]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        x = self.middle(maps.pop())
        for layer, skip in zip(reversed(self.up), reversed(maps), strict=True):
            x = layer(x, skip)
        x = self.last(x).float()
        return x[:, : self.layers], x[:, self.layers :] * 0.1


class FoldedRenderNet(nn.Module):
    """`RenderNet`, which takes the source's maps as `join_sources` leaves them, warped."""

    def __init__(self, net: RenderNet, size: Size, style: Style) -> None:
        super().__init__()
        self.style = style
        down: list[Any] = list(net.down)
        join: list[Any] = list(net.join)
        up: list[Any] = list(net.up)
        middle: list[Any] = list(net.middle)
        refine: list[Any] = list(net.refine)
        self.first = _folded(net.first, size, style)
        self.down, self.join, sizes = nn.ModuleList(), nn.ModuleList(), [size]
        for block, joint in zip(down, join, strict=True):
            self.down.append(_folded(block, sizes[-1], style))
            sizes.append(halved(sizes[-1]))
            weight, _ = fold_norm(joint[0], joint[1])
            self.join.append(style.convolution(weight[:, : weight.shape[1] // 2], None, 0, sizes[-1], relu=True))
        self.middle = nn.Sequential(*(_Residual(block.body, sizes[-1], style) for block in middle))
        self.up = nn.ModuleList(
            FoldedUpJoin(block[0], block[1], small, style) for block, small in zip(up, sizes[1:], strict=True)
        )
        self.refine = nn.Sequential(*(_Residual(block.body, size, style) for block in refine))
        self.last = style.convolution(*tensors_of(net.last), 1, size)
        self.light = style.convolution(*tensors_of(net.light), 1, halved(size))

    def forward(self, x: Tensor, *warped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map what is known (B, C, n/2, n/2) and warped joins to new pixels, their mask and a change of light."""
        maps = [self.first(self.style.input(x))]
        for layer, join, source in zip(self.down, self.join, warped, strict=True):
            maps.append(join(layer(maps[-1]), self.style.input(source)))
        x = self.middle(maps.pop())
        for i, layer in reversed(list(enumerate(self.up))):
            if i == 0:
                light = self.light(x).float().tanh() / 2
            x = layer(x, maps[i])
        out = F.pixel_shuffle(self.last(self.refine(x)).float(), 2)
        return out[:, :3].sigmoid(), (out[:, 3:] - 1).sigmoid(), light


class _SourceJoins(nn.Module):
    """The halves of the render net's joins that read the source's maps, float32: they run once a source."""

    def __init__(self, net: RenderNet) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        join: list[Any] = list(net.join)
        for joint in join:
            weight, bias = fold_norm(joint[0], joint[1])
            self.weights.append(nn.Parameter(weight[:, weight.shape[1] // 2 :].clone(), requires_grad=False))
            self.biases.append(nn.Parameter(bias.clone(), requires_grad=False))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        joined = (F.conv2d(m, w, b) for m, w, b in zip(maps, self.weights, self.biases, strict=True))
        return [each.contiguous(memory_format=torch.channels_last) for each in joined]


class EngineNetwork(MeshNetwork):
    """A mesh's network whose motion net and render net an engine runs. The source's encoder is the model's own."""

    def __init__(self, network: MeshNetwork, parts: Mapping[str, nn.Module]) -> None:
        nn.Module.__init__(self)
        self.config, self.encoder = network.config, network.encoder
        self.motion, self.render = parts["motion"], parts["render"]  # type: ignore[assignment]
        self.joins = _SourceJoins(network.render)

    def encode(self, picture: Tensor, drawing: Drawing) -> SourceMaps:
        """Encode a source as `MeshNetwork` does, and make its halves of the render net's joins."""
        source = super().encode(picture, drawing)
        return replace(source, joined=self.joins(source.maps))

    def warped(self, source: SourceMaps, flow: Tensor) -> list[Tensor]:
        """Return the source's halves of the render net's joins, read at flows (B, 2, n/2, n/2)."""
        joined = self.joins(source.maps) if source.joined is None else source.joined
        return [warp_features(each, resize(flow, each.shape[-1]), border=True) for each in joined]


class EngineMesh(Engined, Mesh):
    """A mesh backbone whose convolutions an engine runs."""

    def __init__(self, model: Mesh, parts: Mapping[str, nn.Module]) -> None:
        super().__init__(model)
        self.network = EngineNetwork(model.network, parts)

    @property
    def landmarker(self) -> Landmarker:
        """The model's: no engine has one of its own."""
        return self.model.landmarker


def folded_parts(model: Mesh, precision: str, native: bool) -> dict[str, nn.Module]:
    """Fold both parts.

    Args:
        model: stays as it is.
        precision: "exact" is float32 throughout; "bf16" takes bfloat16 convolutions.
        native: by torch's own packed kernels; off for export.
    """
    style = Style(torch.bfloat16 if precision == "bf16" else torch.float32, native)
    size = model.config.size
    return {
        "motion": FoldedMotionNet(model.network.motion, (size // 4, size // 4), style).eval(),
        "render": FoldedRenderNet(model.network.render, (size // 2, size // 2), style).eval(),
    }


def example_inputs(model: Mesh) -> dict[str, dict[str, Tensor]]:
    """Return zeros of the shapes that the parts take."""
    size, network = model.config.size, model.network

    def known(first: nn.Sequential, step: int) -> Tensor:
        conv = first[0]
        assert isinstance(conv, nn.Conv2d)
        return torch.zeros(1, conv.in_channels, size // step, size // step)

    joined = {
        f"joined{i}": torch.zeros(1, width, size >> i + 2, size >> i + 2)
        for i, width in enumerate(model.config.render_widths[1:])
    }
    return {
        "motion": {"known": known(network.motion.first, 4)},
        "render": {"known": known(network.render.first, 2), **joined},
    }


OFFER = Offer(
    parts={
        "motion": Part(outputs=("logits", "correction")),
        "render": Part(outputs=("pixels", "mask", "light")),
    },
    fold=folded_parts,
    examples=example_inputs,
    run=EngineMesh,
    quantised="render",
    full=(r".*/last[./].*Convolution", r".*last/.*onvolution.*"),
    full_types=("Add",),
)
