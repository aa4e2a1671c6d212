"""Reconstruction of clips of people the backbone was not trained on."""

import numpy as np
import torch

from kinecast.data.video_folder import CachedClip
from kinecast.media.pictures import grid, to_tensor, to_uint8
from kinecast.metrics.pixel import mae, ssim
from kinecast.models import Backbone


@torch.inference_mode()
def validate(model: Backbone, clips: list[CachedClip], frames: int) -> tuple[dict[str, float], np.ndarray]:
    """Reconstruct each clip from its first frame; return means over clips, and a picture with one row per clip.

    A row is source, true frame, reconstruction. `mae_ratio` is MAE over that of copying the source frame.
    """
    rows: list[list[np.ndarray]] = []
    values: dict[str, list[float]] = {"mae": [], "mae_copy": [], "ssim": [], "ssim_copy": []}
    for clip in clips:
        first, *others = clip.usable
        picked = np.array(others)[np.linspace(0, len(others) - 1, min(frames, len(others))).astype(int)]
        source, driving = (to_tensor(clip.frames[i]).to(model.device) for i in ([first], picked))
        rebuilt = model.animate(model.encode_source(source), model.detect(source), model.detect(driving))
        copied = source.expand_as(driving)
        for name, other in (("", rebuilt), ("_copy", copied)):
            values["mae" + name].append(float(mae(other, driving).mean()))
            values["ssim" + name].append(float(ssim(other, driving).mean()))
        if len(rows) < 8:
            shown = [len(picked) // 3, 2 * len(picked) // 3, -1]
            pictures = [to_uint8(x) for x in (source, driving, rebuilt)]
            rows.append([pictures[0][0], *(p[i] for i in shown for p in pictures[1:])])
    figures = {name: float(np.mean(numbers)) for name, numbers in values.items()}
    return {"mae_ratio": figures["mae"] / figures["mae_copy"], **figures}, grid(rows)
