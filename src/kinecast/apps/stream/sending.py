"""Reading a clip into a stream: the motion of its frames, with their times and sound.

Notation: B frames of a batch, D numbers per frame.
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
from kinecast.motion import Motion

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone

BATCH = 8
Progress = Callable[[str, int], None]


class Beside:
    """The parts of a stream beside motion: times of frames, absences and sound, up to the current frame.

    Args:
        times: whether the times of frames are sent.
        sound: to be sent beside them, if any.
    """

    def __init__(self, times: bool, sound: SoundWriter | None) -> None:
        self._times, self._sound = TimesWriter() if times else None, sound
        self._absences, self.present = AbsenceWriter(), True  # whether the last frame showed something
        self.frames = self.sent = 0  # so far, and those of them that are in packets
        self.seconds = 0.0  # when the last frame so far ends

    @property
    def extended(self) -> bool:
        """Whether anything is sent beside the motion so far."""
        return self._times is not None or self._sound is not None or self.absent > 0

    @property
    def own_times(self) -> bool:
        """Whether the times of frames are sent."""
        return self._times is not None

    @property
    def absent(self) -> int:
        """The frames so far without a face."""
        return self._absences.total

    def came(self, edges: np.ndarray, present: bool = True) -> None:
        """Record a frame: start and end of its display, (2,) seconds, and whether it had a detection."""
        self.frames += 1
        self.seconds, self.present = float(edges[1]), present
        self._absences.add(present)
        if self._times is not None:
            self._times.add(edges)

    def units(self, packets: Iterable[MotionPacket]) -> Iterator[MotionPacket | TimesUnit | AbsenceUnit | SoundUnit]:
        """Yield packets, each preceded by the units that belong to its frames."""
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


class Sending(Beside):
    """Reads a clip and records its properties.

    `picture` is the first frame, or, if the backbone needs a face, the first with one; frames without one are `absent`.
    The clip is read once: what was detected on the way to that frame is kept.

    Args:
        backbone: detects the motion.
        clip: where its rate is not constant, the times of its frames are sent too.
        sound: to be sent beside it, if any.
        progress: called with ("encode", frames done since the last call).

    Raises:
        KinecastError: unreadable input, or no face in any frame where one is needed.
    """

    def __init__(self, backbone: "Backbone", clip: Footage, sound: SoundWriter | None, progress: Progress) -> None:
        super().__init__(not clip.constant, sound)
        self._backbone, self._progress = backbone, progress
        self._batches, self._detect = clip.batches(BATCH), backbone.follow()
        self._begun: list[tuple[np.ndarray, Motion]] = []  # as far as the first frame that shows something
        self.picture, self._opening = self._begin(clip)  # (1, 3, H, W), and its motion (D,)

    def _begin(self, clip: Footage) -> tuple[Tensor, np.ndarray]:
        for edges, frames in self._batches:
            self._begun.append((edges, self._detected(frames)))
            motion = self._begun[-1][1]
            shown = motion.valid_frames()
            if shown.any():
                index = int(shown.int().argmax())
                return frames[index : index + 1], motion.vectors()[index].numpy()
        raise KinecastError(
            f"{clip.info.path}: expected a face in some frame, found none: choose another clip, or --model face-128"
        )

    def _detected(self, frames: Tensor) -> Motion:
        motion = self._detect(frames.to(self._backbone.device)).to("cpu")
        self._progress("encode", len(frames))
        return motion

    def vectors(self) -> Iterator[np.ndarray]:
        """Yield the motion of each frame, (D,)."""
        for _, vector in self.timed():
            yield vector

    def timed(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield start and end of each frame's display, (2,) seconds, and its motion, (D,).

        Frames before the first with a face have its motion.
        """
        started = False
        for edges, motion in chain(self._begun, ((edges, self._detected(frames)) for edges, frames in self._batches)):
            shown = motion.valid_frames().tolist()
            for i, vector in enumerate(motion.vectors().numpy()):
                self.came(edges[i : i + 2], shown[i])
                started |= self.present
                yield edges[i : i + 2], vector if started else self._opening
