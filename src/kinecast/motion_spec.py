"""Specification of motion: the named components of each kind of backbone.

A new backbone registers its own with `register_motion`; no other module knows backbones by name.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kinecast.errors import KinecastError


@dataclass(frozen=True)
class Component:
    """One component of a motion.

    Attributes:
        name: of the tensor (T, K, ...).
        meaning: its meaning in a few words.
        unit: unit of its numbers.
        step: quantiser step relative to a position's, for the same error in pixels.
        optional: whether a model may omit it.
    """

    name: str
    meaning: str
    unit: str
    step: float = 1.0
    optional: bool = False


@dataclass(frozen=True)
class MotionSpec:
    """The components of one backbone's motion, in groups.

    Components of one group are interleaved keypoint by keypoint, and groups are concatenated: FOMM gives [x y j11 j12
    j21 j22] K times.
    """

    groups: tuple[tuple[Component, ...], ...]

    def __iter__(self) -> Iterator[Component]:
        """Yield all components in order."""
        return (component for group in self.groups for component in group)

    @property
    def names(self) -> tuple[str, ...]:
        """The components' names in order."""
        return tuple(component.name for component in self)


_HALF_FRAME = "half the frame's side"
_SPECS: dict[str, MotionSpec] = {
    "fomm": MotionSpec(
        (
            (
                Component("value", "keypoints, x and y", _HALF_FRAME),
                # Its offsets from the keypoint are small. Of 4, 8 and 16, 8 has the lowest rate at equal quality
                # (docs/results/rate.md).
                Component("jacobian", "Jacobians, 2x2 row by row", "1", 8, optional=True),
            ),
        )
    ),
    "tps": MotionSpec(((Component("value", "five keypoints of each spline, x and y", _HALF_FRAME),),)),
    # Canonical keypoints are not motion: the receiver computes them from the source picture.
    "face-vid2vid": MotionSpec(
        (
            (Component("expression", "offsets of the keypoints, x, y and z", _HALF_FRAME),),
            (Component("rotation", "yaw, pitch and roll", "radians", 2),),  # keypoints lie half a unit from the axis
            (Component("translation", "of the head", _HALF_FRAME),),
        )
    ),
    "mesh": MotionSpec(
        (
            (Component("rotation", "rotation vector of the head", "radians", 2),),
            (Component("shift", "place of the head, x and y", _HALF_FRAME),),
            (Component("scale", "logarithm of the head's size in half frames", "1", 2),),
            # One unit, spread over 478 points, moves each by a sixteenth of a position's unit, or less.
            (Component("expression", "principal components of the landmarks' offsets", "head sizes", 16),),
            # Steps of a pixel of 256 are seen as little as those of the head.
            (Component("scene", "how far background and shoulders have moved", _HALF_FRAME, optional=True),),
        )
    ),
}


def register_motion(backbone: str, spec: MotionSpec) -> None:
    """Register a kind of motion. Registering the same spec again has no effect.

    Raises:
        KinecastError: the name is taken by another.
    """
    if _SPECS.setdefault(backbone, spec) != spec:
        raise KinecastError(
            f"motion of backbone {backbone!r}: expected an unused name, found another spec: choose another name"
        )


def motion_spec(backbone: str) -> MotionSpec:
    """Return the specification of a backbone's motion.

    Raises:
        KinecastError: no backbone of this name is registered.
    """
    if backbone not in _SPECS:
        raise KinecastError(f"motion of backbone {backbone!r}: expected one of {', '.join(_SPECS)}")
    return _SPECS[backbone]
