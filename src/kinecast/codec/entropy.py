"""Entropy coding given a predicted value and a scale: trained integer tables and constriction's range coder.

A table is a list of frequencies that sum to 2**16. Their quotients by 2**16 and all their partial sums are exact in
float32, in which constriction takes them, and its conversion to 24-bit cumulatives is then one multiplication, rounded
by IEEE 754 to the nearest even, and a truncation (docs/protocol.md gives it in integers, a test compares the two): no
sum of floats whose order could matter, no logarithm, nothing that may differ between machines.
"""

from functools import cache
from importlib.resources import files
from typing import Any, Protocol

import numpy as np

from kinecast.codec.quantizer import MAX_LEVEL
from kinecast.errors import KinecastError
from kinecast.packages import optional

TOTAL = 1 << 16
PHASES = 8  # a table for each eighth of a step between the prediction and a level
LOG_BITS = 8  # logarithms are base 2, in 1/256 octaves
_BUCKET_SHIFT = 6  # a table every quarter of an octave of scale
MIN_LOG, MAX_LOG = -4 << LOG_BITS, 2 << LOG_BITS  # scales of the tables, in steps: 2**-4 to 2**2
BUCKETS = ((MAX_LOG - MIN_LOG) >> _BUCKET_SHIFT) + 1
MAX_SHIFT = 12
PLACE_BITS = 16
MAX_SKIP = 63  # frames that a sender may skip in a row
WORST_BITS = 34  # an escape of frequency 1 (16 bits) and a raw level (16 bits), with the coder's rounding
_FILE = "entropy.npz"

# _MANTISSA[k] = floor(256 log2(1 + k/256)), by integers alone.
_MANTISSA = np.array([((256 + k) ** 256 >> 2048).bit_length() - 1 for k in range(256)], dtype=np.int64)
_MANTISSA_LIST = _MANTISSA.tolist()


def log2(value: int) -> int:
    """Return the base-2 logarithm of a number of at least 1, in 1/256, rounded down, from its top 8 bits."""
    exponent = value.bit_length() - 1
    return (exponent << LOG_BITS) + int(_MANTISSA_LIST[(value << 8 >> exponent) & 255])


def log2_array(values: np.ndarray) -> np.ndarray:
    """Return `log2` of each; frexp and the shift of the mantissa are exact below 2**53."""
    mantissa, exponent = np.frexp(values.astype(np.float64))
    index = (mantissa * 512).astype(np.int64) & 255
    return ((exponent.astype(np.int64) - 1) << LOG_BITS) + _MANTISSA[index]


def reach(bucket: int) -> int:
    """Return how many levels a bucket's tables cover on either side of the prediction; further ones are escaped."""
    return 4 + (12 << (bucket >> 2) >> 3)  # 12 scales: beyond that, an escape is cheaper than table entries


def check_tables(tables: np.ndarray) -> None:
    """Check a flat array of frequencies against the shape that `reach` gives.

    Raises:
        KinecastError: the number of entries, an entry or a sum is wrong.
    """
    sizes = [2 * reach(bucket) + 2 for bucket in range(BUCKETS) for _ in range(PHASES)]
    if tables.shape != (sum(sizes),) or tables.min() < 1:
        raise KinecastError(f"entropy tables: expected {sum(sizes)} frequencies of at least 1, found {tables.shape}")
    if (np.add.reduceat(tables.astype(np.int64), np.cumsum([0, *sizes[:-1]])) != TOTAL).any():
        raise KinecastError(
            f"entropy tables: expected frequencies that sum to {TOTAL} in each table: reinstall kinecast"
        )


class Coder(Protocol):
    """Encoder or decoder: codes one level given its prediction."""

    def code(self, scale: int, predicted: int, step: int, level: int) -> tuple[int, int]:
        """Code a level; returns it and the expected position of the value in its cell, in 2**-16 steps from the middle.

        Args:
            scale: 256 log2 of the expected spread in steps.
            predicted: the predicted value, in fine units (2**-16 motion units).
            step: the quantiser's step in fine units.
            level: what to encode; a decoder ignores it.
        """

    def within(self, scale: int, predicted: int, step: int, level: int, window: tuple[int, int]) -> tuple[int, int]:
        """Code a level that is known to be from window[0] to window[1], as `code` otherwise."""

    def gap(self, frequencies: np.ndarray, gap: int) -> int:
        """Code how many frames are skipped; a decoder ignores `gap`."""


def frequencies_of(counts: np.ndarray) -> np.ndarray:
    """(N,) integers of at least 1 that sum to 2**16; the rounding remainder goes to the largest of the counts (N,)."""
    found = 1 + counts * (TOTAL - len(counts)) // counts.sum()
    found[counts.argmax()] += TOTAL - found.sum()
    return found


