"""The parts of a GFV message: network address, chroma key, key points and matrices, each with its coding.

See message.py. Numbers are integers: the coded values times 2 to the power of the precision. Notation: K key points.
"""

from dataclasses import dataclass

from kinecast.codec.gfv.bits import BitReader, BitWriter
from kinecast.errors import KinecastError

PRECISIONS = range(1, 33)  # fractional bits
MOST_NUMBERS = 1 << 14  # of one message: bounds the work that a few hostile bytes can cause
_MOST_SIDE = 1 << 10  # rows or columns of a matrix, types, and matrices of a type of its own
_MOST_Z = 1 << 16
_BYTES, _ADDRESS = 0, 1  # ways to name a network
WHAT = "GFV message"
OF_POINTS, SIZED, OF_SPACE = (0, 1), (2, 3), (4, 5, 6)  # matrix types, by what determines their size
_SQUARE = (0, 1, 4)  # square types; 5 and 6 have one column


@dataclass(frozen=True)
class Network:
    """Which network generates the pictures: its address, or the network itself as `data` (ISO/IEC 15938-17).

    `tag` is the kind of network (a tag URI, RFC 4151), `uri` its address.
    """

    tag: str = ""
    uri: str = ""
    data: bytes | None = None

    def __post_init__(self) -> None:
        if self.data is not None and (self.tag or self.uri):
            raise KinecastError(f"{WHAT}: expected a network as bytes or as an address, found both: drop one")
        if "\0" in self.tag + self.uri:
            raise KinecastError(f"{WHAT}: expected an address without zero characters, found one")


@dataclass(frozen=True)
class ChromaKey:
    """The colour of the background: Y, Cb and Cr, 8 bits each, and two thresholds; None for the default."""

    values: tuple[int | None, int | None, int | None] = (None, None, None)
    thresholds: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class Points:
    """Coordinates of key points, x, y and perhaps z of each: `numbers`, K of 2 or 3, over 2**precision.

    If `predicted`, they are differences: in a base picture to the previous point (0 for the first), otherwise to the
    base picture's point if the message's `count` is 0, or to the previous message's. `z_max` is None without z.
    """

    numbers: tuple[tuple[int, ...], ...]
    precision: int
    z_max: int | None = None
    predicted: bool = False

    def __post_init__(self) -> None:
        _check_precision(self.precision)
        _check_count(len(self.numbers), "key points", MOST_NUMBERS)
        if any(len(point) != self.width for point in self.numbers):
            raise KinecastError(f"{WHAT}: expected {self.width} coordinates of each key point, found others")
        if self.z_max is not None:
            _check_count(self.z_max, "z at most", _MOST_Z)

    @property
    def width(self) -> int:
        """Coordinates per point."""
        return 2 if self.z_max is None else 3


@dataclass(frozen=True)
class MatrixGroup:
    """Matrices of one type: `shape` is their number, height and width; `numbers` all elements, row by row.

    Types 0 and 1 belong to key points (2x2, or 3x3 with z), 2 and 3 are one matrix of any size, 4 is one of the size of
    those, 5 and 6 one column of that height; types from 7 on may have any number of matrices of any size.
    """

    type: int
    shape: tuple[int, int, int]
    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        count, height, width = self.shape
        if not 0 <= self.type < 64:
            raise KinecastError(f"{WHAT}: expected a matrix type from 0 to 63, found {self.type}")
        _check_count(count, "matrices of a type", MOST_NUMBERS)
        for side in (height, width):
            _check_count(side, "rows and columns", _MOST_SIDE)
        if len(self.numbers) != count * height * width:
            raise KinecastError(f"{WHAT}: expected {self.shape} elements, found {len(self.numbers)}")
        right = self.type >= 7 or self.type in OF_POINTS or count == 1
        if self.type in (*OF_POINTS, *OF_SPACE):
            right = right and height in (2, 3) and width == (height if self.type in _SQUARE else 1)
        if not right:
            raise KinecastError(f"{WHAT}: expected matrices of a shape of type {self.type}, found {self.shape}")


