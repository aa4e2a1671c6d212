"""Warping by rows: what `grid_sample` computes, of features that lie channels last."""

import torch
import torch.nn.functional as F
from torch import Tensor


def warp_features(
    features: Tensor, flow: Tensor, seen: Tensor | None = None, align_corners: bool = False, border: bool = False
) -> Tensor:
    """Warp the features (1, C, h', w') of one source by flows (B, 2, h, w) and hide them by `seen` (B, 1, h, w).

    Flow and map are resized to h' x w'. Bilinear: each output row is a weighted sum of four rows of C features, so the
    map multiplies four weights and not C features. Outside are zeros or, with `border`, the outermost pixels. With
    `align_corners` -1 and 1 are the outermost pixels' centres, otherwise their edges.
    """
    channels, height, width = features.shape[1:]
    guide = flow if seen is None else torch.cat([flow, seen], dim=1)
    if guide.shape[2:] != features.shape[2:]:
        guide = F.interpolate(guide, size=(height, width), mode="bilinear", align_corners=False)
    if align_corners:
        x, y = (guide[:, 0] + 1) * ((width - 1) / 2), (guide[:, 1] + 1) * ((height - 1) / 2)
    else:
        x, y = (guide[:, 0] + 1) * (width / 2) - 0.5, (guide[:, 1] + 1) * (height / 2) - 0.5
    if border:
        x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    x, y = x - left, y - top
    places, weights = [], []
    for across, horizontal in ((left, 1 - x), (left + 1, x)):
        inside = (across >= 0) & (across <= width - 1)
        for down, vertical in ((top, 1 - y), (top + 1, y)):
            places.append(down.clamp(0, height - 1) * width + across.clamp(0, width - 1))
            weights.append(horizontal * vertical * (inside & (down >= 0) & (down <= height - 1)))
    weight = torch.stack(weights, dim=-1)
    if seen is not None:
        weight = weight * guide[:, 2].unsqueeze(-1)
    table = features.permute(0, 2, 3, 1).reshape(height * width, channels)
    index = torch.stack(places, dim=-1).view(-1, 4).to(torch.int32)
    rows = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight.view(-1, 4))
    return rows.view(len(flow), height, width, channels).permute(0, 3, 1, 2)