class CountModel:
    """Adaptive integer counts of a few symbols, from initial counts."""

    def __init__(self, counts: np.ndarray) -> None:
        self._counts = counts

    def frequencies(self) -> np.ndarray:
        """(N,) as `frequencies_of`."""
        return frequencies_of(self._counts)

    def note(self, symbol: int) -> None:
        """Count a symbol; old counts decay."""
        self._counts[symbol] += 24
        if self._counts.sum() > 1024:
            self._counts = (self._counts + 1) >> 1


class GapModel(CountModel):
    """Model of the number of skipped frames, reset at key packets."""

    def __init__(self) -> None:
        super().__init__(np.maximum(32 >> np.minimum(np.arange(MAX_SKIP + 1), 5), 1))


class Encoder:
    """Writes the levels of one packet."""

    def __init__(self) -> None:
        self._constriction = _library()
        self._coder = self._constriction.stream.queue.RangeEncoder()
        self._models, self._places = _models(), places()

    def code(self, scale: int, predicted: int, step: int, level: int) -> tuple[int, int]:
        """Encode a level; see `Coder`."""
        bucket, phase, origin, shift = locate(scale, predicted, step)
        middle = reach_of(bucket)
        symbol = (level >> shift) - origin + middle
        if not 0 <= symbol <= 2 * middle:
            self._coder.encode(2 * middle + 1, self._models[bucket][phase])
            self._coder.encode(level + MAX_LEVEL + 1, _uniform(16))
            return level, 0
        self._coder.encode(symbol, self._models[bucket][phase])
        if shift:
            self._coder.encode(level & ((1 << shift) - 1), _uniform(shift))
            return level, 0
        return level, self._places[bucket][phase][symbol]

    def within(self, scale: int, predicted: int, step: int, level: int, window: tuple[int, int]) -> tuple[int, int]:
        """Encode a level inside a window; see `Coder`."""
        table, found = narrowed(scale, predicted, step, window)
        if len(table) > 1:
            self._coder.encode(level - window[0], _table(table))
        return level, found[level - window[0]]

    def gap(self, frequencies: np.ndarray, gap: int) -> int:
        """Encode how many frames are skipped, with frequencies of `GapModel`, and return it."""
        self._coder.encode(gap, _table(frequencies))
        return gap

    def raw(self, bits: int, number: int) -> int:
        """Encode a number of at most 16 bits verbatim, and return it."""
        self._coder.encode(number, _uniform(bits))
        return number

    @property
    def bits(self) -> int:
        """Bits so far, rounded up to a word."""
        return int(self._coder.num_bits())

    def finish(self) -> bytes:
        """Return the shortest byte string that decodes to what was encoded.

        constriction ends with whole 32-bit words. Any number in the coder's last interval decodes, so the one with the
        fewest bytes is chosen, and trailing zeros are dropped: a decoder reads zeros after the end. This saves two to
        three bytes per packet, half a kilobit per second with one packet per frame.
        """
        words = self._coder.get_compressed()
        position, (lower, width) = self._coder.pos()
        code = words.astype(">u4").tobytes()
        bulk, tail = code[: 4 * position], int.from_bytes(code[4 * position :][:8].ljust(8, b"\0"), "big")
        last = lower + width - 1
        if last >> 64:  # the interval crosses a carry: stay on the side of the words already written
            lower, last = (lower, (1 << 64) - 1) if tail >= lower else (0, last - (1 << 64))
        for size in range(9):
            unit = 1 << 8 * (8 - size)
            number = -(-lower // unit) * unit
            if number <= last:
                return (bulk + number.to_bytes(8, "big")[:size]).rstrip(b"\0")
        raise AssertionError("a 64-bit interval holds a 64-bit number")


class Decoder:
    """Reads the levels of one packet."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        words = np.frombuffer(padded, dtype=">u4").astype(np.uint32)
        self._coder = _library().stream.queue.RangeDecoder(words)
        self._models, self._places = _models(), places()

    def code(self, scale: int, predicted: int, step: int, level: int = 0) -> tuple[int, int]:
        """Decode a level; see `Coder`.

        Raises:
            KinecastError: no encoder writes this.
        """
        bucket, phase, origin, shift = locate(scale, predicted, step)
        middle = reach_of(bucket)
        try:
            symbol, place = self._coder.decode(self._models[bucket][phase]), 0
            if symbol <= 2 * middle:
                found = (origin + symbol - middle) << shift
                if shift:
                    found += self._coder.decode(_uniform(shift))
                else:
                    place = self._places[bucket][phase][symbol]
            else:
                found = self._coder.decode(_uniform(16)) - MAX_LEVEL - 1
        except AssertionError as error:  # what constriction raises on a number outside every interval
            raise _damaged() from error
        if not -MAX_LEVEL <= found <= MAX_LEVEL:
            raise _damaged()
        return int(found), place

    def within(self, scale: int, predicted: int, step: int, level: int, window: tuple[int, int]) -> tuple[int, int]:
        """Decode a level inside a window; see `Coder`.

        Raises:
            KinecastError: no encoder writes this.
        """
        table, found = narrowed(scale, predicted, step, window)
        try:
            symbol = int(self._coder.decode(_table(table))) if len(table) > 1 else 0
        except AssertionError as error:
            raise _damaged() from error
        return window[0] + symbol, found[symbol]

    def gap(self, frequencies: np.ndarray, gap: int = 0) -> int:
        """Decode how many frames were skipped.

        Raises:
            KinecastError: no encoder writes this.
        """
        try:
            return int(self._coder.decode(_table(frequencies)))
        except AssertionError as error:
            raise _damaged() from error

    def raw(self, bits: int, number: int = 0) -> int:
        """Decode a number of at most 16 bits.

        Raises:
            KinecastError: no encoder writes this.
        """
        try:
            return int(self._coder.decode(_uniform(bits)))
        except AssertionError as error:
            raise _damaged() from error


def locate(scale: int, predicted: int, step: int) -> tuple[int, int, int, int]:
    """Return bucket, phase, the level below the prediction, and how many low bits of a level are sent verbatim.

    Where the spread is above 4 steps, low bits of a level are noise, so that 2**shift levels share a symbol.
    """
    bucket = (scale - MIN_LOG + (1 << _BUCKET_SHIFT - 1)) >> _BUCKET_SHIFT
    shift = 0
    if bucket >= BUCKETS:
        shift = min((bucket - BUCKETS + 4) >> 2, MAX_SHIFT)
        bucket = min(bucket - 4 * shift, BUCKETS - 1)
        predicted -= (step << shift) - step >> 1  # the middle of 2**shift levels is above the lowest
    elif bucket < 0:
        bucket = 0
    eighths = (predicted << 3) // (step << shift)
    return bucket, eighths & 7, eighths >> 3, shift


def narrowed(scale: int, predicted: int, step: int, window: tuple[int, int]) -> tuple[np.ndarray, list[int]]:
    """Return frequencies and places of the levels of a window, as the tables have them: 1 and 0 where they do not."""
    bucket, phase, origin, shift = locate(scale, predicted, step)
    low, size, middle = window[0] - origin + reach_of(bucket), window[1] - window[0] + 1, reach_of(bucket)
    counts, found = np.ones(size, np.int64), [0] * size
    first, last = max(-low, 0), min(2 * middle + 1 - low, size)  # of the window's levels, those in the table
    if not shift and first < last:
        counts[first:last] = tables()[bucket][phase][low + first : low + last]
        found[first:last] = places()[bucket][phase][low + first : low + last]
    return frequencies_of(counts), found


_REACH = [reach(bucket) for bucket in range(BUCKETS)]
reach_of = _REACH.__getitem__


@cache
def table_array() -> np.ndarray:
    """Return the frequencies of all tables, flat: by bucket, then phase, then symbol; the last symbol is the escape."""
    tables = _load("frequencies")
    check_tables(tables)
    return tables


@cache
def place_array() -> np.ndarray:
    """Return the expected position of a value in its cell, in 2**-16 steps from the middle, per frequency."""
    found = _load("places")
    if found.shape != table_array().shape or np.abs(found).max() > 1 << PLACE_BITS - 1:
        raise KinecastError(f"entropy tables: expected places within half a step, found {found.shape}: reinstall")
    return found


def _load(key: str) -> np.ndarray:
    with (files("kinecast.codec") / "tables" / _FILE).open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return np.asarray(archive[key], dtype=np.int64)


def _split(flat: np.ndarray) -> list[list[np.ndarray]]:
    """Return a flat array as bucket, phase, symbol."""
    sizes = np.repeat([2 * size + 2 for size in _REACH], PHASES)
    rows = np.split(flat, np.cumsum(sizes)[:-1])
    return [rows[start : start + PHASES] for start in range(0, len(rows), PHASES)]


@cache
def tables() -> list[list[np.ndarray]]:
    """Return `table_array` by bucket, phase and symbol."""
    return _split(table_array())


@cache
def places() -> list[list[list[int]]]:
    """Return `place_array` by bucket, phase and symbol."""
    return [[one.tolist() for one in row] for row in _split(place_array())]


@cache
def _models() -> list[list[Any]]:
    return [[_table(one) for one in row] for row in tables()]


def _table(frequencies: np.ndarray) -> Any:
    return _library().stream.model.Categorical((frequencies / TOTAL).astype(np.float32), perfect=False)


@cache
def _uniform(bits: int) -> Any:
    return _library().stream.model.Uniform(1 << bits)


@cache
def _library() -> Any:
    return optional("the motion codec", "constriction")


def _damaged() -> KinecastError:
    return KinecastError("motion packet: expected valid levels, found others: it is damaged or foreign")