@dataclass(frozen=True)
class Matrices:
    """Matrices of one or more types, elements over 2**precision; where `predicted`, differences, as with `Points`.

    Each element is coded as the integer and fractional parts of its magnitude, and a sign.
    """

    groups: tuple[MatrixGroup, ...]
    precision: int
    predicted: bool = False

    def __post_init__(self) -> None:
        _check_precision(self.precision)
        _check_count(len(self.groups), "types of matrices", _MOST_SIDE)
        _check_count(sum(len(group.numbers) for group in self.groups), "elements", MOST_NUMBERS)


def put_network(out: BitWriter, network: Network | None) -> None:
    """Write the flag for a network, and its address."""
    out.flag(network is not None)
    if network is None:
        return
    out.ue(_ADDRESS if network.data is None else _BYTES)
    if network.data is None:
        out.align()
        for byte in network.tag.encode() + b"\0" + network.uri.encode() + b"\0":
            out.u(8, byte)


def take_network(bits: BitReader) -> Network | None:
    """Read what `put_network` wrote; a network's bytes come last and are read separately."""
    if not bits.flag():
        return None
    if bits.ue(_ADDRESS) == _BYTES:
        return Network(data=b"")  # they come last
    bits.align()
    return Network(_take_text(bits), _take_text(bits))


def _take_text(bits: BitReader) -> str:
    raw = bytes(iter(lambda: bits.u(8), 0))
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise KinecastError(f"{WHAT}: expected an address in UTF-8, found other bytes: it is damaged") from error


def put_chroma_key(out: BitWriter, key: ChromaKey | None) -> None:
    """Write the background's colour, if it is given."""
    out.flag(key is not None)
    if key is None:
        return
    for value in key.values:
        out.flag(value is not None)
        if value is not None:
            out.u(8, value)
    for threshold in key.thresholds:
        out.flag(threshold is not None)
        if threshold is not None:
            out.ue(threshold)


def take_chroma_key(bits: BitReader) -> ChromaKey | None:
    """Read what `put_chroma_key` wrote."""
    if not bits.flag():
        return None
    y, cb, cr = (bits.u(8) if bits.flag() else None for _ in range(3))
    low, high = (bits.ue() if bits.flag() else None for _ in range(2))
    return ChromaKey((y, cb, cr), (low, high))


def put_points(out: BitWriter, points: Points, base: bool) -> None:
    """Write key points, in a base picture or another."""
    out.flag(points.predicted)
    if base or not points.predicted:
        out.ue(points.precision - 1)
        out.ue(len(points.numbers) - 1)
        out.flag(points.z_max is not None)
        if points.z_max is not None:
            out.ue(points.z_max - 1)
    for number in (number for point in points.numbers for number in point):
        out.ue(abs(number))
        if number:
            out.flag(number < 0)


def take_points(bits: BitReader, is_base: bool, base: Points | None) -> Points:
    """Read key points; `base` are those of the last base picture, if it had any."""
    predicted = bits.flag()
    if is_base or not predicted:
        precision = bits.ue(PRECISIONS[-1] - 1) + 1
        count = bits.ue(MOST_NUMBERS - 1) + 1
        z_max = bits.ue(_MOST_Z - 1) + 1 if bits.flag() else None
    elif base is None:
        raise KinecastError(f"{WHAT}: expected key points of a base picture before differences, found none")
    else:
        precision, count, z_max = base.precision, len(base.numbers), base.z_max
    width = 2 if z_max is None else 3
    numbers = tuple(tuple(_signed(bits, bits.ue()) for _ in range(width)) for _ in range(count))
    return Points(numbers, precision, z_max, predicted)


