r"""A small network for what the mesh leaves open: which surface each place belongs to, and newly visible content.

    source ----> encoder -> maps of 64, 32, 16 --\ (once a source)
    drawing, candidates -> motion net -> flow -----+-> warped source, warped maps -> render net -> new pixels, mask

Notation: B batch, n the side of the picture that the network sees.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.models.blocks.states import read_config
from kinecast.models.mesh.drawing import CHANNELS, LAYERS, Drawing, grid_of
from kinecast.models.mesh.mouth import dark_colour, darken
from kinecast.models.mesh.topology import KINDS


@dataclass(frozen=True)
class MeshConfig:
    """Sizes of the network: `size` n of the picture it sees, channels of the motion net and of the render net.

    With `scene`, background and shoulders move too (see `scene`): four numbers per frame more.
    """

    size: int = 256
    expression: int = 32
    motion_widths: tuple[int, ...] = (32, 48, 64, 96)
    render_widths: tuple[int, ...] = (32, 64, 96, 128)
    bottleneck_blocks: int = 2
    hints: int = 5
    scene: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % self.frame_multiple:
            raise KinecastError(
                f"mesh config: expected a size in multiples of {self.frame_multiple}, found {self.size}"
            )

    @property
    def frame_size(self) -> tuple[int, int]:
        """Height and width of the picture that the network sees."""
        return self.size, self.size

    @property
    def frame_multiple(self) -> int:
        """What the size must be a multiple of."""
        return max(4 * 2 ** (len(self.motion_widths) - 1), 2 * 2 ** (len(self.render_widths) - 1))

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "MeshConfig":
        """Build from plain values (JSON or TOML).

        Raises:
            KinecastError: an unknown key.
        """
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return read_config(MeshConfig, "mesh", values, {})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def _conv(channels: int, width: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _ready(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a network's input in its convolutions' dtype and memory format."""
    return x.to(dtype).contiguous(memory_format=torch.channels_last)


class MotionNet(nn.Module):
    """Logits of the flow's candidates and a correction of the flow, at a quarter of the picture's side."""

    dtype = torch.float32  # of its convolutions

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        widths = config.motion_widths
        self.first = _conv(CHANNELS + LAYERS * (3 + config.hints + 2), widths[0])
        self.down = nn.ModuleList(_conv(a, b, 2) for a, b in zip(widths, widths[1:], strict=False))
        self.middle = _Residual(widths[-1])
        self.up = nn.ModuleList(_conv(b + a, a) for a, b in zip(widths, widths[1:], strict=False))
        self.last = nn.Conv2d(widths[0], LAYERS + 2, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, C, n/4, n/4) to logits (B, LAYERS, n/4, n/4) and a correction (B, 2, n/4, n/4)."""
        maps = [self.first(_ready(x, self.dtype))]
        for layer in self.down:
            maps.append(layer(maps[-1]))
        x = self.middle(maps.pop())
        for layer, skip in zip(reversed(self.up), reversed(maps), strict=True):
            x = layer(torch.cat((F.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1))
        x = self.last(x).float()
        return x[:, :LAYERS], x[:, LAYERS:] * 0.1


class SourceEncoder(nn.Module):
    """Maps of the source at n/4, n/8 and n/16, and hints for the motion net at n/4."""

    dtype = torch.float32  # of its convolutions

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        base, *widths = config.render_widths
        self.first = _conv(12 + CHANNELS, base)
        self.down = nn.ModuleList(
            nn.Sequential(_conv(a, b, 2), _Residual(b)) for a, b in zip((base, *widths), widths, strict=False)
        )
        self.hints = nn.Conv2d(widths[0], config.hints, 1)

    def forward(self, picture: Tensor, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """Map a picture (B, 3, n, n) and the source's own drawing (B, CHANNELS, n/2, n/2)."""
        x = self.first(_ready(torch.cat((F.pixel_unshuffle(picture, 2), features), dim=1), self.dtype))
        maps = []
        for layer in self.down:
            x = layer(x)
            maps.append(x)
        return [each.float() for each in maps], self.hints(maps[0]).float()


class RenderNet(nn.Module):
    """New pixels (B, 3, n, n), the mask (B, 1, n, n) of where they are shown, and a change of light (B, 3, n/4, n/4).

    The change of light is added to the warped source, so that its detail stays as sharp as the source is.
    """

    dtype = torch.float32  # of its convolutions

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        widths = config.render_widths
        self.first = _conv(12 + CHANNELS + LAYERS, widths[0])
        self.down = nn.ModuleList(_conv(a, b, 2) for a, b in zip(widths, widths[1:], strict=False))
        self.join = nn.ModuleList(_conv(2 * b, b, kernel=1) for b in widths[1:])
        self.middle = nn.Sequential(*(_Residual(widths[-1]) for _ in range(config.bottleneck_blocks)))
        self.up = nn.ModuleList(_conv(b + a, a) for a, b in zip(widths, widths[1:], strict=False))
        self.refine = nn.Sequential(*(_Residual(widths[0]) for _ in range(1)))
        self.last = nn.Conv2d(widths[0], 16, 3, padding=1)
        self.light = nn.Conv2d(widths[1], 3, 3, padding=1)
        nn.init.zeros_(self.light.weight)
        nn.init.zeros_(self.light.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *warped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map what is known (B, C, n/2, n/2), and the source's warped maps."""
        maps = [self.first(_ready(x, self.dtype))]
        for layer, join, source in zip(self.down, self.join, warped, strict=True):
            maps.append(join(torch.cat((layer(maps[-1]), source.to(maps[-1].dtype)), dim=1)))
        x = self.middle(maps.pop())
        for layer, skip in zip(reversed(self.up), reversed(maps), strict=True):
            if skip is maps[0]:
                light = self.light(x).float().tanh() / 2
            x = layer(torch.cat((F.interpolate(x, scale_factor=2.0, mode="nearest"), skip), dim=1))
        out = F.pixel_shuffle(self.last(self.refine(x)), 2).float()
        return out[:, :3].sigmoid(), (out[:, 3:] - 1).sigmoid(), light


def sample(picture: Tensor, flow: Tensor) -> Tensor:
    """Read a picture (B, C, H, W) at a flow (B, 2, h, w), in the flow's own size; edges are continued."""
    return F.grid_sample(picture, flow.permute(0, 2, 3, 1), mode="bilinear", padding_mode="border", align_corners=False)


def resize(x: Tensor, size: int) -> Tensor:
    """Resize smoothly, averaging when shrinking."""
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=x.shape[-1] > size)


