"""Another person's motion on a source's face, frame after frame.

Causal, with no look-ahead, and frame by frame: the result is the same bits however a clip is split.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from kinecast.models.mesh.controls import EYES, LIPS, Controls
from kinecast.models.mesh.geometry import rotation_matrix, rotation_vector
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion

# How much of what the driving mouth deviates from the mean face by in the first frame is taken for that person's
# shape; the rest is what it is doing then. It is the share of people in the variance of the training people's motion.
_SHAPE = 0.7
_OPENS, _CLOSES = 0.2, 0.004  # how fast the estimate of an open eye follows wider and narrower ones, a frame
# Of the mean face's open eyes: a driving clip whose first frame shows narrower ones starts in a blink; a source that
# does so opens its eyes this far, or it could not blink.
_NARROWEST, _LEAST_OPEN = 0.8, 0.5


class MeshRetargeter:
    """Applies successive frames of a driving motion to a source. See `Transfer` for the options.

    Lips open as wide as the driving person's, since shut is shut for everyone, whatever both mouths did in the first
    picture. Lids open by the share that the driving person's are open of their own, as seen so far. All else moves as
    it has changed since `initial`.
    """

    def __init__(
        self, controls: Controls, source: Motion, initial: Motion, adapt_scale: bool, options: Transfer
    ) -> None:
        self.controls, self.options = controls, options
        self.source, self.initial = _frame(source), _frame(initial)
        self.ratio = (self.source["scale"] - self.initial["scale"]).exp() if adapt_scale else torch.ones(1)
        own = self.source["expression"].double()
        first = self.initial["expression"].double()
        self._rest = first - (1 - _SHAPE) * (first @ controls.mouth)
        self._own, self._openings = own, controls.openings(own)
        self._usual = float(controls.mean[EYES].mean())
        self._open = controls.openings(first)[EYES].clamp(min=_NARROWEST * self._usual)

    def __call__(self, driving: Motion) -> Motion:
        """Return the source's motion in the next T frames."""
        if self.options.mode == "absolute" or not len(driving):
            return self._in_place(driving)
        frames = [self._step(driving[i].components) for i in range(len(driving))]
        return self._in_place(replace(driving, components={n: torch.cat([f[n] for f in frames]) for n in frames[0]}))

    def _in_place(self, motion: Motion) -> Motion:
        """Leave background and shoulders where they are in the source: those of the driving clip are others."""
        parts = dict(motion.components)
        own = self.source.get("scene")
        if own is None and "scene" not in parts:
            return motion
        parts.pop("scene", None)
        if own is not None:
            parts["scene"] = own.to(parts["shift"]).expand(len(motion), -1).contiguous()
        return replace(motion, components=parts)

    def _step(self, driving: Mapping[str, Tensor]) -> dict[str, Tensor]:
        expression = self._expression(driving["expression"][0].double())
        return self._pose(driving) | {"expression": expression.to(driving["expression"])[None]}

    def _pose(self, there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        strength = self.options.pose
        source, initial = self.source, self.initial
        if self.options.mode == "mixed":
            source = initial = {name: there[name] * 0 for name in ("rotation", "shift", "scale")}
        turned = rotation_matrix(there["rotation"]) @ rotation_matrix(initial["rotation"]).mT
        turned = rotation_matrix(rotation_vector(turned) * strength) @ rotation_matrix(source["rotation"])
        ratio = self.ratio if self.options.mode == "relative" else torch.ones(1)
        return {
            "rotation": rotation_vector(turned),
            "shift": source["shift"] + (there["shift"] - initial["shift"]) * ratio * strength,
            "scale": source["scale"] + (there["scale"] - initial["scale"]) * strength,
        }

    def _expression(self, driving: Tensor) -> Tensor:
        options, controls = self.options, self.controls
        change = driving - self._rest
        mouth = change @ controls.mouth
        change = options.mouth * mouth + options.eyes * (change - mouth)
        wanted = self._wanted(controls.openings(driving))
        return self._own + change + (wanted - self._openings - change @ controls.slopes) @ controls.gains

    def _wanted(self, driving: Tensor) -> Tensor:
        """Return how far lips and eyes are to be open (C,), for the driving person's openings (C,)."""
        options, own, wanted = self.options, self._openings, self._openings.clone()
        lips = own[LIPS] + min(options.mouth, 1) * (driving[LIPS] - own[LIPS])
        wanted[LIPS] = lips * max(options.mouth, 1)
        seen = driving[EYES]
        self._open = self._open + torch.where(seen > self._open, _OPENS, _CLOSES) * (seen - self._open)
        lids = own[EYES].clamp(min=_LEAST_OPEN * self._usual) * seen / self._open
        wanted[EYES] = (own[EYES] + options.eyes * (lids - own[EYES])).clamp(min=0)
        for part, held in ((LIPS, options.lips_open), (EYES, options.eyes_open)):
            if held is not None:
                wanted[part] = held * self.controls.widths[part]
        return wanted


def _frame(motion: Motion) -> dict[str, Tensor]:
    """Return one frame's numbers by component; the expression without the dimension of frames."""
    components = dict(motion[0].components)
    return {**components, "expression": components["expression"][0]}
