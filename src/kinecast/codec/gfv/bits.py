"""Bits of video bitstreams, most significant first: u(n), ue(v) and se(v) of H.264, 7.2 and 9.1, and byte alignment.

>>> writer = BitWriter()
>>> writer.ue(3), writer.u(2, 1)
(None, None)
>>> reader = BitReader(bytes(writer))
>>> reader.ue(), reader.u(2)
(3, 1)
"""

from kinecast.errors import KinecastError

MOST_UE = (1 << 32) - 2  # ue(v) has at most 31 leading zeros
_WINDOW = 9  # bytes that hold any 64 bits at any bit offset


class BitWriter:
    """Collects bits; `bytes(writer)` fills the last byte with zeros."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._open, self._count = 0, 0  # bits of the incomplete byte

    def __len__(self) -> int:
        return 8 * len(self._bytes) + self._count

    def __bytes__(self) -> bytes:
        return bytes(self._bytes) + (bytes([self._open << 8 - self._count]) if self._count else b"")

    @property
    def aligned(self) -> bool:
        """Whether the last byte is complete."""
        return not self._count

    def u(self, bits: int, value: int) -> None:
        """Write an unsigned number of `bits` bits.

        Raises:
            KinecastError: it does not fit.
        """
        if not 0 <= value < 1 << bits:
            raise KinecastError(f"u({bits}): expected a number from 0 to {(1 << bits) - 1}, found {value}")
        whole = self._open << bits | value
        count = self._count + bits
        self._count = count % 8
        self._bytes += (whole >> self._count).to_bytes(count // 8, "big")
        self._open = whole & (1 << self._count) - 1

    def flag(self, value: bool) -> None:
        """Write one bit."""
        self.u(1, int(value))

    def ue(self, value: int) -> None:
        """Write an Exp-Golomb code of an unsigned number.

        Raises:
            KinecastError: below 0, or above 2^32 - 2.
        """
        if not 0 <= value <= MOST_UE:
            raise KinecastError(f"ue(v): expected a number from 0 to {MOST_UE}, found {value}")
        self.u(2 * (value + 1).bit_length() - 1, value + 1)

    def se(self, value: int) -> None:
        """Write an Exp-Golomb code of a signed number: 0, 1, -1, 2, -2, ..."""
        self.ue(2 * value - 1 if value > 0 else -2 * value)

    def align(self) -> None:
        """Fill the last byte with zeros."""
        self.u(-self._count % 8, 0)


class BitReader:
    """Reads bits of `data`.

    Args:
        data: what to read.
        what: what is read, for messages.
    """

    def __init__(self, data: bytes, what: str = "bits") -> None:
        self._data, self._what = data, what
        self.position = 0  # in bits

    @property
    def left(self) -> int:
        """Number of bits left."""
        return 8 * len(self._data) - self.position

    @property
    def aligned(self) -> bool:
        """Whether a byte begins here."""
        return self.position % 8 == 0

    def u(self, bits: int) -> int:
        """Read an unsigned number of at most 64 bits.

        Raises:
            KinecastError: fewer bits are left.
        """
        if bits > self.left:
            raise KinecastError(
                f"{self._what}: expected {bits} more bits, found {self.left}: it is cut off; send or copy it again"
            )
        value = self._window() >> 64 - bits
        self.position += bits
        return value

    def flag(self) -> bool:
        """Read one bit."""
        return bool(self.u(1))

    def ue(self, most: int = MOST_UE) -> int:
        """Read an Exp-Golomb code of an unsigned number.

        Raises:
            KinecastError: cut off, longer than 63 bits, or above `most`.
        """
        zeros = 64 - self._window().bit_length()
        if zeros > 31 and self.left > 31:
            raise KinecastError(f"{self._what}: expected a code of at most 63 bits, found a longer one: it is damaged")
        value = self.u(2 * min(zeros, 31) + 1) - 1
        if value > most:
            raise KinecastError(f"{self._what}: expected at most {most}, found {value}: it is damaged or foreign")
        return value

    def se(self) -> int:
        """Read an Exp-Golomb code of a signed number."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def align(self) -> None:
        """Skip zeros to the next byte boundary.

        Raises:
            KinecastError: one of the bits is 1.
        """
        if self.u(-self.position % 8):
            raise KinecastError(f"{self._what}: expected zeros up to a byte boundary, found a one: it is damaged")

    def rest(self) -> bytes:
        """Return the remaining bytes, from a byte boundary, and end."""
        start = self.position // 8
        self.position = 8 * len(self._data)
        return self._data[start:]

    def _window(self) -> int:
        """Return the next 64 bits, zeros after the end."""
        start = self.position // 8
        piece = self._data[start : start + _WINDOW].ljust(_WINDOW, b"\0")
        return int.from_bytes(piece, "big") >> 8 - self.position % 8 & (1 << 64) - 1
