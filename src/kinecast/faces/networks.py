"""The three networks of Google's face landmarker (Apache-2.0), rewritten as torch modules.

| network | input | output |
|---|---|---|
| Detector (Bazarevsky et al. 2019, arXiv 1907.05047) | picture 128x128 | 896 boxes with six points, and scores |
| LandmarkNetwork (Kartynnik et al. 2019, 1907.06724; Grishchenko et al. 2020, 2006.10962) | face 256x256 | 478 points |
| BlendshapeNetwork (an MLP-Mixer, 2105.01601; 2309.05782) | 146 of the points | 52 ARKit scores |

Where padding is odd, TensorFlow pads one more at the end, hence the explicit padding before strides.
Notation: B pictures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.faces.topology import NUM_POINTS

DETECTOR_PIXELS = 128
CROP_PIXELS = 256


class Detector(nn.Module):
    """Face detector: a box and a score for each anchor of `kinecast.faces.detection`."""

    # width and stride of each block; the first row ends on a grid of 16x16, the second on 8x8
    fine = (
        *((24, 1), (28, 1), (32, 2), (36, 1), (42, 1), (48, 2)),
        *((56, 1), (64, 1), (72, 1), (80, 1), (88, 1)),
    )
    coarse = ((96, 2), (96, 1), (96, 1), (96, 1), (96, 1))
    numbers = 16  # of a box: centre, size, six points

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 5, stride=2)
        self.fine_blocks, width = _separable_blocks(24, self.fine)
        self.coarse_blocks, coarse_width = _separable_blocks(width, self.coarse)
        self.fine_scores = nn.Conv2d(width, 2, 1)
        self.coarse_scores = nn.Conv2d(coarse_width, 6, 1)
        self.fine_boxes = nn.Conv2d(width, 2 * self.numbers, 1)
        self.coarse_boxes = nn.Conv2d(coarse_width, 6 * self.numbers, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes (B, 896, 16) in pixels from their anchors, and scores (B, 896) before the sigmoid.

        Args:
            pictures: (B, 3, 128, 128) in [-1, 1].
        """
        fine = self.fine_blocks(F.relu(self.stem(F.pad(pictures, (1, 2, 1, 2)))))
        coarse = self.coarse_blocks(fine)
        scores = [_by_place(self.fine_scores(fine), 1), _by_place(self.coarse_scores(coarse), 1)]
        boxes = [_by_place(self.fine_boxes(fine), self.numbers), _by_place(self.coarse_boxes(coarse), self.numbers)]
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1).squeeze(2)


def _by_place(maps: Tensor, numbers: int) -> Tensor:
    """Turn maps (B, A * numbers, h, w) into rows (B, h * w * A, numbers), cell by cell."""
    return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, numbers)


def _separable_blocks(width: int, blocks: tuple[tuple[int, int], ...]) -> tuple[nn.Sequential, int]:
    layers = []
    for out, stride in blocks:
        layers.append(_SeparableBlock(width, out, stride))
        width = out
    return nn.Sequential(*layers), width


class _SeparableBlock(nn.Module):
    """Depthwise and pointwise convolution with a skip connection, pooled where the block strides."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.widens_by = stride, out - width
        self.depthwise = nn.Conv2d(width, width, 3, stride, padding=1 if stride == 1 else 0, groups=width)
        self.pointwise = nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.pad(x, (0, 1, 0, 1)) if self.stride == 2 else x
        skip = F.max_pool2d(x, 2) if self.stride == 2 else x
        return F.relu(self.pointwise(self.depthwise(inner)) + _widened(skip, self.widens_by))


def _widened(x: Tensor, channels: int) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, 0, channels)) if channels else x


class LandmarkNetwork(nn.Module):
    """478 points of an upright face that fills the middle two thirds of the picture."""

    # width and bottleneck of each stage, each at half the resolution of the previous one
    stages = ((16, 8), (32, 16), (64, 32), (128, 64), (128, 64), (128, 64), (128, 64))
    residuals = 4  # blocks per stage, besides the one that halves

    def __init__(self) -> None:
        super().__init__()
        width, inner = self.stages[0]
        self.stem = nn.Conv2d(3, width, 3, stride=2)
        self.stem_activation = nn.PReLU(width)
        blocks = [_Bottleneck(width, inner, width) for _ in range(self.residuals)]
        for out, inner in self.stages[1:]:
            blocks.append(_Bottleneck(width, inner, out, halves=True))
            blocks += [_Bottleneck(out, inner, out) for _ in range(self.residuals)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.unread = nn.Conv2d(width, 1, 2)  # an output that the original program ignores too
        self.presence = nn.Conv2d(width, 1, 2)
        self.points = nn.Conv2d(width, 3 * NUM_POINTS, 2)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Return points (B, 478, 3), x, y and depth in pixels of the crop, and presence (B,) before the sigmoid.

        Args:
            faces: (B, 3, 256, 256) in [0, 1].
        """
        x = self.blocks(self.stem_activation(self.stem(F.pad(faces, (0, 1, 0, 1)))))
        return self.points(x).view(-1, NUM_POINTS, 3), self.presence(x).view(-1)


class _Bottleneck(nn.Module):
    """Bottleneck block of the landmark network: narrow, depthwise, widen, add."""

    def __init__(self, width: int, inner: int, out: int, halves: bool = False) -> None:
        super().__init__()
        self.halves, self.widens_by = halves, out - width
        self.narrow = nn.Conv2d(width, inner, 2, 2) if halves else nn.Conv2d(width, inner, 1)
        self.inner_activation = nn.PReLU(inner)
        self.depthwise = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.widen = nn.Conv2d(inner, out, 1)
        self.activation = nn.PReLU(out)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.depthwise(self.inner_activation(self.narrow(x)))
        skip = F.max_pool2d(x, 2) if self.halves else x
        return self.activation(self.widen(inner) + _widened(skip, self.widens_by))


class BlendshapeNetwork(nn.Module):
    """52 expression scores from 146 points, mixing over points and features alternately."""

    points, tokens, width, blocks, scores = 146, 96, 64, 4, 52

    def __init__(self) -> None:
        super().__init__()
        self.to_tokens = nn.Linear(self.points, self.tokens)
        self.to_features = nn.Linear(2, self.width)
        self.summary = _SummaryToken(self.width)
        self.mixers = nn.Sequential(*(_Mixer(self.tokens + 1, self.width) for _ in range(self.blocks)))
        self.head = nn.Linear(self.width, self.scores)

    def forward(self, points: Tensor) -> Tensor:
        """Return scores (B, 52) in [0, 1].

        Args:
            points: (B, 146, 2), x and y in pixels; position and size of the face do not matter.
        """
        centred = points - points.mean(dim=1, keepdim=True)
        size = centred.norm(dim=2, keepdim=True).mean(dim=1, keepdim=True)
        tokens = self.to_tokens((0.5 * centred / size).transpose(1, 2)).transpose(1, 2)
        return self.head(self.mixers(self.summary(self.to_features(tokens)))[:, 0]).sigmoid()


class _SummaryToken(nn.Module):
    """Prepends a learned token, which is read out at the end."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(x.shape[0], 1, -1), x], dim=1)


class _Mixer(nn.Module):
    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.over_tokens = nn.Sequential(nn.Linear(tokens, 384), nn.ReLU(), nn.Linear(384, tokens))
        self.feature_norm = nn.LayerNorm(width, eps=1e-6, bias=False)
        self.over_features = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.over_tokens(self.token_norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.over_features(self.feature_norm(x))
