"""GFV messages of every kind, drawn by Hypothesis or by a seed."""

from random import Random

import numpy as np
from hypothesis import strategies as st

from kinecast.codec import Layout
from kinecast.codec.gfv import ChromaKey, GfvEncoder, GfvMessage, Matrices, MatrixGroup, Network, Points, Sender
from kinecast.codec.quantizer import Component, to_fine

_SIZES = st.integers(0, 300) | st.integers(0, (1 << 32) - 2)
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@st.composite
def signed(draw: st.DrawFn, most: int = (1 << 32) - 2) -> int:
    return draw(_SIZES.map(lambda n: min(n, most))) * draw(st.sampled_from((1, -1)))


@st.composite
def points(draw: st.DrawFn, like: Points | None = None) -> Points:
    predicted = draw(st.booleans()) if like is None else True
    precision = draw(st.integers(1, 32)) if like is None else like.precision
    z_max = draw(st.none() | st.integers(1, 1 << 16)) if like is None else like.z_max
    count = draw(st.integers(1, 6)) if like is None else len(like.numbers)
    rows = tuple(tuple(draw(signed()) for _ in range(2 if z_max is None else 3)) for _ in range(count))
    return Points(rows, precision, z_max, predicted)


@st.composite
def group(draw: st.DrawFn, beside: Points | None, precision: int) -> MatrixGroup:
    kind = draw(st.integers(2 if beside is None else 0, 63))
    side = draw(st.sampled_from((2, 3))) if beside is None else beside.width
    width, height = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    count = draw(st.integers(1, 8)) if kind in (0, 1) or kind > 6 else 1
    if kind in (0, 1, 4, 5, 6):
        width, height = 1 if kind in (5, 6) else side, side
    most = min(((1 << 32) - 1 << precision) - 1, 1 << 62)
    numbers = tuple(draw(signed(most)) for _ in range(count * width * height))
    return MatrixGroup(kind, (count, height, width), numbers)


@st.composite
def matrices(draw: st.DrawFn, beside: Points | None) -> Matrices:
    precision = draw(st.integers(1, 32))
    return Matrices(tuple(draw(st.lists(group(beside, precision), min_size=1, max_size=3))), precision)


@st.composite
def base_messages(draw: st.DrawFn) -> GfvMessage:
    address = st.builds(Network, tag=_TEXT, uri=_TEXT)
    network = draw(st.none() | address | st.builds(Network, data=st.binary(max_size=20)))
    byte = st.none() | st.integers(0, 255)
    threshold = st.none() | _SIZES
    key = st.builds(ChromaKey, st.tuples(byte, byte, byte), st.tuples(threshold, threshold))
    own = draw(st.none() | points())
    others = draw(matrices(own) if own is None else st.none() | matrices(own))
    low = draw(st.booleans())
    return GfvMessage(draw(_SIZES), 0, True, network, draw(st.none() | key), False, low, own, others)


@st.composite
def later_messages(draw: st.DrawFn, base: GfvMessage) -> GfvMessage:
    """A message of another picture, of differences or not."""
    own = None if base.points is None else draw(points() | points(base.points))
    if own is not None and own.predicted and (own.precision, own.z_max) != (base.points.precision, base.points.z_max):  # type: ignore[union-attr]
        own = Points(own.numbers, own.precision, own.z_max)
    others = draw(matrices(own) if own is None else st.none() | matrices(own))
    if base.matrices is not None and draw(st.booleans()):
        precision = base.matrices.precision
        changed = (
            MatrixGroup(g.type, g.shape, tuple(draw(signed((1 << 31) - 1)) for _ in g.numbers))
            for g in base.matrices.groups
        )
        others = Matrices(tuple(changed), precision, predicted=True)
    fusion, low, count = draw(st.booleans()), draw(st.booleans()), draw(_SIZES)
    return GfvMessage(base.id, count, False, None, None, fusion, low, own, others)


def layout_of(kind: str, quality: int = 5) -> Layout:
    """Return a layout as `layout_for_quality` makes it: of fomm, tps, face-vid2vid or mesh, or of a kind unknown."""
    step = 2.0 ** -(4.5 + quality / 2)
    parts = {
        "fomm": (10, (("value", 2, 1), ("jacobian", 4, 8))),
        "tps": (10, (("value", 2, 1),)),
        "face-vid2vid": (1, (("expression", 45, 1), ("rotation", 3, 2), ("translation", 3, 1))),
        "mesh": (1, (("rotation", 3, 2), ("shift", 2, 1), ("scale", 1, 2), ("expression", 32, 16))),
    }.get(kind, (3, (("place", 2, 1), ("glow", 1, 4))))
    made = tuple(Component(name, width, to_fine(step * wide)) for name, width, wide in parts[1])
    return Layout(kind, parts[0], made)


def payloads_of(kind: str, frames: int = 12, seed: int = 0) -> list[bytes]:
    """Return the messages of a sender of a kind of motion."""
    layout, random = layout_of(kind), Random(seed)
    encoder = GfvEncoder(layout, Sender(layout, bytes(range(32)), "tiny"))
    levels = [random.randrange(-60, 60) for _ in range(layout.dim)]
    found = []
    for _ in range(frames):
        levels = [max(-60, min(60, level + random.randrange(-2, 3))) for level in levels]
        found.append(encoder.push(np.array(levels)))
    return found
