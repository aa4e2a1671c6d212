"""The four parts of a FOMM that hold all its convolutions, folded. Motion algebra lies between them, in `fomm.py`.

    frame  -> detector  -> points, local frames          image -> encoder -> features
    maps   -> hourglass -> mask and occlusion logits     warped features -> renderer -> frame

Each is a module of tensors in, tensors out, so it can be exported and compiled alone. Inputs and outputs are float32;
inputs may be channels last.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.models.blocks.layers import coordinate_grid
from kinecast.models.fomm import FOMM, DenseMotionNetwork, KPDetector, OcclusionAwareGenerator, blend
from kinecast.runtime.convolution import Convolution
from kinecast.runtime.folded import (
    FoldedHourglass,
    FoldedRes,
    FoldedSame,
    FoldedUp,
    PixelHead,
    Size,
    Style,
    halved,
    tensors_of,
)


class Detector(nn.Module):
    """`KPDetector`, always float32; both heads are one convolution."""

    def __init__(self, detector: KPDetector, frame: Size, native: bool) -> None:
        super().__init__()
        style, size = Style(native=native), _reduced(frame, detector.down.stride)
        self.down = detector.down
        self.predictor = FoldedHourglass(detector.predictor, size, style)
        heads = [detector.kp] if detector.jacobian is None else [detector.kp, detector.jacobian]
        self.heads = _joined(heads, size, style)
        self.num_keypoints = detector.kp.out_channels
        self.temperature = detector.temperature

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return points (B, K, 2) and Jacobians (B, K, 2, 2), or points alone."""
        maps = self.heads(self.predictor(self.down(image)))
        grid = coordinate_grid(maps.shape[2], maps.shape[3], maps).flatten(0, 1)
        maps = maps.flatten(2)
        heatmap = F.softmax(maps[:, : self.num_keypoints] / self.temperature, dim=2)
        value = heatmap @ grid
        if maps.shape[1] == self.num_keypoints:
            return (value,)
        frames = maps[:, self.num_keypoints :].unflatten(1, (-1, 4))  # one map of frames, or one for each keypoint
        return value, (heatmap.unsqueeze(2) * frames).sum(dim=3).unflatten(2, (2, 2))


class Encoder(nn.Module):
    """The generator's encoder, float32: it runs once a source."""

    def __init__(self, generator: OcclusionAwareGenerator, frame: Size, native: bool) -> None:
        super().__init__()
        style = Style(native=native)
        self.shuffle, size = generator.shuffle, _reduced(frame, generator.shuffle)
        self.first = FoldedSame(generator.first, size, style)
        self.down, self.skips = nn.ModuleList(), nn.ModuleList()
        down: list[Any] = list(generator.down_blocks)
        skips: list[Any] = list(generator.skips)[::-1]  # finest first, as the maps come
        for i, block in enumerate(down):
            if skips:
                self.skips.append(style.convolution(*tensors_of(skips[i]), 0, size))
            self.down.append(FoldedSame(block, size, style))
            size = halved(size)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, H, W) to features (B, C, h, w), coarsest first."""
        out = self.first(F.pixel_unshuffle(image, self.shuffle) if self.shuffle > 1 else image)
        finer: list[Tensor] = []
        for i, block in enumerate(self.down):
            if len(self.skips):
                finer.insert(0, self.skips[i](out))
            out = block(out)
        return (out, *finer)


class MotionHourglass(nn.Module):
    """The network of `DenseMotionNetwork`; the hourglass may be bfloat16, the heads that make logits are float32."""

    def __init__(self, dense: DenseMotionNetwork, frame: Size, style: Style) -> None:
        super().__init__()
        self.dtype = style.dtype
        size = _reduced(frame, dense.down.stride)
        self.hourglass = FoldedHourglass(dense.hourglass, size, style)
        heads = [dense.mask] if dense.occlusion is None else [dense.mask, dense.occlusion]
        self.heads = _joined(heads, size, Style(native=style.native))
        self.candidates = dense.mask.out_channels

    def forward(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Return logits of the mask (B, K+1, h, w) and of the occlusion (B, 1, h, w), or of the mask alone."""
        logits = self.heads(self.hourglass(maps.to(self.dtype)).float())
        if logits.shape[1] == self.candidates:
            return (logits,)
        return logits[:, : self.candidates], logits[:, self.candidates :]


