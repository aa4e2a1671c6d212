"""Codec levels as key points and matrices of GFV messages, and back, losslessly.

A level is sent as level * step, an integer multiple of 2**-precision. If the step is a power of two, as with odd
qualities, that is the level itself; otherwise the precision is as fine as the step needs. Only rotations are rounded,
to matrices fine enough to recover their levels, which the writer verifies.

Notation: K key points, D numbers per frame.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from scipy.spatial.transform import Rotation

from kinecast.codec.gfv.message import GfvMessage
from kinecast.codec.gfv.parts import PRECISIONS, WHAT, Matrices, MatrixGroup, Points
from kinecast.codec.gfv.references import BITS, Values
from kinecast.codec.quantizer import FINE, FINE_BITS, MAX_LEVEL, Layout
from kinecast.errors import KinecastError

AFFINE, ROTATION, TRANSLATION, OWN = 0, 4, 5, 7  # matrix types: docs/gfv.md has what is known of their meaning
_MARGIN = 2  # bits by which a rotation's elements are initially finer than its step
_SURE = 0.4  # of a step: tolerance of a rotation from its level, so that every machine rounds it alike
_YAW_PITCH_ROLL = (1, 0, 2)  # the components' order, of scipy's angles about x, y and z


@dataclass(frozen=True)
class Part:
    """Where some components of a motion are placed in a message.

    Attributes:
        components: their names; several share one column.
        place: "points", or the type of matrix.
        width: coordinates of a point.
        unit: numbers are divided by 2**unit, so that one precision suits all matrices of a message.
        euler: for a rotation, whether it is yaw, pitch and roll, applied about x, y and z in the order pitch, yaw,
            roll; otherwise it is a rotation vector.
    """

    components: tuple[str, ...]
    place: str | int
    width: int = 2
    unit: int = 0
    euler: bool = False


_LAYOUTS: dict[str, tuple[Part, ...]] = {
    "fomm": (Part(("value",), "points"), Part(("jacobian",), AFFINE)),
    "tps": (Part(("value",), "points"),),
    "face-vid2vid": (
        Part(("expression",), "points", width=3),
        Part(("rotation",), ROTATION, euler=True),
        Part(("translation",), TRANSLATION),
    ),
    "mesh": (
        Part(("rotation",), ROTATION),
        Part(("shift", "scale"), TRANSLATION),
        Part(("expression",), OWN, unit=5),
    ),
}


def exact_layout(layout: Layout) -> Layout:
    """Return a layout with every step rounded down to a power of two, so that levels are sent unchanged."""
    parts = [replace(each, step=1 << each.step.bit_length() - 1) for each in layout.components]
    return replace(layout, components=tuple(parts))


class FrameCoder:
    """Converts levels (D,) of a layout to messages without differences, and messages to levels.

    Unknown kinds of motion go into matrices of user-defined types, one per component.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        names = [each.name for each in layout.components]
        known = _LAYOUTS.get(layout.name, ())
        parts = [part for part in known if set(part.components) <= set(names)]
        placed = {name for part in parts for name in part.components}
        self._parts = (*parts, *(Part((name,), OWN) for name in names if name not in placed))
        sizes = [each.width * layout.keypoints for each in layout.components]
        starts = np.cumsum([0, *sizes]).tolist()
        self._slices = {name: slice(*ends) for name, ends in zip(names, pairwise(starts), strict=True)}
        self._steps = {each.name: each.step for each in layout.components}
        self._points = [part for part in self._parts if part.place == "points"]
        self._matrices = [part for part in self._parts if part.place != "points"]

    def message(self, levels: np.ndarray, finer: int = 0) -> GfvMessage:
        """Return the message of levels (D,); its matrices are `finer` bits finer than necessary.

        Raises:
            KinecastError: a coordinate is outside of the standard's range, [-1, 1].
        """
        coded = np.asarray(levels)[self.layout.order]
        points = [self._put_points(part, coded) for part in self._points]
        precision = max((self._precision(part) for part in self._matrices), default=0) + finer
        groups = tuple(self._put_group(part, coded, precision) for part in self._matrices)
        return GfvMessage(
            points=points[0] if points else None, matrices=Matrices(groups, precision) if groups else None
        )

    def exact_message(self, levels: np.ndarray) -> GfvMessage:
        """Return the message of levels (D,), its matrices fine enough to recover all of them.

        Raises:
            KinecastError: as `message`, or a matrix cannot represent a rotation.
        """
        for finer in range(0, PRECISIONS[-1] - FINE_BITS, 2):
            message = self.message(levels, finer)
            if not any(part.place == ROTATION for part in self._parts) or self._comes_back(message, levels):
                return message
        raise KinecastError(
            f"{WHAT}: expected a rotation that a matrix can represent, found a yaw of 90 degrees or more, or half a "
            "turn: write a .kcm instead"
        )

    def levels(self, values: Values) -> np.ndarray:
        """Return the levels (D,), int32, of a message.

        Raises:
            KinecastError: it does not match this layout, or its numbers are not levels.
        """
        found = self._numbers(values)
        coded = np.empty(self.layout.dim, np.int64)
        for part in self._parts:
            for name, numbers in found[part].items():
                scaled = [number * FINE / self._steps[name] for number in numbers]
                whole = [round(each) for each in scaled]
                if part.place != ROTATION and any(a != b for a, b in zip(scaled, whole, strict=True)):
                    raise KinecastError(f"{WHAT}: expected {name} in whole steps, found others: it is damaged")
                if max(map(abs, whole)) > MAX_LEVEL:
                    raise KinecastError(f"{WHAT}: expected {name} within {MAX_LEVEL} steps, found more: it is damaged")
                coded[self._slices[name]] = whole
        return self._in_order(coded).astype(np.int32)

    def vector(self, values: Values) -> np.ndarray:
        """Return the motion (D,), float32, of a message from any sender, with any steps.

        Raises:
            KinecastError: it does not match this layout.
        """
        coded = np.empty(self.layout.dim)
        for numbers in self._numbers(values).values():
            for name, each in numbers.items():
                coded[self._slices[name]] = [float(number) for number in each]
        return self._in_order(coded).astype(np.float32)

    def _in_order(self, coded: np.ndarray) -> np.ndarray:
        out = np.empty_like(coded)
        out[self.layout.order] = coded
        return out

    def _comes_back(self, message: GfvMessage, levels: np.ndarray) -> bool:
        """Return whether rounded rotations are certain to be read as their levels."""
        assert message.matrices is not None
        coded = np.asarray(levels)[self.layout.order]
        for part, group in zip(self._matrices, message.matrices.groups, strict=True):
            if part.place == ROTATION:
                name = part.components[0]
                shifted = tuple(number << BITS - message.matrices.precision for number in group.numbers)
                found = np.array([float(each) for each in _angles(shifted, part)]) * FINE / self._steps[name]
                if np.abs(found - coded[self._slices[name]]).max() > _SURE:
                    return False
        return True

    def _precision(self, part: Part) -> int:
        """Return the fractional bits that represent every level of a part; for a rotation, those tried first."""
        steps = [self._steps[name] for name in part.components]
        if part.place == ROTATION:
            return max(FINE_BITS - min(steps).bit_length() + 1 + _MARGIN, 1)
        return max(max(FINE_BITS + part.unit - (step & -step).bit_length() + 1 for step in steps), 1)

    def _put_points(self, part: Part, coded: np.ndarray) -> Points:
        name = part.components[0]
        precision = self._precision(part)
        scaled = coded[self._slices[name]] * self._steps[name] >> FINE_BITS - precision
        if np.abs(scaled).max() > 1 << precision:
            raise KinecastError(
                f"{WHAT}: expected coordinates from -1 to 1, as in the standard, found "
                f"{np.abs(scaled).max() / (1 << precision):.3g}: write a .kcm instead"
            )
        rows = tuple(tuple(row) for row in scaled.reshape(-1, part.width).tolist())
        return Points(rows, precision, z_max=1 if part.width == 3 else None)

    def _put_group(self, part: Part, coded: np.ndarray, precision: int) -> MatrixGroup:
        if part.place == ROTATION:
            name = part.components[0]
            matrix = _rotation(coded[self._slices[name]] * (self._steps[name] / FINE), part.euler)
            numbers = np.rint(matrix * 2.0**precision).astype(np.int64).ravel().tolist()
        else:
            numbers = []
            for name in part.components:
                scale = Fraction(self._steps[name] << precision, FINE << part.unit)
                numbers += [int(level * scale) for level in coded[self._slices[name]].tolist()]
        return MatrixGroup(int(part.place), self._shape(part), tuple(numbers))

    def _shape(self, part: Part) -> tuple[int, int, int]:
        size = sum(self._slices[name].stop - self._slices[name].start for name in part.components)
        shapes = {AFFINE: (size // 4, 2, 2), ROTATION: (1, 3, 3), TRANSLATION: (1, size, 1)}
        return shapes.get(int(part.place), (1, 1, size))

    def _numbers(self, values: Values) -> dict[Part, dict[str, list[Fraction]]]:
        """Return the numbers of each part's components in motion units."""
        matrices = list(values.matrices or ())
        found: dict[Part, dict[str, list[Fraction]]] = {}
        for part in self._parts:
            if part.place == "points":
                numbers = values.points if values.width == part.width else None
            else:
                match = next((each for each in matrices if each[:2] == (part.place, self._shape(part))), None)
                numbers = None if match is None else match[2]
                if match is not None:
                    matrices.remove(match)
            sizes = {name: self._slices[name].stop - self._slices[name].start for name in part.components}
            expected = 9 if part.place == ROTATION else sum(sizes.values())
            if numbers is None or len(numbers) != expected:
                place = "key points" if part.place == "points" else f"a matrix of type {part.place}"
                raise KinecastError(
                    f"{WHAT}: expected {place} for {' and '.join(part.components)} of {self.layout.name}, "
                    "found none of such a size: name the model that wrote it"
                )
            each = (
                _angles(numbers, part)
                if part.place == ROTATION
                else [Fraction(number << part.unit, 1 << BITS) for number in numbers]
            )
            found[part] = {}
            for name, size in sizes.items():
                found[part][name], each = each[:size], each[size:]
        return found


def _rotation(angles: np.ndarray, euler: bool) -> np.ndarray:
    if euler:
        return Rotation.from_euler("XYZ", angles[list(_YAW_PITCH_ROLL)]).as_matrix()
    return Rotation.from_rotvec(angles).as_matrix()


def _angles(numbers: tuple[int, ...], part: Part) -> list[Fraction]:
    """Return the rotation nearest to a matrix, as a rotation vector or as yaw, pitch and roll."""
    matrix = np.array([float(Fraction(number, 1 << BITS)) for number in numbers]).reshape(3, 3)
    left, size, right = np.linalg.svd(matrix)
    if size[1] < 0.1 or not np.isfinite(matrix).all():
        raise KinecastError(f"{WHAT}: expected a rotation, found a matrix that is far from one: it is damaged")
    left[:, 2] *= np.sign(np.linalg.det(left @ right))  # no reflection
    nearest = left @ right
    if part.euler:  # scipy warns at a yaw of 90 degrees, where only the sum of the other two is determined
        yaw = np.arcsin(np.clip(nearest[0, 2], -1, 1))
        found = np.array([yaw, *np.arctan2(-nearest[[1, 0], [2, 1]], nearest[[2, 0], [2, 0]])])
    else:
        found = Rotation.from_matrix(nearest).as_rotvec()
    return [Fraction(angle) for angle in found.tolist()]
