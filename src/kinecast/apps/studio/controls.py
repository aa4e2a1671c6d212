"""Sliders as motion: head rotation, opening of eyes and lips, smile, and the strength of a clip's motion.

Notation: K expression numbers, T frames.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.models.mesh.controls import EYES, LIPS, Controls
from kinecast.models.mesh.geometry import NECK, rotation_matrix, rotation_vector
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

# At the ends of their sliders: of the eye's own opening, and of the mean mouth's width between its inner corners.
_WIDEST_EYE, _WIDEST_LIPS, _WIDEST_SMILE = 0.7, 0.45, 0.25


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


def _adjusted(controls: Controls, look: Look, source: Tensor, moved: Tensor) -> Tensor:
    """Return what a look adds to expressions (T, K), so that nothing opens less than not at all.

    Args:
        controls: of the model.
        look: where the sliders are.
        source: the source's expression (K,).
        moved: what the driving adds to it (T, K).
    """
    own, widths = controls.openings(source.double()).clamp(min=0), controls.widths
    change = torch.zeros_like(own)
    change[EYES] = look.eyes * own[EYES] * (_WIDEST_EYE if look.eyes > 0 else 1)
    change[LIPS] = look.lips * (_WIDEST_LIPS * widths[LIPS] if look.lips > 0 else own[LIPS])
    wanted = controls.openings(source.double() + moved.double()) + change
    change = change + (-wanted).clamp(min=0)
    smile = look.smile * _WIDEST_SMILE * widths[LIPS] * controls.smile
    return (change @ controls.gains + smile).to(moved)


def steered(controls: Controls, source: Motion, driving: Motion, initial: Motion, look: Look) -> Motion:
    """Return driving motion (T) changed so that, applied relatively, the source follows the sliders.

    Args:
        controls: of the model.
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
    if look.eyes or look.lips or look.smile:
        moved = moved + _adjusted(controls, look, own, moved)
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
