"""The encoder of a live call: frames may be missing, packets hold as many frames as the line asks for."""

from dataclasses import replace

import numpy as np

from kinecast.codec import MotionEncoder, MotionPacket
from kinecast.codec.entropy import MAX_SKIP


class LiveEncoder(MotionEncoder):
    """An encoder that resumes after a pause or failure with a key packet, as protocol.md allows."""

    frames = 1  # of a packet, from the next one on

    def set_key_every(self, frames: int) -> None:
        """Set the interval of key packets."""
        if max(1, frames) != self.packing.key_every:
            self.packing = replace(self.packing, key_every=max(1, frames))

    def push_at(self, number: int, levels: np.ndarray) -> list[MotionPacket]:
        """Take a frame with a number above the last one's; returns the packets that are full."""
        out = list[MotionPacket]()
        begins = not self._frame or not 0 <= number - self._frame <= MAX_SKIP
        if begins or self._key_frame is None:
            out = [packet] if (packet := self.flush()) is not None else []
        if begins:
            self.jump(number)
        if self._coder is None and self.frames != self.packing.frames:
            self.packing = replace(self.packing, frames=self.frames, skips=self.frames > 1)
        try:
            packet = self.push(levels, number - self._frame)
        except BaseException:
            self._coder, self._count = None, 0  # half a frame: it cannot serve for prediction
            self.request_key()
            raise
        return out if packet is None else [*out, packet]
