"""A clip on its way into a stream: the motion of its frames, and beside it their times and sound. Streaming.

Notation: B frames of a batch, D numbers per frame.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from kinecast.apps.stream.sound import SoundWriter
from kinecast.codec.packets import MotionPacket, SoundUnit
from kinecast.codec.times import TimesUnit, TimesWriter
from kinecast.media.footage import Footage

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone

BATCH = 8
Progress = Callable[[str, int], None]


class Sending:
    """Reads a clip once, and tells what was read.

    Args:
        backbone: detects the motion.
        clip: where its rate is not constant, the times of its frames are sent too.
        sound: to be sent beside it, if any.
        progress: called with ("encode", frames done since the last call).

    Raises:
        KinecastError: unreadable input.
    """

    def __init__(self, backbone: "Backbone", clip: Footage, sound: SoundWriter | None, progress: Progress) -> None:
        self._backbone, self._progress, self._sound = backbone, progress, sound
        self._times = None if clip.constant else TimesWriter()
        self._batches = clip.batches(BATCH)
        self._first = next(self._batches)
        self.picture = self._first[1][:1]  # (1, 3, H, W), the first frame
        self.frames = self.sent = 0  # so far, and those of them that are in packets
        self.seconds = 0.0  # when the last frame so far ends

    @property
    def extended(self) -> bool:
        """Whether anything is sent beside the motion."""
        return self._times is not None or self._sound is not None

    def vectors(self) -> Iterator[np.ndarray]:
        """Yield the motion of each frame, (D,)."""
        detect = self._backbone.follow()
        for edges, frames in chain([self._first], self._batches):
            motion = detect(frames.to(self._backbone.device)).to("cpu")
            self._progress("encode", len(frames))
            for i, vector in enumerate(motion.vectors().numpy()):
                self.frames += 1
                self.seconds = float(edges[i + 1])
                if self._times is not None:
                    self._times.add(edges[i : i + 2])
                yield vector

    def units(self, packets: Iterable[MotionPacket]) -> Iterator[MotionPacket | TimesUnit | SoundUnit]:
        """Yield packets of `vectors`, before each of them what belongs beside its frames."""
        for packet in packets:
            self.sent += packet.count
            yield from self._beside()
            yield packet
        yield from self._beside()
        if self._sound is not None:
            yield from self._sound.flush()

    def _beside(self) -> Iterator[TimesUnit | SoundUnit]:
        if self._times is not None:
            yield from self._times.units()
        if self._sound is not None:
            yield from self._sound.until(self.seconds)
