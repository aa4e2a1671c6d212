"""Causal normalisation of motion vectors: by the training set, or by a window's own observed frames.

Notation: B batch, N observed frames, D numbers per frame, M training windows.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError

Normalization = Literal["training", "window"]
NORMALIZATIONS: tuple[str, ...] = ("training", "window")

_FLOOR = 1e-4  # of the mean over D: the noise of a nearly still dimension must not be amplified
_OWN_SHARE = 0.5  # weight of a dimension's own N-1 steps, few and noisy, against those of all D
_LEAST_STEP = 0.15  # of the training step: a still window may move again


class Units(NamedTuple):
    """The units of a window; each (B or 1, 1, D). A value that no module stores.

    `shift` and `scale` normalise positions, `step` frame-to-frame increments; `level` is the log of the window's
    step over the training set's, 0 where it is not estimated.
    """

    shift: Tensor
    scale: Tensor
    step: Tensor
    level: Tensor

    def repeat(self, samples: int) -> "Units":
        """Return the units of (S B) rows, samples outermost."""
        return Units(*(t.repeat(samples, 1, 1) if len(t) > 1 else t for t in self))


class Normalizer(nn.Module):
    """Computes the units of a window. It is a module of the model for two reasons.

    Its statistics belong to the weights: they are saved, moved and loaded with them, so that no model runs with another
    data set's. And `forecast` uses raw units, so that no caller can normalise by future frames, as the released
    evaluation did (by the observed frames of *later* windows of the video).

    training: mean and standard deviation of the training frames, root mean square of their increments.
    window: the last observed frame, and the root mean square of the window's own observed increments, half its own
    dimension's and half all dimensions', each relative to the training set's; positions in steps of a random walk
    of that length. A window moved or scaled as a whole is then forecast moved and scaled alike.
    """

    mean: Tensor
    std: Tensor
    step: Tensor

    def __init__(self, motion_dim: int, kind: Normalization) -> None:
        super().__init__()
        if kind not in NORMALIZATIONS:
            raise KinecastError(f"normalization: expected one of {', '.join(NORMALIZATIONS)}; found {kind!r}")
        self.kind = kind
        self.register_buffer("mean", torch.zeros(motion_dim))
        self.register_buffer("std", torch.ones(motion_dim))
        self.register_buffer("step", torch.ones(motion_dim))

    def fit(self, windows: Tensor) -> None:
        """Take the statistics of training windows (M, T, D)."""
        frames = windows.flatten(0, 1)
        self.mean.copy_(frames.mean(dim=0))
        self.std.copy_(_floored((frames - frames.mean(dim=0)).square().mean(dim=0).sqrt()))
        if windows.shape[1] > 1:
            self.step.copy_(_floored(windows.diff(dim=1).square().mean(dim=(0, 1)).sqrt()))

    def forward(self, observed: Tensor) -> Units:
        """Return the units of windows, from their observed frames (B, N, D) and the training statistics alone."""
        mean, std, step = (t.view(1, 1, -1) for t in (self.mean, self.std, self.step))
        if self.kind == "training":
            return Units(mean, std, step, torch.zeros_like(step))
        if observed.shape[1] < 2:
            own = torch.ones_like(observed[:, :1])
        else:
            own = (observed.diff(dim=1) / step).square().mean(dim=1, keepdim=True)
        power = _OWN_SHARE * own + (1 - _OWN_SHARE) * own.mean(dim=2, keepdim=True)
        relative = (power + _LEAST_STEP**2).sqrt()
        walk = max(1, observed.shape[1] - 1) ** 0.5
        return Units(observed[:, -1:], walk * relative * step, relative * step, relative.log())


def _floored(spread: Tensor) -> Tensor:
    """Raise near-zero values to a share of the mean over D, or to 1 if nothing moved."""
    mean = float(spread.mean())
    return spread.clamp_min(_FLOOR * mean) if mean > 0 else torch.ones_like(spread)