class Renderer(nn.Module):
    """The generator's bottleneck and decoder."""

    def __init__(self, generator: OcclusionAwareGenerator, frame: Size, style: Style) -> None:
        super().__init__()
        self.dtype = style.dtype
        up: list[Any] = list(generator.up_blocks)
        bottleneck: list[Any] = list(generator.bottleneck)
        refine: list[Any] = list(generator.refine)
        self.shuffle, self.skips = generator.shuffle, len(generator.skips) > 0
        self.pass_through = generator.pass_through
        size = _reduced(frame, self.shuffle * 2 ** len(up))
        self.bottleneck = nn.Sequential(*(FoldedRes(block, size, style) for block in bottleneck))
        self.up = nn.ModuleList()
        for block in up:
            self.up.append(FoldedUp(block, size, style))
            size = size[0] * 2, size[1] * 2
        self.refine = nn.Sequential(*(FoldedRes(block, size, style) for block in refine))
        if self.shuffle == 1:
            self.final: nn.Module = PixelHead(generator.final, size, style)
        else:
            weight, bias = tensors_of(generator.final)
            self.final = style.convolution(weight, bias, weight.shape[2] // 2, size)

    def forward(self, features: Tensor, *others: Tensor) -> Tensor:
        """Map what `OcclusionAwareGenerator.render` takes to frames (B, 3, H, W) in [0, 1]."""
        out = self.bottleneck(features)
        for i, block in enumerate(self.up):
            out = block(out.to(self.dtype))
            out = out.float() + others[i] if self.skips else out
        out = self.refine(out.float()) if len(self.refine) else out
        out = self.final(out.to(self.dtype)).float()
        out = F.pixel_shuffle(out, self.shuffle) if self.shuffle > 1 else out
        return blend(out, others[-1]) if self.pass_through else torch.sigmoid(out)


def folded_parts(model: FOMM, precision: str = "exact", native: bool = True) -> dict[str, nn.Module]:
    """Fold a model's four parts.

    Args:
        model: stays as it is.
        precision: "exact" is float32 throughout; "bf16" takes bfloat16 convolutions in hourglass and renderer.
        native: by torch's own packed kernels and Winograd's algorithm; off for export.
    """
    style = Style(torch.bfloat16 if precision == "bf16" else torch.float32, native)
    frame = model.frame_size
    return {
        "detector": Detector(model.kp_detector, frame, native).eval(),
        "encoder": Encoder(model.generator, frame, native).eval(),
        "hourglass": MotionHourglass(model.generator.dense_motion_network, frame, style).eval(),
        "renderer": Renderer(model.generator, frame, style).eval(),
    }


SKIPS = tuple(f"skip{i}" for i in range(8))  # names of those that a generator has


def example_inputs(model: FOMM) -> dict[str, dict[str, Tensor]]:
    """Return zeros of the shapes that the parts take at the size the weights were trained at."""
    height, width = model.frame_size
    config = model.config
    coarse_to_fine = config.generator.widths[::-1]
    stride = config.generator.stride
    levels = {
        name: (channels, stride >> i)
        for i, (name, channels) in enumerate(zip(("features", *SKIPS), coarse_to_fine, strict=False))
    }
    features = levels if config.generator.skips else {"features": levels["features"]}
    passed = {"source_warped": (3, 1)} if config.generator.pass_through else {}
    candidates = 4 * (config.num_keypoints + 1)
    shapes = {
        "detector": {"frame": (3, 1)},
        "encoder": {"source": (3, 1)},
        "hourglass": {"maps": (candidates, model.generator.dense_motion_network.down.stride)},
        "renderer": features | passed,
    }
    return {
        part: {name: torch.zeros(1, c, height // step, width // step) for name, (c, step) in each.items()}
        for part, each in shapes.items()
    }


def _joined(convs: list[nn.Conv2d], size: Size, style: Style) -> Convolution:
    """Return one convolution that computes the outputs of several."""
    pairs = [tensors_of(conv) for conv in convs]
    weight, bias = (torch.cat(tensors) for tensors in zip(*pairs, strict=True))
    return style.convolution(weight, bias, int(convs[0].padding[0]), size)


def _reduced(size: Size, stride: int) -> Size:
    return size[0] // stride, size[1] // stride
