"""The multi-scale discriminator of FOMM-adv and its least-squares losses (Siarohin et al. 2019; Mao et al. 2017)."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import spectral_norm  # the old style: its tensor names are the published ones

from kinecast.models.blocks.layers import AntiAliasDownsample


class _DownBlock(nn.Module):
    def __init__(self, in_features: int, out_features: int, norm: bool, pool: bool) -> None:
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(in_features, out_features, 4))
        self.norm = nn.InstanceNorm2d(out_features, affine=True) if norm else None
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        if self.norm is not None:
            out = self.norm(out)
        out = F.leaky_relu(out, 0.2)
        return F.avg_pool2d(out, 2) if self.pool else out


class Discriminator(nn.Module):
    """Convolutions of 4x4 that classify patches at one scale."""

    def __init__(self, block_expansion: int = 32, num_blocks: int = 4, max_features: int = 512) -> None:
        super().__init__()
        widths = [min(max_features, block_expansion * 2 ** (i + 1)) for i in range(num_blocks)]
        pairs = zip([3, *widths[:-1]], widths, strict=True)
        self.down_blocks = nn.ModuleList(
            _DownBlock(i, o, norm=n > 0, pool=n < num_blocks - 1) for n, (i, o) in enumerate(pairs)
        )
        self.conv = spectral_norm(nn.Conv2d(widths[-1], 1, 1))

    def forward(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        """Map images (B, 3, H, W) to the inner feature maps and the score map (B, 1, h, w)."""
        maps, out = [], image
        for block in self.down_blocks:
            out = block(out)
            maps.append(out)
        return maps, self.conv(out)


class MultiScaleDiscriminator(nn.Module):
    """One `Discriminator` per scale, stored as `discs.<scale>` with a dash for the point; published: scale 1 alone."""

    def __init__(
        self, scales: Sequence[float] = (1,), block_expansion: int = 32, num_blocks: int = 4, max_features: int = 512
    ) -> None:
        super().__init__()
        self.discs = nn.ModuleDict(
            {str(s).replace(".", "-"): Discriminator(block_expansion, num_blocks, max_features) for s in scales}
        )
        self.pyramid = nn.ModuleDict({name: _scaled(s) for name, s in zip(self.discs, scales, strict=True)})

    def forward(self, image: Tensor) -> list[tuple[list[Tensor], Tensor]]:
        """Score images (B, 3, H, W) at every scale."""
        return [disc(self.pyramid[name](image)) for name, disc in self.discs.items()]

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "MultiScaleDiscriminator":
        """Build with the sizes of a published state dict."""
        names = list(dict.fromkeys(name.split(".")[1] for name in state))
        prefix = f"discs.{names[0]}.down_blocks."
        blocks = len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
        widths = [len(state[f"{prefix}{i}.conv.bias"]) for i in range(blocks)]
        scales = [float(name.replace("-", ".")) if "-" in name else int(name) for name in names]  # 1 and 1-0 differ
        model = cls(scales, widths[0] // 2, blocks, max(widths))
        model.load_state_dict(dict(state), strict=True)
        return model


def _scaled(scale: float) -> AntiAliasDownsample:
    down = AntiAliasDownsample(3, scale)
    if scale != 1:  # published files store the pyramid elsewhere
        down.register_buffer("weight", down.weight, persistent=False)
    return down


def discriminator_loss(network: MultiScaleDiscriminator, prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean of (1 - D(target))^2 + D(prediction)^2, summed over scales."""
    real, fake = network(target), network(prediction.detach())
    losses = [(1 - r[1]).square().mean() + f[1].square().mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).sum()


def adversarial_losses(network: MultiScaleDiscriminator, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the generator's (1 - D(prediction))^2 and the L1 feature matching, summed over scales and blocks."""
    fake = network(prediction)
    with torch.no_grad():
        real = network(target)
    gan = torch.stack([(1 - judged).square().mean() for _, judged in fake]).sum()
    pairs = [
        (x, y) for (fakes, _), (reals, _) in zip(fake, real, strict=True) for x, y in zip(fakes, reals, strict=True)
    ]
    return gan, torch.stack([F.l1_loss(x, y) for x, y in pairs]).sum()
