"""A clip on its way into a stream: the motion of its frames, and beside it their times and sound. Streaming.

Letters: B frames of a batch, D numbers a frame.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from kinecast.apps.stream.sound import SoundWriter
from kinecast.codec.absences import AbsenceUnit, AbsenceWriter
from kinecast.codec.packets import MotionPacket, SoundUnit
from kinecast.codec.times import TimesUnit, TimesWriter
from kinecast.errors import KinecastError
from kinecast.media.footage import Footage

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone

BATCH = 8
Progress = Callable[[str, int], None]


class Sending:
    """Reads a clip, and tells what was read.

    Where the backbone needs a face, `picture` is the first frame with one, and frames without one are `absent`.

    Args:
        backbone: detects the motion.
        clip: where its rate is not constant, the times of its frames are sent too.
        sound: to be sent beside it, if any.
        progress: called with ("encode", frames done since the last call).

    Raises:
        KinecastError: unreadable input, or no face in any frame where one is needed.
    """

    def __init__(self, backbone: "Backbone", clip: Footage, sound: SoundWriter | None, progress: Progress) -> None:
        self._backbone, self._progress, self._sound = backbone, progress, sound
        self._times = None if clip.constant else TimesWriter()
        self._batches = clip.batches(BATCH)
        self._first = next(self._batches)
        self.picture = self._first[1][:1]  # (1, 3, H, W), the first frame
        self._absences, self.present = AbsenceWriter(), True  # whether the last frame showed something
        self._opening: np.ndarray | None = None  # motion of the first frame with a face
        if backbone.needs_face:
            self.picture, self._opening = _first_face(backbone, clip)
        self.frames = self.sent = 0  # so far, and those of them that are in packets
        self.seconds = 0.0  # when the last frame so far ends

    @property
    def extended(self) -> bool:
        """Whether anything is sent beside the motion, as far as is known."""
        return self._times is not None or self._sound is not None or self.absent > 0

    @property
    def absent(self) -> int:
        """The frames so far without a face."""
        return self._absences.total

    def vectors(self) -> Iterator[np.ndarray]:
        """Yield the motion of each frame, (D,)."""
        detect = self._backbone.follow()
        for edges, frames in chain([self._first], self._batches):
            motion = detect(frames.to(self._backbone.device)).to("cpu")
            self._progress("encode", len(frames))
            shown = motion.valid_frames().tolist()
            for i, vector in enumerate(motion.vectors().numpy()):
                self.frames += 1
                self.present = shown[i]
                self._absences.add(self.present)
                if self.present:
                    self._opening = None
                self.seconds = float(edges[i + 1])
                if self._times is not None:
                    self._times.add(edges[i : i + 2])
                yield vector if self._opening is None else self._opening

    def units(self, packets: Iterable[MotionPacket]) -> Iterator[MotionPacket | TimesUnit | AbsenceUnit | SoundUnit]:
        """Yield packets of `vectors`, before each of them what belongs beside its frames."""
        for packet in packets:
            self.sent += packet.count
            yield from self._beside()
            yield packet
        yield from self._beside()
        if self._sound is not None:
            yield from self._sound.flush()

    def _beside(self) -> Iterator[TimesUnit | AbsenceUnit | SoundUnit]:
        yield from self._absences.units()
        if self._times is not None:
            yield from self._times.units()
        if self._sound is not None:
            yield from self._sound.until(self.seconds)


def _first_face(backbone: "Backbone", clip: Footage) -> tuple[Tensor, np.ndarray]:
    """Return the first frame with a face, (1, 3, H, W), and its motion (D,)."""
    detect = backbone.follow()
    for _, frames in clip.batches(BATCH):
        motion = detect(frames.to(backbone.device)).to("cpu")
        shown = motion.valid_frames()
        if shown.any():
            index = int(shown.int().argmax())
            return frames[index : index + 1], motion.vectors()[index].numpy()
    raise KinecastError(
        f"{clip.info.path}: expected a face in some frame, found none: choose another clip, or --model face-128"
    )
