"""JEDi: distance between sets of videos, in the features of V-JEPA. Luo et al. 2024, arXiv 2410.05203.

    JEDi(X, Y) = 100 (mean k(x, x') + mean k(y, y') - 2 mean k(x, y)),   k(x, y) = (<x, y> / 1280)^2

with biased means (a video with itself included). The features of a video are V-JEPA's (Bardes et al. 2024, arXiv
2404.08471): 16 frames of 224x224 through ViT-H/16 in tubelets of 2 frames, then the attentive pooler of the probe
that was trained on Something-Something v2.

The weights, several GB, must be provided by the user: the two published files `vith16.pth.tar` and `ssv2-probe.pth.tar`
in one folder. Without them the column says `needs weights`.

Notation: V videos, T frames, P patches, C numbers per patch, n and m videos of two sets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.files.weights import read_torch, without_wrappers

NEEDS_WEIGHTS = "needs weights"  # shown in tables without weights
ENCODER_FILE, PROBE_FILE = "vith16.pth.tar", "ssv2-probe.pth.tar"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as V-JEPA was trained
_BACKBONE = "backbone."  # of the wrapper the encoder was saved in
_POOLER = "pooler."


@dataclass(frozen=True)
class VJEPAConfig:
    """Sizes of the encoder; the defaults are ViT-H/16's."""

    width: int = 1280
    depth: int = 32
    heads: int = 16
    patch: int = 16
    tubelet: int = 2
    frames: int = 16
    size: int = 224

    @property
    def grid(self) -> tuple[int, int, int]:
        """Patches along time, height and width."""
        return self.frames // self.tubelet, self.size // self.patch, self.size // self.patch


