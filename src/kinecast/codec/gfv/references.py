"""References of coded differences: the numbers of the base picture and of the previous message, as integers.

Notation: K key points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kinecast.codec.gfv.message import GfvMessage
from kinecast.codec.gfv.parts import WHAT, Matrices, MatrixGroup, Points
from kinecast.errors import KinecastError

BITS = 32  # fractional bits: no message has more, so every sum is exact

Numbers = tuple[int, ...]  # times 2**BITS


@dataclass(frozen=True)
class Values:
    """A message's values with differences resolved: integers in units of 2**-BITS.

    `points` are the coordinates of all key points in turn, `width` of each; `matrices` the elements of each type's.
    Either is None where the message has none.
    """

    points: Numbers | None = None
    width: int = 0
    matrices: tuple[tuple[int, tuple[int, int, int], Numbers], ...] | None = None  # type, shape and elements


class References:
    """The numbers that sender and receiver share."""

    def __init__(self) -> None:
        self.base_message: GfvMessage | None = None
        self._base = self._last = Values()

    def take(self, message: GfvMessage) -> Values:
        """Resolve a message and keep it as a reference.

        Raises:
            KinecastError: its differences refer to something never sent, or of another shape.
        """
        points = None if message.points is None else self._points(message, message.points)
        matrices = None if message.matrices is None else self._matrices(message, message.matrices)
        width = 0 if message.points is None else message.points.width
        found = Values(points, width, matrices)
        if message.base:
            self.base_message, self._base = message, found
            self._last = found
        else:
            self._last = Values(
                self._last.points if points is None else points,
                self._last.width if points is None else width,
                self._last.matrices if matrices is None else matrices,
            )
        return found

    def predicted(self, message: GfvMessage, points: bool, matrices: bool) -> GfvMessage | None:
        """Return a message without differences as one with differences, in its points or matrices.

        None if it has no such part or there is no reference: readers use the base picture's precision for differences.
        """
        base = self.base_message
        if points:
            theirs = None if base is None else base.points
            differences = self._differences(message, theirs)
            if differences is None:
                return None
            message = replace(message, points=differences)
        if matrices:
            fine = None if base is None or base.matrices is None else base.matrices.precision
            if message.base or message.matrices is None or message.matrices.precision != fine:
                return None
            changed = _matrix_differences(message.matrices, self._start(message))
            if changed is None:
                return None
            message = replace(message, matrices=changed)
        return message

    def _start(self, message: GfvMessage) -> Values:
        return self._base if message.count == 0 else self._last

    def _points(self, message: GfvMessage, points: Points) -> Numbers:
        shift = BITS - points.precision
        own = [number << shift for point in points.numbers for number in point]
        if not points.predicted:
            return tuple(own)
        if message.base:
            for index in range(points.width, len(own)):
                own[index] += own[index - points.width]
            return tuple(own)
        start = self._start(message)
        if start.points is None or len(start.points) != len(own) or start.width != points.width:
            raise KinecastError(f"{WHAT}: expected as many key points as differences to them, found others")
        return tuple(number + to for number, to in zip(own, start.points, strict=True))

    def _matrices(
        self, message: GfvMessage, matrices: Matrices
    ) -> tuple[tuple[int, tuple[int, int, int], Numbers], ...]:
        shift = BITS - matrices.precision
        groups = [(group.type, group.shape, tuple(n << shift for n in group.numbers)) for group in matrices.groups]
        if not matrices.predicted:
            return tuple(groups)
        start = self._start(message).matrices
        if start is None or [each[:2] for each in start] != [each[:2] for each in groups]:
            raise KinecastError(f"{WHAT}: expected matrices of the types and shapes of differences, found others")
        return tuple(
            (kind, shape, tuple(number + to for number, to in zip(numbers, before[2], strict=True)))
            for (kind, shape, numbers), before in zip(groups, start, strict=True)
        )

    def _differences(self, message: GfvMessage, base: Points | None) -> Points | None:
        points = message.points
        if points is None:
            return None
        own = [number for point in points.numbers for number in point]
        width = points.width
        if message.base:
            differences: list[int] | None = own[:width] + [n - own[index] for index, n in enumerate(own[width:])]
        elif base is None or (base.precision, base.z_max, len(base.numbers)) != (
            points.precision,
            points.z_max,
            len(points.numbers),
        ):
            return None
        else:
            differences = _exact(own, self._start(message).points, points.precision)
        if differences is None:
            return None
        rows = tuple(tuple(differences[i : i + width]) for i in range(0, len(differences), width))
        return replace(points, numbers=rows, predicted=True)


def _matrix_differences(matrices: Matrices, start: Values) -> Matrices | None:
    before = start.matrices
    if before is None or [each[:2] for each in before] != [(g.type, g.shape) for g in matrices.groups]:
        return None
    groups = []
    for group, (_, _, numbers) in zip(matrices.groups, before, strict=True):
        differences = _exact(group.numbers, numbers, matrices.precision)
        if differences is None:
            return None
        groups.append(MatrixGroup(group.type, group.shape, tuple(differences)))
    return Matrices(tuple(groups), matrices.precision, predicted=True)


def _exact(numbers: Sequence[int], start: Numbers | None, precision: int) -> list[int] | None:
    """Return differences in units of a precision; None if `start` has others, or a finer one."""
    shift = BITS - precision
    if start is None or len(start) != len(numbers) or any(to & (1 << shift) - 1 for to in start):
        return None
    return [number - (to >> shift) for number, to in zip(numbers, start, strict=True)]