@dataclass(frozen=True)
class SourceMaps:
    """The encoded source: the network's input picture (B, 3, n, n), its maps, and hints."""

    picture: Tensor
    maps: list[Tensor]
    small: Tensor  # (B, 3 + hints, n/4, n/4)
    dark: Tensor  # (B, 3, 1, 1), the colour inside its mouth
    joined: list[Tensor] | None = None  # an engine's, of which the render net's joins are half made


@dataclass(frozen=True)
class Rendered:
    """`frames` (B, 3, n, n), and what they are made of: see `compose`; `flow` is (B, 2, n/2, n/2)."""

    frames: Tensor
    warped: Tensor
    pixels: Tensor
    mask: Tensor
    light: Tensor
    flow: Tensor


def compose(warped: Tensor, pixels: Tensor, mask: Tensor, light: Tensor) -> Tensor:
    """Blend new pixels over the warped source (B, 3, H, W), resizing them to it."""
    pixels, mask, light = (resize(each, warped.shape[-1]) for each in (pixels, mask, light))
    lit = warped + light
    return lit + mask * (pixels - lit)


class MeshNetwork(nn.Module):
    """The three networks together."""

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SourceEncoder(config)
        self.motion = MotionNet(config)
        self.render = RenderNet(config)

    def dry_run(self) -> None:
        """Run all parts once on zeros."""
        size = self.config.size
        zeros = torch.zeros(1, 3, size, size)
        empty = zeros[:, :1, ::2, ::2]
        drawing = Drawing(empty.expand(-1, 2, -1, -1), empty, empty.repeat(1, CHANNELS, 1, 1), empty)
        flows = empty[:, None].repeat(1, LAYERS, 2, 1, 1)
        self(self.encode(zeros, drawing), drawing, flows, empty.repeat(1, LAYERS, 1, 1))

    def encode(self, picture: Tensor, drawing: Drawing) -> SourceMaps:
        """Encode a source (B, 3, n, n) whose own face is drawn on n/2."""
        maps, hints = self.encoder(picture, drawing.features)
        small = torch.cat((resize(picture, picture.shape[-1] // 4), hints), dim=1)
        lips = drawing.features[:, KINDS.index("lips")][:, None]
        return SourceMaps(picture, maps, small, dark_colour(F.avg_pool2d(picture, 2), lips))

    def warped(self, source: SourceMaps, flow: Tensor) -> list[Tensor]:
        """Return the source's maps for the render net, read at flows (B, 2, n/2, n/2)."""
        return [sample(m.expand(len(flow), -1, -1, -1), resize(flow, m.shape[-1])) for m in source.maps]

    def flow(self, source: SourceMaps, drawing: Drawing, flows: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Return the flow (B, 2, n/2, n/2) and the candidates' shares (B, LAYERS, n/2, n/2)."""
        batch, _, _, size = prior.shape
        coarse = F.avg_pool2d(flows.flatten(1, 2), 2).view(batch, LAYERS, 2, size // 2, size // 2)
        tall = coarse.permute(0, 2, 1, 3, 4).reshape(batch, 2, LAYERS * (size // 2), size // 2)
        seen = sample(source.small.expand(batch, -1, -1, -1), tall)
        seen = seen.view(batch, -1, LAYERS, size // 2, size // 2).flatten(1, 2)
        moved = (coarse - grid_of(size // 2, size // 2, coarse)).flatten(1, 2)
        known = torch.cat((seen, moved, F.avg_pool2d(drawing.features, 2)), dim=1)
        logits, correction = self.motion(known)
        shares = (prior + resize(logits, size)).softmax(dim=1)
        flow = (shares[:, :, None] * flows).sum(dim=1) + resize(correction, size)
        return flow, shares

    def forward(self, source: SourceMaps, drawing: Drawing, flows: Tensor, prior: Tensor) -> Rendered:
        """Render driven faces from an encoded source; `flows` and `prior` are those of `candidates`."""
        batch, side = len(flows), source.picture.shape[-1]
        flow, shares = self.flow(source, drawing, flows, prior)
        warped = sample(source.picture.expand(batch, -1, -1, -1), resize(flow, side))
        maps = self.warped(source, flow)
        known = torch.cat((F.pixel_unshuffle(warped, 2), drawing.features, shares), dim=1)
        pixels, mask, light = self.render(known, *maps)
        pixels, mask = darken(pixels, mask, resize(drawing.dark, side), source.dark)
        return Rendered(compose(warped, pixels, mask, light), warped, pixels, mask, light, flow)
