"""Decoder with spatially-adaptive normalisation (Park et al. 2019, arXiv 1903.07291), as face-vid2vid uses it.

Notation: B batch, C channels, h x w the size of the conditioning features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.2  # of the leaky ReLU


class SpectralConv2d(nn.Module):
    """Convolution whose kernel is divided by its largest singular value (Miyato et al. 2018, arXiv 1802.05957).

    The tensors are those of torch's older spectral normalisation: `weight_orig` and the singular vectors `weight_u` and
    `weight_v`, updated by one power iteration per training step and fixed in evaluation.
    """

    weight_u: Tensor
    weight_v: Tensor

    def __init__(self, in_features: int, out_features: int, kernel_size: int, bias: bool = True) -> None:
        super().__init__()
        plain = nn.Conv2d(in_features, out_features, kernel_size, bias=bias)
        self.weight_orig = nn.Parameter(plain.weight.detach())
        self.bias = nn.Parameter(plain.bias.detach()) if plain.bias is not None else None
        self.padding = kernel_size // 2
        self.register_buffer("weight_u", F.normalize(torch.randn(out_features), dim=0))
        self.register_buffer("weight_v", F.normalize(torch.randn(self.weight_orig[0].numel()), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w)."""
        matrix = self.weight_orig.flatten(1)
        if self.training:
            with torch.no_grad():
                v = F.normalize(matrix.T @ self.weight_u, dim=0)
                u = F.normalize(matrix @ v, dim=0)
                self.weight_v.copy_(v)
                self.weight_u.copy_(u)
        # Copies: another forward pass may update the vectors before this one's backward pass.
        u, v = self.weight_u.clone(), self.weight_v.clone()
        return F.conv2d(x, self.weight_orig / (u @ matrix @ v), self.bias, padding=self.padding)


class Spade(nn.Module):
    """Normalise each channel of each picture, then scale and shift every pixel by the condition."""

    def __init__(self, features: int, condition: int, hidden: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Conv2d(condition, hidden, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(hidden, features, 3, padding=1)
        self.mlp_beta = nn.Conv2d(hidden, features, 3, padding=1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape, by a condition (B, C', h', w')."""
        shared = self.mlp_shared(F.interpolate(condition, size=x.shape[2:], mode="nearest"))
        return F.instance_norm(x) * (1 + self.mlp_gamma(shared)) + self.mlp_beta(shared)


class SpadeBlock(nn.Module):
    """Residual block of two conditioned 3x3 convolutions; the shortcut is projected where the width changes."""

    def __init__(self, in_features: int, out_features: int, condition: int, hidden: int) -> None:
        super().__init__()
        middle = min(in_features, out_features)
        self.conv_0 = SpectralConv2d(in_features, middle, 3)
        self.conv_1 = SpectralConv2d(middle, out_features, 3)
        self.norm_0 = Spade(in_features, condition, hidden)
        self.norm_1 = Spade(middle, condition, hidden)
        self.projected = in_features != out_features
        if self.projected:
            self.conv_s = SpectralConv2d(in_features, out_features, 1, bias=False)
            self.norm_s = Spade(in_features, condition, hidden)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, C', h, w)."""
        out = self.conv_0(F.leaky_relu(self.norm_0(x, condition), _SLOPE))
        out = self.conv_1(F.leaky_relu(self.norm_1(out, condition), _SLOPE))
        return out + (self.conv_s(self.norm_s(x, condition)) if self.projected else x)


class SpadeDecoder(nn.Module):
    """Features (B, C, h, w), which are input and condition both, to pictures 2^ups times as large."""

    def __init__(self, features: int, narrow: int, ups: int, blocks: int, hidden: int) -> None:
        super().__init__()
        self.blocks, self.ups = blocks, ups
        self.fc = nn.Conv2d(features, 2 * features, 3, padding=1)
        for i in range(blocks):
            self.add_module(f"G_middle_{i}", SpadeBlock(2 * features, 2 * features, features, hidden))
        widths = [2 * features, *(features // 2**i for i in range(ups - 1)), narrow]
        for i in range(ups):
            self.add_module(f"up_{i}", SpadeBlock(widths[i], widths[i + 1], features, hidden))
        self.conv_img = nn.Conv2d(narrow, 3, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return pictures (B, 3, H, W) in [0, 1]."""
        out = self.fc(features)
        for i in range(self.blocks):
            out = self.get_submodule(f"G_middle_{i}")(out, features)
        for i in range(self.ups):
            out = self.get_submodule(f"up_{i}")(F.interpolate(out, scale_factor=2.0), features)
        return torch.sigmoid(self.conv_img(F.leaky_relu(out, _SLOPE)).float())
