"""Packets in, in any order; every frame out once, in order, decoded or marked as concealed.

Notation: T frames, D numbers per frame.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from kinecast.codec.entropy import Decoder
from kinecast.codec.packets import MotionPacket
from kinecast.codec.predictor import MotionModel
from kinecast.codec.profiles import Profile
from kinecast.codec.quantizer import Layout, dequantize
from kinecast.codec.wire import unwrap
from kinecast.errors import KinecastError

MAX_GAP = 1024  # longest gap that is concealed, in frames; after a longer one only a key packet resumes
_RESTART = 64  # late packets in a row mean that the sender restarted, or that a foreign packet misled us


@dataclass(frozen=True)
class DecodedFrame:
    """One frame of motion: `index` counts from the stream's first frame that was decoded.

    A concealed frame holds the last decoded frame's levels; `codec.filling` may do better. It was lost, or `skipped`:
    left out by the sender. In an `absent` one the sender detected nothing: it holds what was shown before.
    """

    index: int
    levels: np.ndarray  # (D,) int32
    vector: np.ndarray  # (D,) float32, motion units
    concealed: bool
    skipped: bool = False
    number: int = 0  # as counted by the sender; packets carry the low 16 bits
    absent: bool = False


@dataclass
class Losses:
    """Statistics of a decoder, in packets; `concealed` and `skipped` are in frames that were held."""

    decoded: int = 0
    lost: int = 0  # never came
    useless: int = 0  # arrived, but their base did not
    late: int = 0  # arrived too late, or twice
    refused: int = 0  # valid checksum, but content that no encoder writes
    concealed: int = 0  # lost frames
    skipped: int = 0  # frames that the sender left out


class MotionDecoder:
    """Decodes packets one at a time.

    An early packet waits for those before it. Once `reorder` packets wait, the missing one counts as lost, and frames
    are concealed up to the next key packet, from which they are exact again.
    """

    layer = 0

    def __init__(self, layout: Layout, profile: Profile, reorder: int = 4) -> None:
        if not 0 <= reorder <= 256:
            raise KinecastError(f"reorder: expected 0 to 256 waiting packets, found {reorder}")
        self.layout, self.reorder, self.losses = layout, reorder, Losses()
        self._model = MotionModel(layout, profile)
        self._waiting: dict[int, MotionPacket] = {}  # by unwrapped sequence number
        self._next: int | None = None  # next unwrapped sequence number; None before the first key packet
        self._early: deque[MotionPacket] = deque(maxlen=reorder)  # deltas that came before any key packet
        self._stale = 0  # late packets in a row
        self._frame = 0  # unwrapped number of the next frame to return
        self._start = 0
        self._coded = 0  # unwrapped number of the model's last frame
        self._state: int | None = None  # sequence number of the model's last packet; None: out of sync
        self._held: tuple[np.ndarray, np.ndarray] | None = None

    def push(self, packet: MotionPacket) -> list[DecodedFrame]:
        """Take a packet; returns the frames that are now due, none before the first key packet."""
        if packet.layer != self.layer:
            self.losses.refused += 1
            return []
        if self._next is None:
            self._join(packet)
        elif self._place(packet):
            self._stale = 0
        else:
            self.losses.late += 1
            self._stale += 1
            if self._stale >= _RESTART:
                self._leave()
        frames: list[DecodedFrame] = []
        while (
            self._next is not None
            and self._waiting
            and (self._next in self._waiting or len(self._waiting) > self.reorder)
        ):
            frames += self._take(min(self._waiting))
        return frames

    def flush(self) -> list[DecodedFrame]:
        """Return the frames of packets that still wait, at the end of the stream."""
        frames: list[DecodedFrame] = []
        while self._waiting:
            frames += self._take(min(self._waiting))
        return frames

    def _join(self, packet: MotionPacket) -> None:
        """Start at a key packet; packets that arrived before it but follow it wait in `_early`."""
        if not packet.key:
            self.losses.useless += len(self._early) == self.reorder
            self._early.append(packet)
            return
        self._next = packet.sequence
        if self._held is None:
            self._frame = self._start = packet.frame
        self._waiting[self._next] = packet
        self.losses.useless += sum(not self._place(early) for early in self._early)
        self._early.clear()

    def _leave(self) -> None:
        """Reset: the next key packet starts a new sequence."""
        self.losses.useless += len(self._waiting)
        self._waiting.clear()
        self._next = self._state = None
        self._stale = 0

    def _place(self, packet: MotionPacket) -> bool:
        """Queue a packet; return False if it is late or a duplicate."""
        assert self._next is not None
        number = unwrap(packet.sequence, self._next)
        if number < self._next or number in self._waiting:
            return False
        self._waiting[number] = packet
        return True

    def _take(self, number: int) -> Iterator[DecodedFrame]:
        packet = self._waiting.pop(number)
        assert self._next is not None
        # If no packet is missing, frames that none names were left out by the sender.
        skipped = number == self._next and self._state == number - 1
        self.losses.lost += number - self._next
        self._next = number + 1
        first = unwrap(packet.frame, self._frame)
        gap = first - self._frame
        if not 0 <= gap <= MAX_GAP:
            if not packet.key:  # it jumps in time: it cannot be right, and what follows depends on it
                self.losses.refused += 1
                self._state = None
                return
            # A restart: frame numbers continue, and a long silence is not filled with copies.
            self._start += first - self._frame
            self._frame = first
        while self._frame < first:
            yield self._conceal(skipped)
        if not self._supported(packet) or (not packet.key and self._state != number - packet.back):
            self.losses.useless += 1
            self._state = None
            yield from self._without(packet)
            return
        yield from self._decode(packet, number)

    def _decode(self, packet: MotionPacket, number: int) -> Iterator[DecodedFrame]:
        if packet.key:
            self._model.reset()
        try:
            frames, times = self._read(packet)
        except KinecastError:
            self.losses.refused += 1
            self._state = None
            yield from self._without(packet)
            return
        self._state = number
        self.losses.decoded += 1
        levels = np.stack(frames)
        self._decoded(packet, times, levels)
        for time, one, vector in zip(times, levels, dequantize(levels, self.layout), strict=True):
            while self._frame < time:
                yield self._conceal(skipped=True)
            self._held = one, vector
            yield DecodedFrame(self._frame - self._start, one, vector, concealed=False, number=self._frame)
            self._frame += 1

    def _read(self, packet: MotionPacket) -> tuple[list[np.ndarray], list[int]]:
        """Decode all frames of a packet, and their numbers, before returning any: a foreign packet gives none."""
        coder, time = Decoder(packet.payload), self._frame
        frames, times = [], []
        for index in range(packet.count):
            if index:
                time += 1 + (self._model.code_gap(coder) if packet.skips else 0)
            if time - self._frame > MAX_GAP:
                raise KinecastError(
                    f"motion packet: expected at most {MAX_GAP} frames of time, found more: it is foreign"
                )
            frames.append(self._model.code_frame(coder, elapsed=time - self._coded, windows=self._windows(time)))
            times.append(time)
            self._coded = time
        return frames, times

    def _supported(self, packet: MotionPacket) -> bool:
        """Return whether what a packet is coded against, beside its own layer, was decoded."""
        return True

    def _windows(self, number: int) -> np.ndarray | None:
        """Return the levels (D, 2) from which to which those of frame `number` are known to be."""
        return None

    def _decoded(self, packet: MotionPacket, numbers: list[int], levels: np.ndarray) -> None:
        """Take the numbers and levels (T, D) of a packet's frames."""

    def _without(self, packet: MotionPacket) -> Iterator[DecodedFrame]:
        """Conceal a packet that cannot be decoded; with nothing to hold yet, wait for another key packet."""
        if self._held is None:
            self._leave()
        else:
            yield from self._conceal_packet(packet)

    def _conceal_packet(self, packet: MotionPacket) -> Iterator[DecodedFrame]:
        """Hold the frames of an unreadable packet. With gaps their number is unknown until the next packet."""
        for _ in range(0 if packet.skips else packet.count):
            yield self._conceal()

    def _conceal(self, skipped: bool = False) -> DecodedFrame:
        assert self._held is not None  # no packet is accepted before a key packet was decoded
        self.losses.skipped += skipped
        self.losses.concealed += not skipped
        frame = DecodedFrame(self._frame - self._start, *self._held, True, skipped, self._frame)
        self._frame += 1
        return frame


def decode_motion(
    packets: Iterable[MotionPacket], layout: Layout, profile: Profile, reorder: int = 4
) -> Iterator[DecodedFrame]:
    """Decode an iterator of packets, as they come."""
    decoder = MotionDecoder(layout, profile, reorder)
    for packet in packets:
        yield from decoder.push(packet)
    yield from decoder.flush()
