"""Motion within a budget: how fine its steps are and how many frames are sent, found by coding the clip's motion.

Notation: T frames, D numbers per frame.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kinecast.apps.stream.sending import Beside, Sending
from kinecast.apps.stream.sound import SoundWriter
from kinecast.codec.absences import AbsenceUnit
from kinecast.codec.decoder import decode_motion
from kinecast.codec.encoder import Packing, encode_motion
from kinecast.codec.filling import Forecast, fill, interpolate
from kinecast.codec.packets import MotionPacket, SoundUnit
from kinecast.codec.profiles import Profile
from kinecast.codec.quantizer import Layout
from kinecast.codec.schedule import EveryKth, Present, Schedule
from kinecast.codec.times import TimesUnit

# Quality of the steps and one frame in how many, from the least to the most: of the ways to send mesh motion at a rate,
# those that move its landmarks least (docs/results/rate-mesh.md).
RUNGS = ((1, 6), (2, 4), (2, 3), (3, 3), (3, 2), (4, 2), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1))
_MOTION, _GROWTH = 0.45, 0.65  # motion may take 0.45 kbps of 1, 1.3 of 5 and 3.2 of 20: pictures gain more from more


@dataclass(frozen=True)
class Recording:
    """The motion of a whole clip: vectors (T, D) float32, when frames are shown (T + 1,) seconds, and whether each
    showed something (T,). `opening` is the first that did, of which the first picture is taken.
    """

    vectors: np.ndarray
    edges: np.ndarray
    present: np.ndarray
    own_times: bool  # whether those of frames are sent

    @staticmethod
    def of(sending: Sending) -> "Recording":
        """Read a clip to its end."""
        vectors, edges, present = list[np.ndarray](), list[np.ndarray](), list[bool]()
        for shown, vector in sending.timed():
            edges.append(shown)
            vectors.append(vector)
            present.append(sending.present)
        times = np.array([*(begin for begin, _ in edges), edges[-1][1]])
        return Recording(np.stack(vectors).astype(np.float32), times, np.array(present), sending.own_times)

    @property
    def seconds(self) -> float:
        """Duration."""
        return float(self.edges[-1] - self.edges[0])

    @property
    def opening(self) -> int:
        """The first frame that showed something."""
        return int(self.present.argmax())


@dataclass(frozen=True)
class CodedMotion:
    """Motion packets of a clip, each with the frames that had come when it was full, and the layout of their levels."""

    recording: Recording
    layout: Layout
    tables: Profile
    packets: tuple[tuple[MotionPacket, int], ...]
    quality: float

    def beside(self, sound: SoundWriter | None = None) -> Beside:
        """Return what stands beside the motion, before its first frame."""
        return Beside(self.recording.own_times, sound)

    def units(self, beside: Beside) -> Iterator[MotionPacket | TimesUnit | AbsenceUnit | SoundUnit]:
        """Yield packets, before each of them what belongs beside its frames."""

        def timed() -> Iterator[MotionPacket]:
            for packet, came in self.packets:
                for i in range(beside.frames, came):
                    beside.came(self.recording.edges[i : i + 2], bool(self.recording.present[i]))
                yield packet

        return beside.units(timed())

    @property
    def size(self) -> int:
        """Bytes, times and absences included."""
        return sum(len(bytes(unit)) for unit in self.units(self.beside()))

    def shown(self, forecast: Forecast | None) -> np.ndarray:
        """Return the vectors (T, D) that a receiver shows; None interpolates what was left out."""
        frames = decode_motion((packet for packet, _ in self.packets), self.layout, self.tables)
        marked = (replace(frame, absent=not self.recording.present[frame.number]) for frame in frames)
        filled = interpolate(marked) if forecast is None else fill(marked, forecast)
        return np.stack([frame.vector for frame in filled])


@dataclass(frozen=True)
class Coder:
    """How a recording is coded: layouts by quality and tables by layout; `thinned` leaves frames out to meet a budget.

    `thinned` is given a layout and kbps, and None where frames are interpolated: then it is one frame in so many.
    """

    layout: Callable[[float], Layout]
    tables: Callable[[Layout], Profile]
    packing: Packing
    needs_face: bool
    thinned: Callable[[Layout, float], Schedule] | None = None

    def code(self, recording: Recording, quality: float, schedule: Schedule | None) -> CodedMotion:
        """Code a recording's motion."""
        layout, came = self.layout(quality), 0

        def vectors() -> Iterator[np.ndarray]:
            nonlocal came
            for vector in recording.vectors:
                came += 1
                yield vector

        if self.needs_face:
            schedule = Present(lambda: bool(recording.present[came - 1]), schedule)
        packing = self.packing if schedule is None else replace(self.packing, skips=True)
        tables = self.tables(layout)
        packets = tuple((p, came) for p in encode_motion(vectors(), layout, tables, packing, schedule))
        return CodedMotion(recording, layout, tables, packets, quality)

    def within(self, recording: Recording, kbps: float, quality: float | None = None) -> CodedMotion:
        """Code a recording's motion as finely as its share of `kbps` allows, or as coarsely as can be."""
        size = 125 * motion_share(kbps) * recording.seconds
        if self.thinned is not None:
            return self._thinned_within(recording, size, motion_share(kbps), quality)
        rungs = RUNGS if quality is None else _of_quality(quality)
        low, high = 0, len(rungs) - 1
        found: CodedMotion | None = None
        while low <= high:
            middle = (low + high) // 2
            q, every = rungs[middle]
            coded = self.code(recording, q, EveryKth(every) if every > 1 else None)
            if coded.size <= size:
                found, low = coded, middle + 1
            else:
                high = middle - 1
        return found or self.code(recording, rungs[0][0], EveryKth(rungs[0][1]))

    def _thinned_within(self, recording: Recording, size: float, kbps: float, quality: float | None) -> CodedMotion:
        """Choose the finest steps with which all frames fit, or leave frames out at usual ones."""
        assert self.thinned is not None
        for q in (9, 8, 7, 6, 5) if quality is None else (quality,):
            coded = self.code(recording, q, None)
            if coded.size <= size:
                return coded
        return self.code(recording, coded.quality, self.thinned(coded.layout, kbps))


def motion_share(kbps: float) -> float:
    """Return the kbps that motion may take of a budget; all else is for pictures."""
    return float(_MOTION * kbps**_GROWTH)


def _of_quality(quality: float) -> Sequence[tuple[float, int]]:
    return [(quality, every) for every in (6, 4, 3, 2, 1)]
