"""Models small enough for tests, with every tensor away from its initial value, and pictures to feed them."""

from typing import Any

import torch
from torch import Tensor, nn

from kinecast.models.fomm import FOMM, FOMMConfig

_PART = {"block_expansion": 4, "num_blocks": 2, "max_features": 16, "scale_factor": 0.5}
_GENERATOR = {"block_expansion": 4, "max_features": 16, "num_down_blocks": 2, "num_bottleneck_blocks": 1}
# The compact design: pixels as channels, warped skips, refinement, the source's own pixels.
COMPACT = {"generator": {"shuffle": 2, "skips": True, "num_refine_blocks": 1, "pass_through": True}}


def tiny_settings(**changes: Any) -> dict[str, Any]:
    """Return a FOMM's config as plain values, at 64x64 unless changed; changes of a part are merged into it."""
    settings: dict[str, Any] = {
        "frame_size": (64, 64),
        "num_keypoints": 4,
        "detector": _PART,
        "dense_motion": _PART,
        "generator": _GENERATOR,
    }
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    return settings


def tiny_fomm(seed: int = 0, **changes: Any) -> FOMM:
    """Build a FOMM of `tiny_settings` in which no tensor, batch statistics included, is what a new model has."""
    model = FOMM(FOMMConfig.from_dict(tiny_settings(**changes)))
    shake(model, seed)
    return model.eval()


def shake(model: nn.Module, seed: int = 0) -> None:
    """Draw all parameters and batch statistics anew, at scales that keep the signal alive."""
    random = torch.Generator().manual_seed(seed)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=random)

    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim > 1:
                tensor.copy_(noise(tensor) * (2 / tensor[0].numel()) ** 0.5)
            else:
                tensor.add_(0.1 * noise(tensor))
            if name.endswith("jacobian.weight"):
                tensor.mul_(0.2)  # keeps the local frames near the identity, as training does
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(1 + 0.1 * noise(buffer).abs())


def pictures(count: int, size: tuple[int, int] = (64, 64), seed: int = 0) -> Tensor:
    """Return (count, 3, H, W) in [0, 1]: smooth random colours, no two pictures alike."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 7, 7, generator=random)
    return nn.functional.interpolate(coarse, size=size, mode="bicubic", align_corners=True).clamp(0, 1)
