"""Motion in, packets out: one frame of delay at most in live use, a second in files.

Letters: T frames, D numbers a frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kinecast.codec.entropy import WORST_BITS, Encoder
from kinecast.codec.packets import DATAGRAM, MAX_FRAMES, MotionPacket
from kinecast.codec.predictor import MotionModel
from kinecast.codec.profiles import Profile
from kinecast.codec.quantizer import Layout, quantize
from kinecast.errors import KinecastError

_OVERHEAD = 14  # bytes of a motion packet besides its payload, at most


@dataclass(frozen=True)
class Packing:
    """How frames are put into packets.

    `frames` a packet: each packet costs 8 bytes or more beside its payload, 1.9 kbps where each of 30 frames a second
    is a packet; a packet of two frames delays the first by one. Every `key_every` frames, or as soon after as a
    packet ends, comes one that needs no other: where a receiver may join, or go on after a loss. `wide` is CRC-32
    instead of CRC-16.
    """

    frames: int = 1
    key_every: int = 60
    wide: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise KinecastError(f"packing: expected 1 to {MAX_FRAMES} frames a packet, found {self.frames}")
        if not 1 <= self.key_every < 1 << 15:
            raise KinecastError(f"packing: expected a key packet every 1 to 32767 frames, found {self.key_every}")


LIVE = Packing()
FILE = Packing(frames=60, key_every=600, wide=True)


class MotionEncoder:
    """Encodes frames one at a time."""

    def __init__(self, layout: Layout, profile: Profile, packing: Packing = LIVE) -> None:
        self.layout, self.packing = layout, packing
        self._model = MotionModel(layout, profile)
        self._coder: Encoder | None = None
        self._room = 8 * (DATAGRAM - _OVERHEAD) - WORST_BITS * layout.dim - 64
        self._sequence = self._frame = self._count = 0
        self._since_key: int | None = None  # frames in packets since the last key packet began
        self._key = True

    def push(self, levels: np.ndarray) -> MotionPacket | None:
        """Take the levels (D,) of the next frame; returns a packet when one is full.

        Raises:
            KinecastError: not D levels of 16 bits.
        """
        levels = np.asarray(levels)
        if (
            levels.shape != (self.layout.dim,)
            or levels.dtype.kind not in "iu"
            or np.abs(levels.astype(np.int64)).max() > 32767
        ):
            raise KinecastError(
                f"motion levels: expected ({self.layout.dim},) whole numbers within ±32767, found "
                f"{levels.dtype} {levels.shape}: use quantize()"
            )
        if self._coder is None:
            self._coder = Encoder()
            self._key = self._since_key is None or self._since_key >= self.packing.key_every
            if self._key:
                self._model.reset()
                self._since_key = 0
        self._model.code_frame(self._coder, levels)
        self._count += 1
        if self._count >= self.packing.frames or self._coder.bits > self._room:
            return self.flush()
        return None

    def flush(self) -> MotionPacket | None:
        """Return the frames that wait for their packet to fill, if any."""
        if self._coder is None:
            return None
        packet = MotionPacket(
            self._sequence, self._frame, self._count, self._coder.finish(), int(not self._key), self.packing.wide
        )
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._frame = (self._frame + self._count) & 0xFFFF
        self._since_key = (self._since_key or 0) + self._count
        self._coder, self._count = None, 0
        return packet

    def request_key(self) -> None:
        """Make the next packet a key packet: a receiver said that it lost one, or joined."""
        self._since_key = None


def encode_levels(
    levels: Iterable[np.ndarray], layout: Layout, profile: Profile, packing: Packing = LIVE
) -> Iterator[MotionPacket]:
    """Encode an iterator of frames' levels (D,), as they come."""
    encoder = MotionEncoder(layout, profile, packing)
    for frame in levels:
        if (packet := encoder.push(frame)) is not None:
            yield packet
    if (packet := encoder.flush()) is not None:
        yield packet


def encode_motion(
    vectors: Iterable[np.ndarray], layout: Layout, profile: Profile, packing: Packing = LIVE
) -> Iterator[MotionPacket]:
    """Quantise and encode an iterator of motion vectors (D,), as they come.

    Raises:
        KinecastError: as `quantize`.
    """
    return encode_levels((quantize(np.asarray(v)[None], layout)[0] for v in vectors), layout, profile, packing)
