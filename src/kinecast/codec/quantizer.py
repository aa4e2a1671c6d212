"""Motion vectors to integer multiples of steps and back, one step per kind of component.

Notation: T frames, D numbers per frame.
"""

from dataclasses import dataclass

import numpy as np

from kinecast.errors import KinecastError

FINE_BITS = 16
FINE = 1 << FINE_BITS  # the codec's unit of length is 2**-16 motion units: steps are integer multiples of it
MAX_LEVEL = 32767  # levels are 16-bit, so that the worst frame of MAX_DIM numbers fits one datagram
MAX_DIM = 256
MAX_COMPONENTS = 8
MAX_KEYPOINTS = 128
MAX_NESTED = 64  # finer steps of a layer in one of the layer below: bounds the window that a level is sought in


@dataclass(frozen=True)
class Component:
    """One kind of number in a motion vector: `width` numbers per keypoint, quantised by `step` / 65536 motion units."""

    name: str
    width: int
    step: int

    def __post_init__(self) -> None:
        if not (1 <= len(self.name) <= 32 and self.name.isascii() and self.name.isidentifier()):
            raise KinecastError(
                f"component name: expected 1 to 32 ASCII letters, digits or _, found {self.name[:40]!r}"
            )
        if not 1 <= self.width <= MAX_DIM:
            raise KinecastError(
                f"component {self.name}: expected 1 to {MAX_DIM} numbers per keypoint, found {self.width}"
            )
        if not 1 <= self.step <= FINE:
            raise KinecastError(
                f"component {self.name}: expected a step from 1/{FINE} to 1, found {self.step}/{FINE}: choose another"
            )


@dataclass(frozen=True)
class Layout:
    """The layout of a motion vector: `keypoints` times the numbers of each component in turn.

    FOMM is 10 x (value 2, jacobian 4), so D = 60. A plain vector is `Layout.plain(D, step)`: D keypoints of one number.
    """

    name: str
    keypoints: int
    components: tuple[Component, ...]

    def __post_init__(self) -> None:
        if not (1 <= len(self.name) <= 32 and self.name.isascii() and self.name.isprintable()):
            raise KinecastError(f"layout name: expected 1 to 32 printable ASCII characters, found {self.name[:40]!r}")
        if not 1 <= self.keypoints <= MAX_DIM or not 1 <= len(self.components) <= MAX_COMPONENTS:
            raise KinecastError(
                f"layout {self.name}: expected 1 to {MAX_DIM} keypoints of 1 to {MAX_COMPONENTS} components, "
                f"found {self.keypoints} of {len(self.components)}"
            )
        names = [component.name for component in self.components]
        if len(set(names)) < len(names):
            raise KinecastError(f"layout {self.name}: expected components of different names, found {', '.join(names)}")
        if self.dim > MAX_DIM:
            raise KinecastError(
                f"layout {self.name}: expected at most {MAX_DIM} numbers per frame (every frame must fit a packet), "
                f"found {self.dim}"
            )

    @staticmethod
    def fomm(keypoints: int = 10, value: float = 1 / 256, jacobian: float = 1 / 64) -> "Layout":
        """Return FOMM's layout with steps in motion units."""
        parts = Component("value", 2, to_fine(value)), Component("jacobian", 4, to_fine(jacobian))
        return Layout("fomm", keypoints, parts)

    @staticmethod
    def plain(dim: int, step: float = 1 / 256, name: str = "plain") -> "Layout":
        """Return the layout of a vector of D numbers of one kind."""
        return Layout(name, dim, (Component("value", 1, to_fine(step)),))

    @property
    def dim(self) -> int:
        """D, the numbers per frame."""
        return self.keypoints * sum(component.width for component in self.components)

    @property
    def steps(self) -> np.ndarray:
        """(D,) int64: the step of each number in the vector's order, in 2**-16 motion units."""
        one = np.repeat([c.step for c in self.components], [c.width for c in self.components])
        return np.tile(one, self.keypoints).astype(np.int64)

    @property
    def order(self) -> np.ndarray:
        """(D,) int64: coding position to vector position: all keypoints of the first component, then of the next.

        Positions precede Jacobians, which are predictable from the head's position.
        """
        group = np.tile(np.repeat(np.arange(len(self.components)), [c.width for c in self.components]), self.keypoints)
        return np.argsort(group, kind="stable").astype(np.int64)

    @property
    def groups(self) -> np.ndarray:
        """(D,) int64: the component's number, in coding order."""
        return np.repeat(np.arange(len(self.components)), [c.width * self.keypoints for c in self.components])

    @property
    def owners(self) -> np.ndarray:
        """(D,) int64: the keypoint of each number, in coding order."""
        return np.concatenate([np.repeat(np.arange(self.keypoints), c.width) for c in self.components])


