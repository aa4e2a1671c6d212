"""What drives a source picture: motion and, optionally for a TPS, the affine motion of the background.

A TPS estimates background motion from two pictures (arXiv 2203.14367, section 3.1); a receiver has only one. So the
sender compares each frame with the first of its clip and sends six more numbers: 106 per frame instead of 100. In
reconstruction that first frame is the source, as published. In transfer, where the published animation omits the
background and the two pictures show different places, the source's background moves as the driving clip's has since its
start.

Notation: T frames.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.media.footage import Footage
from kinecast.models import TPS
from kinecast.models.base import Backbone
from kinecast.models.blocks.points import hull_area
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion

BACKGROUND_DIM = 6  # numbers per frame: a 2x3 matrix
_BATCH = 8


@dataclass(frozen=True)
class Driving:
    """Motion of T frames and, if sent too, the background's, (T, 3, 3) from each frame to the first."""

    motion: Motion
    background: Tensor | None = None

    def __len__(self) -> int:
        return len(self.motion)

    def __getitem__(self, index: int | slice | Tensor) -> "Driving":
        """Return selected frames, as `Motion` does."""
        index = slice(index, index + 1 or None) if isinstance(index, int) else index
        return Driving(self.motion[index], None if self.background is None else self.background[index])

    @property
    def dim(self) -> int:
        """Numbers sent per frame."""
        return self.motion.dim + (0 if self.background is None else BACKGROUND_DIM)

    def render(self, backbone: Backbone, state: Any, source: Motion) -> Tensor:
        """Animate an encoded source: frames (T, 3, H, W) on the CPU."""
        motion = self.motion.to(backbone.device)
        if self.background is None:
            return backbone.animate(state, source, motion).cpu()
        tps = tps_with(backbone, "bg_predictor", "background")
        return tps.animate(state, source, motion, self.background.to(tps.device)).cpu()

    def retargeted(
        self,
        backbone: Backbone,
        source: Motion,
        initial: "Driving",
        options: Transfer | None = None,
        adapt_scale: bool | None = None,
    ) -> "Driving":
        """Return the motion applied to the source by `Backbone.retarget`, and the background's change likewise."""
        background = self.background
        if background is not None and initial.background is not None:
            background = torch.linalg.solve(initial.background, background)
        return Driving(backbone.retarget(source, initial.motion, options, adapt_scale)(self.motion), background)

    def avd(self, backbone: Backbone, source: Motion) -> "Driving":
        """Return motion with the source's shape in the driving's pose (arXiv 2203.14367, section 3.5)."""
        tps = tps_with(backbone, "avd_network", "avd")
        motion = tps.avd_motion(source.to(tps.device), self.motion.to(tps.device))
        return Driving(motion.to("cpu"), self.background)


@dataclass(frozen=True)
class Scene:
    """An encoded source, the true motion, the sampled futures, and `mask` (T,) of forecast frames."""

    backbone: Backbone
    picture: Tensor
    state: Any
    source_motion: Motion
    known: Driving
    futures: list[Driving]
    mask: np.ndarray

    def draw(self, chunk: slice, needs_true: bool) -> tuple[Tensor, list[Tensor]]:
        """Return frames (B, 3, H, W) of true motion if needed (otherwise of a future), and of each future."""
        predicted = torch.from_numpy(self.mask[chunk])
        true = self._render(self.known[chunk]) if needs_true else None
        rendered: list[Tensor] = []
        for future in self.futures:  # observed frames are the same in all of them: rendered once
            drawn = rendered[0] if true is None and rendered else true
            rendered.append(self._patched(drawn, future[chunk], predicted))
        return rendered[0] if true is None else true, rendered

    def _patched(self, known: Tensor | None, future: Driving, predicted: Tensor) -> Tensor:
        """Render a future's predicted frames into a copy of known observed frames, or render all of them."""
        if known is None:
            return self._render(future)
        frames = known.clone()
        if predicted.any():
            frames[predicted] = self._render(future[predicted])
        return frames

    def _render(self, part: Driving) -> Tensor:
        return part.render(self.backbone, self.state, self.source_motion)


def tps_with(backbone: Backbone, part: str, option: str) -> TPS:
    """Return the backbone if it is a TPS with a given part.

    Raises:
        KinecastError: it is not.
    """
    if not isinstance(backbone, TPS) or getattr(backbone, part) is None:
        without = " without it" if isinstance(backbone, TPS) else ""
        raise KinecastError(
            f"{option}: expected TPS weights with {part}, found {backbone.name}{without}: drop --{option}"
        )
    return backbone


def background_motion(backbone: Backbone, clip: Footage, frames: int) -> Tensor:
    """Return the background's motion from each of a clip's first T frames to the first of all, (T, 3, 3), streaming.

    Raises:
        KinecastError: not a TPS with a background predictor.
    """
    tps = tps_with(backbone, "bg_predictor", "background")
    found, first = torch.empty(frames, 3, 3), None
    start = 0
    for _, batch in replace(clip, limit=frames).batches(_BATCH):
        pictures = batch.to(tps.device)
        first = pictures[:1] if first is None else first
        found[start : start + len(batch)] = tps.background(first, pictures).cpu()
        start += len(batch)
    return found


def held_background(background: Tensor | None, forecast: np.ndarray) -> Tensor | None:
    """Return the background (T, 3, 3) as a receiver has it: in `forecast` frames, that of the last frame sent."""
    if background is None:
        return None
    last = np.maximum.accumulate(np.where(forecast, 0, np.arange(len(forecast))))
    return background[torch.from_numpy(last)]


def best_frame(motion: Motion, source: Motion, forecast: np.ndarray) -> int:
    """Return the driving frame whose pose is most like the source's (1), among those sent: not `forecast`, (T,) bool.

    Raises:
        KinecastError: the keypoints of the source, or of all frames sent, span no area, so that they define no pose.
    """
    wanted = _pose(source)
    poses = [None if hidden else _pose(motion[i]) for i, hidden in enumerate(forecast)]
    if wanted is None or all(pose is None for pose in poses):
        whose = "the source" if wanted is None else "a driving frame"
        raise KinecastError(
            f"best-frame: expected 3 or more keypoints of {whose} that span an area, found fewer or all on one line: "
            "drop --best-frame"
        )
    return int(np.argmin([np.inf if pose is None else np.square(pose - wanted).sum() for pose in poses]))


def _pose(motion: Motion) -> np.ndarray | None:
    """Return a pose for comparison: keypoints (K, 2) normalised for position and size, or head angles, (3,).

    None if the points span no area and so have no size.
    """
    if "value" not in motion.components:
        return motion.components["rotation"][0].numpy()
    try:
        area = hull_area(motion.components["value"])
    except KinecastError:
        return None
    points = motion.components["value"][0].numpy()
    return (points - points.mean(axis=0)) / max(area, 1e-8) ** 0.5