def put_matrices(out: BitWriter, matrices: Matrices, base: bool, points: Points | None) -> None:
    """Write matrices, in a base picture or another, beside the message's key points."""
    if not base:
        out.flag(matrices.predicted)
    if not matrices.predicted:
        out.ue(matrices.precision - 1)
        out.ue(len(matrices.groups) - 1)
        for group in matrices.groups:
            _put_shape(out, group, points)
    for number in (number for group in matrices.groups for number in group.numbers):
        whole, fraction = divmod(abs(number), 1 << matrices.precision)
        out.ue(whole)
        if matrices.predicted:
            out.ue(fraction)
        else:
            out.u(matrices.precision, fraction)
        if number:
            out.flag(number < 0)


def _put_shape(out: BitWriter, group: MatrixGroup, points: Points | None) -> None:
    count, height, width = group.shape
    out.u(6, group.type)
    if group.type in OF_POINTS:
        known = len(points.numbers) if points else 0
        out.flag(count == known)
        if count != known:
            out.ue(count - 1 - (count > known))
        return
    if group.type in OF_SPACE:
        if points is None:
            out.flag(height == 3)
        return
    if group.type not in SIZED:
        out.ue(count - 1)
    out.ue(width - 1)
    out.ue(height - 1)


def take_matrices(bits: BitReader, is_base: bool, base: Matrices | None, points: Points | None) -> Matrices:
    """Read matrices; `base` are those of the last base picture, if it had any, `points` those of the same message."""
    predicted = not is_base and bits.flag()
    if not predicted:
        precision = bits.ue(PRECISIONS[-1] - 1) + 1
        kinds = [_take_shape(bits, points) for _ in range(bits.ue(_MOST_SIDE - 1) + 1)]
    elif base is None:
        raise KinecastError(f"{WHAT}: expected matrices of a base picture before differences, found none")
    else:
        precision, kinds = base.precision, [(group.type, group.shape) for group in base.groups]
    _check_count(sum(count * height * width for _, (count, height, width) in kinds), "elements", MOST_NUMBERS)
    groups = []
    for kind, shape in kinds:
        elements = range(shape[0] * shape[1] * shape[2])
        groups.append(MatrixGroup(kind, shape, tuple(_take_element(bits, precision, predicted) for _ in elements)))
    return Matrices(tuple(groups), precision, predicted)


def _take_shape(bits: BitReader, points: Points | None) -> tuple[int, tuple[int, int, int]]:
    kind = bits.u(6)
    side = points.width if points else 2
    if kind in OF_POINTS:
        if points is None:
            raise KinecastError(f"{WHAT}: expected key points with matrices of type {kind}, found none: it is damaged")
        known = count = len(points.numbers)
        if not bits.flag():
            count = bits.ue(_MOST_SIDE - 1)
            count += 1 if count < known - 1 else 2
        return kind, (count, side, side)
    if kind in OF_SPACE:
        side = side if points else 2 + bits.flag()
        return kind, (1, side, side if kind in _SQUARE else 1)
    count = 1 if kind in SIZED else bits.ue(_MOST_SIDE - 1) + 1
    width, height = bits.ue(_MOST_SIDE - 1) + 1, bits.ue(_MOST_SIDE - 1) + 1
    return kind, (count, height, width)


def _take_element(bits: BitReader, precision: int, predicted: bool) -> int:
    whole = bits.ue()
    # A difference's fraction may be a whole: the reference writer rounds up to it. Rewriting it is canonical.
    fraction = bits.ue(1 << precision) if predicted else bits.u(precision)
    return _signed(bits, (whole << precision) + fraction)


def _signed(bits: BitReader, size: int) -> int:
    return -size if size and bits.flag() else size


def _check_precision(precision: int) -> None:
    if precision not in PRECISIONS:
        raise KinecastError(f"{WHAT}: expected a precision of 1 to {PRECISIONS[-1]} bits, found {precision}")


def _check_count(count: int, what: str, most: int) -> None:
    if not 1 <= count <= most:
        raise KinecastError(f"{WHAT}: expected 1 to {most} {what}, found {count}: it is damaged or foreign")
