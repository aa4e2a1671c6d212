"""Sliders as motion: head rotation, opening of eyes and lips, smile, and the strength of a clip's motion.

Notation: K expression numbers, V points (478 landmarks), T frames, M = 4 measures.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.models.mesh.controls import EYES, LIPS, OPENINGS, opening
from kinecast.models.mesh.geometry import NECK, rotation_matrix, rotation_vector
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

# The ranges of the sliders: angles in degrees, the rest as `Look` says.
RANGES: Mapping[str, tuple[float, float]] = {
    "turn": (-25, 25),
    "nod": (-15, 15),
    "tilt": (-20, 20),
    "eyes": (-1, 1),
    "lips": (-1, 1),
    "smile": (-1, 1),
    "strength": (0, 2),
}

_RIGHT_CORNER, _LEFT_CORNER = 61, 291  # of the lips
_MIDDLE = (13, 14)
_SMILE = 3  # which measure is the smile; those before are OPENINGS
_WIDEST_EYE, _WIDEST_LIPS = 0.7, 0.4  # at the ends of their sliders: of the eye's own opening, of the mouth's width
_WIDEST_SMILE = 0.22  # of the mouth's width


@dataclass(frozen=True)
class Look:
    """Where the sliders are.

    Attributes:
        turn: rotation of the head in degrees, to the right of the picture.
        nod: degrees downwards.
        tilt: degrees of roll, to the right of the picture.
        eyes: -1 closed, 0 unchanged, 1 wide open.
        lips: likewise.
        smile: corners of the mouth, -1 down, 0 unchanged, 1 up.
        strength: of the clip's or camera's motion, 1 unchanged, 0 none.

    Raises:
        KinecastError: a number outside its range.
    """

    turn: float = 0.0
    nod: float = 0.0
    tilt: float = 0.0
    eyes: float = 0.0
    lips: float = 0.0
    smile: float = 0.0
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise KinecastError(f"{name}: expected a number from {least} to {most}, found {value}: move the slider")

    @classmethod
    def parse(cls, values: Any) -> "Look":
        """Return the look in a page's JSON, with defaults for what it omits.

        Raises:
            KinecastError: not an object, an unknown name, not a number, or one out of range.
        """
        names = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or not set(values) <= set(names):
            raise KinecastError(f"sliders: expected {', '.join(names)}, found others: reload the page")
        for value in values.values():
            if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1000:
                raise KinecastError("sliders: expected numbers, found something else: reload the page")
        return cls(**{name: float(value) for name, value in values.items()})


@dataclass(frozen=True)
class Levers:
    """How expression changes four measures of a face: openings of lips and both eyes, and the smile.

    A measure is a linear function of the expression, `mean + expression @ slopes`, in units of the head. Of all changes
    of expression that change one measure and leave the others, `gains` has the likeliest if component k has a standard
    deviation in proportion to 1 / (k + 1).

    Attributes:
        mean: (M,), of the mean face.
        slopes: (K, M).
        gains: (M, K), expression for a change of one.
        mouth: the width of the mean mouth.
    """

    mean: Tensor
    slopes: Tensor
    gains: Tensor
    mouth: float

    @classmethod
    def of(cls, model: Mesh) -> "Levers":
        """Compute them from the model's mean face and its basis of expressions."""
        mean, expression = model.topology.mean.double().cpu(), model.expression
        offsets = (expression.basis / expression.weights).double().cpu()
        slopes = _measures(offsets)
        variance = (torch.arange(len(slopes), dtype=torch.float64) + 1).square().reciprocal()
        spread = variance[:, None] * slopes
        # Fewer expression numbers than measures cannot serve all: the nearest that they can do.
        gains = torch.linalg.pinv(slopes.T @ spread) @ spread.T
        return cls(_measures(mean[None])[0], slopes, gains, float(mean[_LEFT_CORNER, 0] - mean[_RIGHT_CORNER, 0]))

    def change(self, look: Look, expression: Tensor) -> Tensor:
        """Return by how much a look changes the measures (M,) of a source with an expression (K,)."""
        own = self.mean + expression.double() @ self.slopes
        change = torch.zeros_like(own)
        eyes, lips = own[EYES].clamp(min=0), own[LIPS].clamp(min=0)
        change[EYES] = look.eyes * eyes * (_WIDEST_EYE if look.eyes > 0 else 1)
        change[LIPS] = look.lips * (_WIDEST_LIPS * self.mouth if look.lips > 0 else float(lips))
        change[_SMILE] = look.smile * _WIDEST_SMILE * self.mouth
        return change

    def applied(self, change: Tensor, source: Tensor, moved: Tensor) -> Tensor:
        """Return expressions (T, K) for a change of the measures (M,), so that nothing opens less than not at all.

        Args:
            change: of the measures (M,).
            source: the source's expression (K,).
            moved: what the driving adds to it (T, K).
        """
        wanted = self.mean + (source.double() + moved.double()) @ self.slopes + change
        missing = torch.zeros_like(wanted)
        missing[:, :_SMILE] = (-wanted[:, :_SMILE]).clamp(min=0)
        return ((change + missing) @ self.gains).to(moved)


def _measures(points: Tensor) -> Tensor:
    """Return the measures (N, M) of points (N, V, 3), or of their offsets; y grows downwards."""
    openings = [opening(points, *pair) for pair in OPENINGS]
    right, left = points[:, _RIGHT_CORNER], points[:, _LEFT_CORNER]
    raised = points[:, _MIDDLE, 1].mean(dim=1) - (right[:, 1] + left[:, 1]) / 2
    return torch.stack([*openings, (left[:, 0] - right[:, 0]) / 2 + raised], dim=1)


def steered(levers: Levers, source: Motion, driving: Motion, initial: Motion, look: Look) -> Motion:
    """Return driving motion (T) changed so that, applied relatively, the source follows the sliders.

    Args:
        levers: of the model.
        source: the source's motion (1).
        driving: T frames.
        initial: the frame (1) since which changes are taken over.
        look: where the sliders are.
    """
    there, first = driving.components, initial.components
    turned = rotation_matrix(there["rotation"]) @ rotation_matrix(first["rotation"]).mT
    turned = rotation_matrix(rotation_vector(turned) * look.strength)
    head = _head(look)
    scale = first["scale"] + look.strength * (there["scale"] - first["scale"])
    # Relative motion scales shifts by source / initial: the neck's is in the initial frame's size.
    neck = torch.tensor([NECK]) @ rotation_matrix(first["rotation"])[0].mT * scale.exp()
    shift = first["shift"] + look.strength * (there["shift"] - first["shift"]) + (neck - neck @ head[0].mT)[:, :2]
    moved = look.strength * (there["expression"] - first["expression"])
    own = source.components["expression"][0]
    change = levers.change(look, own)
    if bool(change.any()):
        moved = moved + levers.applied(change, own, moved)
    components = {
        "rotation": rotation_vector(head @ turned @ rotation_matrix(first["rotation"])),
        "shift": shift,
        "scale": scale,
        "expression": first["expression"] + moved,
    }
    return replace(driving, components=components)


def _head(look: Look) -> Tensor:
    """Return the rotation (1, 3, 3) of the head's sliders; x is to the right, y down, z away from the camera."""
    nod, turn, tilt = (math.radians(value) for value in (look.nod, -look.turn, look.tilt))
    nodded, turned, tilted = (
        rotation_matrix(torch.tensor([vector])) for vector in ((nod, 0.0, 0.0), (0.0, turn, 0.0), (0.0, 0.0, tilt))
    )
    return tilted @ turned @ nodded
