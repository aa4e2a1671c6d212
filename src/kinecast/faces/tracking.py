"""One face followed through the frames of a clip, and a filter against its trembling."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from kinecast.errors import KinecastError
from kinecast.faces.landmarker import LEAST_PRESENCE, Face, Frame, Landmarker
from kinecast.faces.squares import as_picture

CHOICES = ("largest", "nearest")


class OneEuro:
    """A low-pass filter that follows fast movements and holds slow ones still (Casiez et al. 2012).

    Args:
        fps: frames per second.
        cutoff: Hz, of a face at rest; lower trembles less.
        speed_weight: Hz more for each face's size a second; higher lags less. The defaults are the original program's.
        speed_cutoff: Hz, of the speed itself.
    """

    def __init__(
        self, fps: float = 30.0, cutoff: float = 0.05, speed_weight: float = 80.0, speed_cutoff: float = 1.0
    ) -> None:
        self.fps, self.cutoff, self.speed_weight, self.speed_cutoff = fps, cutoff, speed_weight, speed_cutoff
        self.reset()

    def reset(self) -> None:
        """Forget what was: the next points are the first."""
        self._raw: np.ndarray | None = None
        self._smooth = self._speed = np.zeros(())

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Return smoothed points (P, 2 or 3) in pixels, float64; speed is measured by the size of their box."""
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
        """Return how much of a new value is taken over, for a cutoff in Hz."""
        return 1 / (1 + self.fps / (2 * math.pi * cutoff))


class Tracker:
    """Follows one face: from its landmarks to the square of the next frame; looks anew when it is lost.

    Args:
        landmarker: what finds landmarks.
        which: the face taken when there are several: "largest"; "nearest" to where it was last seen, at first the
            largest; or a number, counted from 1 at the left, which later is the nearest too.
        smoothing: a filter of the landmarks, from which expression and pose are then read.

    Raises:
        KinecastError: `which` is none of these.
    """

    def __init__(self, landmarker: Landmarker, which: str | int = "largest", smoothing: OneEuro | None = None) -> None:
        self.landmarker, self.which, self.smoothing = landmarker, face_choice(which), smoothing
        self.reset()

    def reset(self) -> None:
        """Forget the face: the next frame is of another clip."""
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
        """Yield for each frame of a clip what calling with it returns."""
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


def face_choice(which: str | int) -> str | int:
    """Check and return which face is meant: one of CHOICES, or a number from 1, which may be written.

    Raises:
        KinecastError: it is neither.
    """
    if which in CHOICES:
        return which
    if isinstance(which, int) or which.isdecimal():
        number = int(which)
        if number >= 1:
            return number
    raise KinecastError(
        f"face: expected {', '.join(CHOICES)} or a number from 1, counted from the left, found {which!r}"
    )


def choose(faces: Sequence[Face], which: str | int, last: Face | None = None) -> Face | None:
    """Return the face that is meant, None if it is not among them.

    Args:
        faces: of one frame, the largest first.
        which: as `Tracker` has it.
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
