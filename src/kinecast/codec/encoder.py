"""Motion in, packets out: one frame of delay at most in live use, a second in files.

Notation: T frames, D numbers per frame.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kinecast.codec.entropy import MAX_SKIP, WORST_BITS, Encoder
from kinecast.codec.packets import DATAGRAM, MAX_FRAMES, MotionPacket
from kinecast.codec.predictor import MotionModel
from kinecast.codec.profiles import Profile
from kinecast.codec.quantizer import Layout, dequantize, quantize
from kinecast.codec.schedule import Schedule
from kinecast.errors import KinecastError

_OVERHEAD, _LAYER_BYTES = 14, 3  # bytes of a motion packet besides its payload, at most, and of a layer's beside that


@dataclass(frozen=True)
class Packing:
    """How frames are put into packets.

    `frames` per packet: each packet costs 8 bytes or more beside its payload, which is 1.9 kbps with one packet per
    frame at 30 fps; a packet of two frames delays the first by one. Every `key_every` frames, or at the next packet
    boundary, a key packet follows that needs no other: a receiver can join there or resume after a loss. `wide` is
    CRC-32 instead of CRC-16. `skips` lets a sender skip frames within a packet.
    """

    frames: int = 1
    key_every: int = 60
    wide: bool = False
    skips: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MAX_FRAMES:
            raise KinecastError(f"packing: expected 1 to {MAX_FRAMES} frames per packet, found {self.frames}")
        if not 1 <= self.key_every < 1 << 15:
            raise KinecastError(f"packing: expected a key packet every 1 to 32767 frames, found {self.key_every}")


LIVE = Packing()
FILE = Packing(frames=120, key_every=600, wide=True)


class MotionEncoder:
    """Encodes frames one at a time.

    Args:
        layout: of the levels.
        profile: prediction tables.
        packing: how frames are put into packets.
        layer: of the packets, see `codec.layers`.
    """

    def __init__(self, layout: Layout, profile: Profile, packing: Packing = LIVE, layer: int = 0) -> None:
        self.layout, self.packing, self._layer = layout, packing, layer
        self._model = MotionModel(layout, profile)
        self._coder: Encoder | None = None
        self._room = 8 * (DATAGRAM - _OVERHEAD - (_LAYER_BYTES if layer else 0)) - WORST_BITS * (layout.dim + 1) - 64
        self._sequence = self._frame = self._count = 0  # of the next frame; frames in the open packet
        self._first = 0  # the number of the open packet's first frame
        self._key_frame: int | None = None  # the number of the last key frame
        self._key = True
        self._sent = 0  # bytes of packets so far

    def push(self, levels: np.ndarray, skipped: int = 0, windows: np.ndarray | None = None) -> MotionPacket | None:
        """Take the levels (D,) of the next frame after `skipped` omitted ones; returns a packet when one is full.

        `windows` (D, 2) are the least and the greatest level that the receiver knows each number to have.

        Raises:
            KinecastError: not D levels of 16 bits, or omitted frames that the packing cannot signal.
        """
        self._check_skip(skipped)
        levels = np.asarray(levels)
        if (
            levels.shape != (self.layout.dim,)
            or levels.dtype.kind not in "iu"
            or np.abs(levels.astype(np.int64)).max() > 32767
        ):
            raise KinecastError(
                f"motion levels: expected ({self.layout.dim},) integers within ±32767, found "
                f"{levels.dtype} {levels.shape}: use quantize()"
            )
        self._frame += skipped
        if self._coder is None:
            self._coder, self._first = Encoder(), self._frame
            self._key = self._key_frame is None or self._frame - self._key_frame >= self.packing.key_every
            if self._key:
                self._model.reset()
                self._key_frame = self._frame
        elif self.packing.skips:
            self._model.code_gap(self._coder, skipped)
        self._model.code_frame(self._coder, levels, skipped + 1, windows)
        self._frame += 1
        self._count += 1
        if self._count >= self.packing.frames or self._coder.bits > self._room:
            return self.flush()
        return None

    def flush(self) -> MotionPacket | None:
        """Return the packet of the frames still waiting, if any."""
        if self._coder is None:
            return None
        packet = MotionPacket(
            self._sequence,
            self._first & 0xFFFF,
            self._count,
            self._coder.finish(),
            int(not self._key),
            self.packing.wide,
            self.packing.skips,
            self._layer,
        )
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._coder, self._count = None, 0
        self._sent += len(bytes(packet))
        return packet

    @property
    def bits(self) -> int:
        """Bits of all packets so far, and of the open one's frames."""
        return 8 * self._sent + (self._coder.bits if self._coder is not None else 0)

    @property
    def frame(self) -> int:
        """The number of the next frame if none is left out."""
        return self._frame

    @property
    def sequence(self) -> int:
        """The number of the next packet."""
        return self._sequence

    def jump(self, number: int) -> None:
        """Go on with frame `number`, after more omitted frames than a packet can tell of; no packet may be open."""
        self._frame = number
        self.request_key()

    def request_key(self) -> None:
        """Make the next packet a key packet, for a receiver that lost one or joined."""
        self._key_frame = None

    def _check_skip(self, skipped: int) -> None:
        if not 0 <= skipped <= MAX_SKIP or (skipped and not self._frame):
            raise KinecastError(
                f"motion encoder: expected 0 to {MAX_SKIP} skipped frames, none before the first, found {skipped}"
            )
        if skipped and self.packing.frames > 1 and not self.packing.skips:
            raise KinecastError(
                "motion encoder: expected a packing with skips=True, or one frame per packet, to skip frames"
            )


def encode_levels(
    levels: Iterable[np.ndarray],
    layout: Layout,
    profile: Profile,
    packing: Packing = LIVE,
    schedule: Schedule | None = None,
) -> Iterator[MotionPacket]:
    """Encode an iterator of frames' levels (D,) as they come: all of them, or those a schedule selects.

    The last frame is always sent, so that a receiver knows the clip's length.
    """
    encoder = MotionEncoder(layout, profile, packing)
    left_out = 0
    last: np.ndarray | None = None  # of the frames left out
    for frame in levels:
        if schedule is None or schedule.wants(dequantize(np.asarray(frame)[None], layout)[0], encoder.bits):
            packet = encoder.push(frame, left_out)
            left_out, last = 0, None
            if packet is not None:
                yield packet
        else:
            left_out, last = left_out + 1, frame
    if last is not None and (packet := encoder.push(last, left_out - 1)) is not None:
        yield packet
    if (packet := encoder.flush()) is not None:
        yield packet


def encode_motion(
    vectors: Iterable[np.ndarray],
    layout: Layout,
    profile: Profile,
    packing: Packing = LIVE,
    schedule: Schedule | None = None,
) -> Iterator[MotionPacket]:
    """Quantise and encode an iterator of motion vectors (D,), as they come; as `encode_levels`.

    Raises:
        KinecastError: as `quantize`.
    """
    levels = (quantize(np.asarray(v)[None], layout)[0] for v in vectors)
    return encode_levels(levels, layout, profile, packing, schedule)
