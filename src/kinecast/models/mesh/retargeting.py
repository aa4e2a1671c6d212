"""Another person's motion on a source's face, frame after frame.

Causal, with no look-ahead, and frame by frame: the result is the same bits however a clip is split.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from kinecast.models.mesh.controls import EYES, LIPS, Controls
from kinecast.models.mesh.geometry import rotation_matrix, rotation_vector
from kinecast.models.mesh.scores import JAW, SCORES, MouthScores
from kinecast.models.transfer import Transfer
from kinecast.motion import Motion

# How much of what the driving mouth deviates from the mean face by in the first frame is taken for that person's
# shape; the rest is what it is doing then. It is the share of people in the variance of the training people's motion.
_SHAPE = 0.7
_OPENS, _CLOSES = 0.2, 0.004  # how fast the estimate of an open eye follows wider and narrower ones, a frame
# Of the mean face's open eyes: a driving clip whose first frame shows narrower ones starts in a blink; a source that
# does so opens its eyes this far, or it could not blink.
_NARROWEST, _LEAST_OPEN = 0.8, 0.5
_FIRST_STEPS = 3  # to the first frame's mouth; from frame to frame one is enough
# Radians out of the picture's plane by which a head can turn away from the source's and still be shown, and where it
# ends however far the driving one turns.
_TURNS, _MOST_TURN = 0.52, 0.79
# Radians of turn that count as much as a mouth open as wide as it is; by how much another frame than the first is to be
# better to begin from.
_TURN_COUNTS, _CLEARLY = 0.17, 1.0


class MeshRetargeter:
    """Applies successive frames of a driving motion to a source. See `Transfer` for the options.

    Lips open as wide as the driving person's, since shut is shut for everyone, whatever both mouths did in the first
    picture. Lids open by the share that the driving person's are open of their own, as seen so far. The mouth scores
    as the driving one does (`MouthScores`); where the source smiles or purses its lips, that is kept beneath. All else
    moves as it has changed since `initial`. A head turns as far from the source's as can be shown.
    """

    def __init__(
        self,
        controls: Controls,
        scores: MouthScores,
        source: Motion,
        initial: Motion,
        adapt_scale: bool,
        options: Transfer,
    ) -> None:
        self.controls, self.scores, self.options = controls, scores, options
        self.source, self.initial = _frame(source), _frame(initial)
        self.ratio = (self.source["scale"] - self.initial["scale"]).exp() if adapt_scale else torch.ones(1)
        own = self.source["expression"].double()
        first = self.initial["expression"].double()
        self._rest = first - (1 - _SHAPE) * (first @ controls.mouth)
        self._own, self._openings = own, controls.openings(own)
        self._usual = float(controls.mean[EYES].mean())
        self._open = controls.openings(first)[EYES].clamp(min=_NARROWEST * self._usual)
        self._own_scores = scores(own, rotation_matrix(self.source["rotation"]))
        self._counts = torch.ones(len(SCORES))
        self._counts[JAW] = float(options.lips_open is None)
        self._correction: Tensor | None = None  # of the last frame's mouth

    def __call__(self, driving: Motion) -> Motion:
        """Return the source's motion in the next T frames."""
        if self.options.mode == "absolute" or not len(driving):
            return in_place(driving, self.source)
        frames = [self._step(driving[i].components) for i in range(len(driving))]
        moved = replace(driving, components={n: torch.cat([f[n] for f in frames]) for n in frames[0]})
        return in_place(moved, self.source)

    def _step(self, driving: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pose = self._pose(driving)
        expression = self._expression(driving["expression"][0].double())
        expression = expression + self._corrected(expression.float(), pose["rotation"], driving)
        return pose | {"expression": expression.to(driving["expression"])[None]}

    def _corrected(self, expression: Tensor, rotation: Tensor, driving: Mapping[str, Tensor]) -> Tensor:
        """Return what makes the mouth of an expression (K,) score as the driving one's."""
        strength = self.options.mouth
        if strength == 0:
            return torch.zeros_like(expression)
        own = self._own_scores
        wanted = self.scores(driving["expression"][0], rotation_matrix(driving["rotation"]))
        kept = own.clone()
        kept[JAW] = 0
        wanted = (own + strength * (kept + (1 - kept) * wanted - own)).clamp(0, 1)
        turned = rotation_matrix(rotation)
        steps = _FIRST_STEPS if self._correction is None else 1
        correction = torch.zeros_like(expression) if self._correction is None else self._correction
        for _ in range(steps):
            correction = self.scores.step(expression, turned, correction, wanted, self._counts)
        self._correction = correction
        return correction

    def _pose(self, there: Mapping[str, Tensor]) -> dict[str, Tensor]:
        strength = self.options.pose
        source, initial = self.source, self.initial
        if self.options.mode == "mixed":
            source = initial = {name: there[name] * 0 for name in ("rotation", "shift", "scale")}
        own = rotation_matrix(self.source["rotation"])
        turned = rotation_matrix(there["rotation"]) @ rotation_matrix(initial["rotation"]).mT
        turned = rotation_matrix(rotation_vector(turned) * strength) @ rotation_matrix(source["rotation"])
        turned = rotation_matrix(_shown(rotation_vector(turned @ own.mT))) @ own
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


def most_alike(controls: Controls, source: Motion, driving: Motion) -> int:
    """Return which frame of a driving clip (T) changes are best counted from on a source (1).

    It is the one whose head is turned most as the source's, whose eyes are open, whose mouth is shut, and which shows
    the driving person as the clip mostly does, hence without a hand before the face; but the first one, at which the
    source's own picture is shown, unless another is clearly better.
    """
    turned = rotation_matrix(driving.components["rotation"]) @ rotation_matrix(source.components["rotation"]).mT
    expression = driving.components["expression"].double()
    openings = controls.openings(expression)
    usual = openings[:, EYES].mean(dim=1).quantile(0.75)
    unusual = (expression - expression.median(dim=0).values).norm(dim=1)
    cost = (
        rotation_vector(turned)[:, :2].norm(dim=1).double() / _TURN_COUNTS
        + 2 * (1 - openings[:, EYES].mean(dim=1) / usual).clamp(min=0)
        + openings[:, LIPS].clamp(min=0) / controls.widths[LIPS]
        + unusual / unusual.mean().clamp(min=1e-6) / 2
    )
    cost = cost.where(driving.valid_frames(), torch.inf)
    best = int((cost <= cost.min() + 1e-3).nonzero()[0])  # the first of those that are alike
    return 0 if cost[0] - cost[best] < _CLEARLY else best


def in_place(motion: Motion, source: Mapping[str, Tensor]) -> Motion:
    """Leave background and shoulders where a source's components have them: those of the driving clip are others."""
    if "scene" not in source.keys() | motion.components.keys():
        return motion
    parts = {name: part for name, part in motion.components.items() if name != "scene"}
    if "scene" in source:
        parts["scene"] = source["scene"].to(parts["shift"]).expand(len(motion), -1).contiguous()
    return replace(motion, components=parts)


def _shown(turn: Tensor) -> Tensor:
    """Limit a turn (1, 3), a rotation vector, softly in what is out of the picture's plane."""
    angle = turn[:, :2].norm(dim=1)
    room = _MOST_TURN - _TURNS
    limited = torch.where(angle > _TURNS, _TURNS + room * ((angle - _TURNS) / room).tanh(), angle)
    share = limited / angle.clamp(min=1e-9)
    return torch.cat((turn[:, :2] * share[:, None], turn[:, 2:]), dim=1)


def _frame(motion: Motion) -> dict[str, Tensor]:
    """Return one frame's numbers by component; the expression without the dimension of frames."""
    components = dict(motion[0].components)
    return {**components, "expression": components["expression"][0]}