class VJEPA(nn.Module):
    """Encoder and pooler. Names of parameters are those of the published files."""

    def __init__(self, config: VJEPAConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.pooler = Pooler(config.width, config.heads)

    @torch.inference_mode()
    def features(self, videos: Tensor) -> Tensor:
        """Return the features (V, C) of videos (V, T, 3, H, W) in [0, 1], of any T and size.

        Frames are sampled evenly, repeated if T is below 16, and resized to the encoder's size.

        Raises:
            KinecastError: another shape.
        """
        if videos.ndim != 5 or videos.shape[2] != 3 or 0 in videos.shape:
            raise KinecastError(f"JEDi: expected videos (V, T, 3, H, W) in [0, 1], found {tuple(videos.shape)}")
        device = self.encoder.pos_embed.device
        clips = _clips(videos, self.config).to(device)
        return torch.cat([self.pooler(self.encoder(clip[None])) for clip in clips])  # one at a time: P^2 is large


class Encoder(nn.Module):
    """V-JEPA's vision transformer: clips (V, 3, T, H, W), normalised, to patches (V, P, C)."""

    def __init__(self, config: VJEPAConfig) -> None:
        super().__init__()
        kernel = (config.tubelet, config.patch, config.patch)
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, config.width, kernel, stride=kernel)})
        self.pos_embed = nn.Parameter(sincos_positions(config.width, config.grid)[None], requires_grad=False)
        self.blocks = nn.ModuleList([Block(config.width, config.heads) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, clips: Tensor) -> Tensor:
        """Encode."""
        patches = self.patch_embed["proj"](clips).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            patches = block(patches)
        return self.norm(patches)


class Block(nn.Module):
    """Pre-norm self-attention and MLP with residual connections."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Net(width)

    def forward(self, patches: Tensor) -> Tensor:
        """(V, P, C) to the same."""
        patches = patches + self.attn(self.norm1(patches))
        return patches + self.mlp(self.norm2(patches))


class SelfAttention(nn.Module):
    """Attention of all patches to all."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, patches: Tensor) -> Tensor:
        """(V, P, C) to the same."""
        query, key, value = self.qkv(patches).chunk(3, dim=2)
        return self.proj(_attend(query, key, value, self.heads))


class CrossAttention(nn.Module):
    """Attention of query tokens to patches."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Tokens (V, Q, C) and patches (V, P, C) to (V, Q, C)."""
        key, value = self.kv(patches).chunk(2, dim=2)
        return self.proj(_attend(self.q(tokens), key, value, self.heads))


class Net(nn.Module):
    """Two linear layers, four times as wide between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, patches: Tensor) -> Tensor:
        """(..., C) to the same."""
        return self.fc2(gelu(self.fc1(patches)))


class CrossBlock(nn.Module):
    """Cross-attention and MLP; only the patches are normalised before the attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.xattn = CrossAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Net(width)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Tokens (V, Q, C) and patches (V, P, C) to (V, Q, C)."""
        tokens = tokens + self.xattn(tokens, self.norm1(patches))
        return tokens + self.mlp(self.norm2(tokens))


class Pooler(nn.Module):
    """The probe without its classifier: one learnt token attends to all patches, (V, P, C) to (V, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query_tokens = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.cross_attention_block = CrossBlock(width, heads)

    def forward(self, patches: Tensor) -> Tensor:
        """Pool."""
        tokens = self.query_tokens.expand(len(patches), -1, -1)
        return self.cross_attention_block(tokens, patches)[:, 0]


def sincos_positions(width: int, grid: tuple[int, int, int]) -> Tensor:
    """Return the positions (P, C) that V-JEPA starts from: sines and cosines of time, row and column.

    Each axis has a third of the width, rounded up to an even number and cut off at the end (`uniform_power`). The
    published files hold them, so that this is what an untrained encoder has.
    """
    share = 2 * -(-width // 6)
    frequency = 10000 ** -(torch.arange(share // 2, dtype=torch.float64) / (share / 2))
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequency for axis in axes]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)[:, :width].float()


def polynomial_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Return the squared maximum mean discrepancy of features (n, C) and (m, C), kernel (<x, y> / C)^2, biased means.

    Raises:
        KinecastError: wrong shapes, or an empty set.
    """
    from sklearn.metrics.pairwise import polynomial_kernel

    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or 0 in (*x.shape, *y.shape):
        raise KinecastError(f"MMD: expected features (n, C) and (m, C), found {x.shape} and {y.shape}")
    x, y = x.astype(np.float64), y.astype(np.float64)  # small differences of large means
    kernel = {"degree": 2, "gamma": 1 / x.shape[1], "coef0": 0}
    within = polynomial_kernel(x, x, **kernel).mean() + polynomial_kernel(y, y, **kernel).mean()
    return float(within - 2 * polynomial_kernel(x, y, **kernel).mean())


def jedi(features: Tensor, true_features: Tensor) -> float:
    """Return JEDi of two sets of features of `VJEPA.features`, (n, C) and (m, C)."""
    return 100 * polynomial_mmd(features.cpu().numpy(), true_features.cpu().numpy())


def load_vjepa(folder: str | Path, config: VJEPAConfig | None = None) -> VJEPA:
    """Read the two published files in a folder, by their exact key names, as tensors only.

    Args:
        folder: of `vith16.pth.tar` (part `target_encoder`) and `ssv2-probe.pth.tar` (part `classifier`).
        config: sizes; the published ones by default.

    Raises:
        KinecastError: a file is missing, damaged, or would run code, or has other tensors.
    """
    encoder_path = existing_file(Path(folder) / ENCODER_FILE, "V-JEPA encoder")
    probe_path = existing_file(Path(folder) / PROBE_FILE, "V-JEPA probe")
    with torch.device("meta"):  # avoids initialising 630 million parameters that are replaced
        model = VJEPA(config or VJEPAConfig())
    _assign(model.encoder, encoder_path, _part(encoder_path, "target_encoder"))
    probe = _part(probe_path, "classifier")
    pooler = {name.removeprefix(_POOLER): t for name, t in probe.items() if name.startswith(_POOLER)}
    _assign(model.pooler, probe_path, pooler)
    return model.eval()


def open_vjepa(folder: str | Path | None) -> VJEPA | None:
    """Return the model in the user's folder; None, for a column `needs weights`, if none was named."""
    return None if folder is None else load_vjepa(folder)


def _part(path: Path, name: str) -> dict[str, Tensor]:
    """Return one state dict of a checkpoint, without wrapper prefixes; other parts are not loaded."""
    checkpoint = read_torch(path, mmap=True)
    part = checkpoint.get(name) if isinstance(checkpoint, dict) else None
    if not isinstance(part, dict) or not all(isinstance(tensor, Tensor) for tensor in part.values()):
        found = ", ".join(map(str, checkpoint)) if isinstance(checkpoint, dict) else type(checkpoint).__name__
        raise KinecastError(f"{path}: expected a checkpoint with the state dict {name!r}, found {found or 'nothing'}")
    return {key.removeprefix(_BACKBONE): tensor.float() for key, tensor in without_wrappers(part).items()}


def _assign(module: nn.Module, path: Path, state: Mapping[str, Tensor]) -> None:
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:  # lists missing, unexpected and misshapen tensors, one per line
        raise KinecastError(f"{path}: expected the published tensors; {' '.join(str(error).split())[:400]}") from error
    for name, parameter in module.named_parameters():
        if not torch.isfinite(parameter).all():
            raise KinecastError(f"{path}: expected finite weights, found NaN or infinity in {name}: copy it again")
    module.requires_grad_(False)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attend with each head on its share of the width: (V, Q, C) and two of (V, P, C) to (V, Q, C)."""
    query, key, value = (t.unflatten(2, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _clips(videos: Tensor, config: VJEPAConfig) -> Tensor:
    """Videos (V, T, 3, H, W) to what the encoder reads, (V, 3, 16, 224, 224)."""
    count = videos.shape[1]
    picked = torch.linspace(0, count - 1, config.frames).round().long()
    frames = videos[:, picked].float().flatten(0, 1)
    if frames.shape[2:] != (config.size, config.size):
        frames = interpolate(frames, (config.size, config.size), mode="bilinear", antialias=True, align_corners=False)
    mean, std = (torch.tensor(values, device=frames.device).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return ((frames - mean) / std).unflatten(0, (len(videos), config.frames)).transpose(1, 2)
