"""Tracking one face through the frames of a clip, and a filter against jitter."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kinecast.errors import KinecastError
from kinecast.faces.landmarker import LEAST_PRESENCE, Face, Frame, Landmarker
from kinecast.faces.squares import as_picture

CHOICES = ("largest", "nearest")


class OneEuro:
    """The One Euro filter: low-pass at rest, little lag in fast motion (Casiez et al. 2012).

    Args:
        fps: frames per second.
        cutoff: Hz, for a face at rest; lower values reduce jitter.
        speed_weight: Hz added per face size per second; higher values reduce lag. Defaults as in the original program.
        speed_cutoff: Hz, for the speed estimate.
    """

    def __init__(
        self, fps: float = 30.0, cutoff: float = 0.05, speed_weight: float = 80.0, speed_cutoff: float = 1.0
    ) -> None:
        self.fps, self.cutoff, self.speed_weight, self.speed_cutoff = fps, cutoff, speed_weight, speed_cutoff
        self.reset()

    def reset(self) -> None:
        """Reset: the next points are treated as the first."""
        self._raw: np.ndarray | None = None
        self._smooth = self._speed = np.zeros(())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return smoothed points (P, 2 or 3) in pixels, float64; speed is relative to the size of their box."""
        points = np.asarray(points, np.float64)
        if self._raw is None:
            self._smooth, self._speed = points, np.zeros_like(points)
        else:
            size = max(float(np.ptp(points[:, :2], axis=0).mean()), 1e-6)
            speed = (points - self._raw) * self.fps / size
            self._speed = self._speed + self._share(self.speed_cutoff) * (speed - self._speed)
            share = self._share(self.cutoff + self.speed_weight * np.abs(self._speed))
            self._smooth = self._smooth + share * (points - self._smooth)
        self._raw = points
        return self._smooth

    def _share(self, cutoff: float | np.ndarray) -> float | np.ndarray:
        """Return the weight of a new value for a cutoff in Hz."""
        return 1 / (1 + self.fps / (2 * math.pi * cutoff))


class Tracker:
    """Tracks one face: each frame's landmarks give the next frame's square; detects again when the face is lost.

    Args:
        landmarker: finds the landmarks.
        which: the face to track if there are several: "largest"; "nearest" to its last position, initially the largest;
            or a number, counted from 1 at the left, afterwards the nearest too.
        smoothing: a filter for the landmarks, applied before expression and pose are computed.

    Raises:
        KinecastError: `which` is none of these.
    """

    def __init__(self, landmarker: Landmarker, which: str | int = "largest", smoothing: OneEuro | None = None) -> None:
        self.landmarker, self.which, self.smoothing = landmarker, face_choice(which), smoothing
        self.reset()

    def reset(self) -> None:
        """Reset before a new clip."""
        self._tracked: Face | None = None
        self._last: Face | None = None
        if self.smoothing:
            self.smoothing.reset()

    def __call__(self, frame: Frame) -> Face | None:
        """Return the face in the next frame; None if it is not seen there.

        Raises:
            KinecastError: not a frame.
        """
        found = self._continued(frame) or choose(self.landmarker.detect(frame), self.which, self._last)
        self._tracked = found
        if found is None:
            if self.smoothing:
                self.smoothing.reset()
            return None
        self._last = found
        return self._smoothed(found, frame) if self.smoothing else found

    def follow(self, frames: Iterable[Frame]) -> Iterator[Face | None]:
        """Yield the tracked face, or None, for each frame of a clip."""
        return map(self, frames)

    def _continued(self, frame: Frame) -> Face | None:
        if self._tracked is None:
            return None
        (face,) = self.landmarker.look([frame], [self._tracked.square])
        return face if face.presence >= LEAST_PRESENCE else None

    def _smoothed(self, face: Face, frame: Frame) -> Face:
        assert self.smoothing is not None
        height, width = as_picture(frame).shape[1:]
        (smooth,) = self.landmarker.describe(self.smoothing(face.landmarks)[None], [face.presence], [(height, width)])
        return smooth


def face_choice(which: str | int, words: Sequence[str] = CHOICES) -> str | int:
    """Check and return a choice of face: one of `words`, or a number from 1, also as a string.

    Raises:
        KinecastError: it is neither.
    """
    if which in words:
        return which
    if isinstance(which, int) or which.isdecimal():
        number = int(which)
        if number >= 1:
            return number
    raise KinecastError(
        f"face: expected {', '.join(words)}, or a number from 1, counted from the left, found {which!r}"
    )


def choose(faces: Sequence[Face], which: str | int, last: Face | None = None) -> Face | None:
    """Return the chosen face, or None if it is not among them.

    Args:
        faces: of one frame, the largest first.
        which: as in `Tracker`.
        last: where the face was seen before.
    """
    if not faces:
        return None
    if which != "largest" and last is not None:
        centre = last.centre
        return min(faces, key=lambda face: float(np.linalg.norm(face.centre - centre)))
    if isinstance(which, int):
        ordered = sorted(faces, key=lambda face: float(face.centre[0]))
        return ordered[which - 1] if which <= len(ordered) else None
    return faces[0]