def to_fine(step: float) -> int:
    """Return a step in motion units as an integer multiple of 2**-16."""
    if not np.isfinite(step) or not 0 < step <= 1:
        raise KinecastError(f"step: expected a number above 0, at most 1 motion unit, found {step}")
    return max(1, round(step * FINE))


def quantize(vectors: np.ndarray, layout: Layout) -> np.ndarray:
    """Round motion vectors (T, D) to levels (T, D) int32, halves to even.

    Scaling by 2**16 and division by the step are done in float64, where a float32 number times 2**16 is exact, so the
    same input gives the same levels on every machine.

    Raises:
        KinecastError: a different D, a NaN or infinite number, or a level that does not fit 16 bits.
    """
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or vectors.shape[1] != layout.dim or vectors.dtype.kind not in "fiu":
        raise KinecastError(
            f"motion vectors of layout {layout.name}: expected numbers (T, {layout.dim}), "
            f"found {vectors.dtype} {vectors.shape}"
        )
    if not np.isfinite(vectors).all():
        frame = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise KinecastError(
            f"motion vectors: expected finite numbers, found NaN or infinity in frame {frame}: detect again"
        )
    levels = np.rint(vectors.astype(np.float64) * FINE / layout.steps)
    if levels.size and np.abs(levels).max() > MAX_LEVEL:
        frame, index = (int(i) for i in np.unravel_index(np.abs(levels).argmax(), levels.shape))
        limit = MAX_LEVEL * int(layout.steps[index]) / FINE
        raise KinecastError(
            f"motion vectors: expected numbers within ±{limit:g} at this step, found {vectors[frame, index]:g} in "
            f"frame {frame}: choose a larger step"
        )
    return levels.astype(np.int32)


def dequantize(levels: np.ndarray, layout: Layout) -> np.ndarray:
    """Return the motion vectors (T, D) float32 that levels (T, D) represent."""
    return (levels.astype(np.float64) * layout.steps / FINE).astype(np.float32)


def check_nested(lower: Layout, upper: Layout) -> None:
    """Check that the steps of `upper` are at most those of `lower`, and not too much finer.

    Raises:
        KinecastError: they are not, or the layouts differ in more than steps.
    """
    for below, above in zip(lower.components, upper.components, strict=False):
        if not above.step <= below.step <= MAX_NESTED * above.step:
            raise KinecastError(
                f"layers: expected steps at most as wide as those of the layer below, and at least 1/{MAX_NESTED} of "
                f"them, found {above.step} over {below.step} for {above.name}"
            )
    shapes = [[(part.name, part.width) for part in one.components] for one in (lower, upper)]
    if shapes[0] != shapes[1] or lower.keypoints != upper.keypoints:
        raise KinecastError("layers: expected layouts that differ in their steps alone, found others")


def coarser(levels: np.ndarray, upper: Layout, lower: Layout) -> np.ndarray:
    """Return the levels (T, D) int32 of a lower layer's layout in whose cells those of an upper one are."""
    return ((2 * levels.astype(np.int64) * upper.steps + lower.steps) // (2 * lower.steps)).astype(np.int32)


def windows(levels: np.ndarray, lower: Layout, upper: Layout) -> np.ndarray:
    """Return which levels of an upper layer are in the cells of a lower one's levels (D,): (D, 2), least and greatest.

    Raises:
        KinecastError: none is within 16 bits: no encoder writes such levels.
    """
    middle = 2 * levels.astype(np.int64)
    edges = -((1 - np.stack([middle, middle + 2], 1)) * lower.steps[:, None] // (2 * upper.steps[:, None]))
    found = np.clip(np.stack([edges[:, 0], edges[:, 1] - 1], 1), -MAX_LEVEL, MAX_LEVEL)
    if (edges[:, 0] > MAX_LEVEL).any() or (edges[:, 1] - 1 < -MAX_LEVEL).any():
        raise KinecastError("layers: expected levels within 16 bits in each layer, found others: it is damaged")
    return found
