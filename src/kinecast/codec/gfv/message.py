"""The generative face video SEI message of ITU-T H.274 version 4 (ISO/IEC 23002-7), payload type 223, as an object.

The text of the standard was not available. The syntax is that of the published reference software HM (HEVC), in its
2025 version with the macros JVET_AJ0207_GFV and JVET_AL0062; docs/gfv.md lists where its writer and reader disagree and
what neither defines. Element names are the standard's, without `gfv_`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from kinecast.codec.gfv.bits import MOST_UE, BitReader, BitWriter
from kinecast.codec.gfv.parts import (
    OF_POINTS,
    OF_SPACE,
    WHAT,
    ChromaKey,
    Matrices,
    Network,
    Points,
    put_chroma_key,
    put_matrices,
    put_network,
    put_points,
    take_chroma_key,
    take_matrices,
    take_network,
    take_points,
)
from kinecast.errors import KinecastError

PAYLOAD_TYPE = 223


@dataclass(frozen=True)
class GfvMessage:
    """One message.

    `id` distinguishes faces. `count` is 0 for the first picture generated from a coded picture and increases for each
    further one. `base` messages belong to the picture that others are generated from; only they may name the `network`
    and the `chroma_key`. `fusion` means that the coded picture may be used in generation; `low_confidence` that the
    parameters are uncertain.

    >>> points = Points(((1, -2),), precision=3)
    >>> message = GfvMessage(base=True, points=points)
    >>> bytes(message).hex()
    'e2723a'
    >>> GfvMessage.parse(bytes(message)) == message
    True
    """

    id: int = 0
    count: int = 0
    base: bool = False
    network: Network | None = None
    chroma_key: ChromaKey | None = None
    fusion: bool = False
    low_confidence: bool = False
    points: Points | None = None
    matrices: Matrices | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.id <= MOST_UE and 0 <= self.count <= MOST_UE):
            raise KinecastError(f"{WHAT}: expected id and count from 0 to {MOST_UE}, found {self.id} and {self.count}")
        if self.points is None and self.matrices is None:
            raise KinecastError(f"{WHAT}: expected key points or matrices, found neither: give one")
        if self.base and (self.count or self.fusion):
            raise KinecastError(f"{WHAT}: expected a base picture of count 0 without fusion, found another")
        if not self.base and (self.network is not None or self.chroma_key is not None):
            raise KinecastError(
                f"{WHAT}: expected a network or chroma key with a base picture only, found it with another"
            )
        if self.matrices is not None:
            self._check_matrices(self.matrices)

    def _check_matrices(self, matrices: Matrices) -> None:
        if self.base and matrices.predicted:
            raise KinecastError(f"{WHAT}: expected absolute matrices in a base picture, found differences")
        for group in matrices.groups:
            if group.type in OF_POINTS and self.points is None and not matrices.predicted:
                raise KinecastError(f"{WHAT}: expected key points with matrices of type {group.type}, found none")
            sized = group.type in (*OF_POINTS, *OF_SPACE) and self.points is not None and not matrices.predicted
            if sized and group.shape[1] != (self.points.width if self.points else 0):
                raise KinecastError(f"{WHAT}: expected matrices of as many rows as coordinates, found {group.shape}")

    def __bytes__(self) -> bytes:
        out = BitWriter()
        out.ue(self.id)
        out.ue(self.count)
        if not self.count:
            out.flag(self.base)
        if self.base:
            put_network(out, self.network)
            put_chroma_key(out, self.chroma_key)
        else:
            out.flag(self.fusion)
        out.flag(self.low_confidence)
        out.flag(self.points is not None)
        if self.points is not None:
            put_points(out, self.points, self.base)
        out.flag(self.matrices is not None)
        if self.matrices is not None:
            put_matrices(out, self.matrices, self.base, self.points)
        if self.network is not None and self.network.data is not None:
            out.align()
            return bytes(out) + self.network.data
        if not out.aligned:
            out.flag(True)  # the payload's stop bit, followed by zeros to the end of the byte
        return bytes(out)

    @classmethod
    def parse(cls, data: bytes, base: Self | None = None) -> Self:
        """Read a message.

        Args:
            data: the payload, without emulation prevention.
            base: the last message of a base picture, which messages of differences refer to.

        Raises:
            KinecastError: cut off, damaged, beyond a limit, or of differences without a base.
        """
        bits = BitReader(data, WHAT)
        number, count = bits.ue(), bits.ue()
        is_base = not count and bits.flag()
        network = chroma_key = None
        fusion = False
        if is_base:
            network, chroma_key = take_network(bits), take_chroma_key(bits)
        else:
            fusion = bits.flag()
        low_confidence = bits.flag()
        points = take_points(bits, is_base, None if base is None else base.points) if bits.flag() else None
        matrices = (
            take_matrices(bits, is_base, None if base is None else base.matrices, points) if bits.flag() else None
        )
        if network is not None and network.data is not None:
            bits.align()
            network = Network(data=bits.rest())
        else:
            _check_end(bits)
        return cls(number, count, is_base, network, chroma_key, fusion, low_confidence, points, matrices)


def _check_end(bits: BitReader) -> None:
    """Check that a message ends as payloads do: at a byte, or with a one and zeros. Extensions are skipped.

    Raises:
        KinecastError: it does not.
    """
    if not bits.left:
        return
    if not any(_remaining(bits)):
        raise KinecastError(f"{WHAT}: expected a stop bit, found zeros: it is damaged")


def _remaining(bits: BitReader) -> Iterator[int]:
    while bits.left:
        yield bits.u(min(bits.left, 64))
