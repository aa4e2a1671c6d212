"""When frames are shown, as numbers: resampling in time, and whether a rate is constant enough to forecast by.

*Edges* are (T + 1,) float64 seconds, increasing: frame i is shown from edge i to edge i + 1. A frame stays until the
next one comes, so that resampling takes, for each new moment, the frame that is shown then.
"""

from collections.abc import Iterable, Iterator
from typing import TypeVar

import numpy as np

from kinecast.errors import KinecastError

HIGHEST_FPS = 1000.0
_USUAL = 1.0, 60.0  # rates that are chosen without being asked for: a clip of one still hour is not a million frames
_ROUNDING = 1e-6  # of a frame: times that are equal but for the rounding of floats

Item = TypeVar("Item")


def check_fps(fps: float | None) -> None:
    """Check a frame rate that a user asked for.

    Raises:
        KinecastError: it is not in (0, 1000].
    """
    if fps is not None and not 0 < fps <= HIGHEST_FPS:
        raise KinecastError(f"fps: expected a rate in (0, {HIGHEST_FPS:g}], found {fps}")


def last_duration(times: np.ndarray) -> float:
    """Return how long the last of some frames probably stays where nothing tells, seconds: as the median of them."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def shown_at(edges: np.ndarray, fps: float) -> np.ndarray:
    """Return which frame is shown at 0, 1 / fps, 2 / fps, ... after the first edge, at least one: indices, int64."""
    return np.repeat(np.arange(len(edges) - 1), _copies(edges, fps))


def at_rate(timed: Iterable[tuple[float, Item]], fps: float, end: float) -> Iterator[tuple[float, Item]]:
    """Resample items with increasing times to a constant rate, as `shown_at` does, streaming; the last ends at `end`.

    The first time is 0.
    """
    given, last = 0, None
    for time, item in timed:
        if last is not None:
            for given in range(given + 1, before + 1) if (before := _before(time, fps)) > given else ():
                yield (given - 1) / fps, last
        last = item
    raise NotImplementedError


def even(times: np.ndarray, fps: float) -> bool:
    """Return whether frames may be taken for evenly spaced: none is a frame or more away from where it would be."""
    drift = times - times[0] - np.arange(len(times)) / fps
    return bool(np.ptp(drift) < 1 / fps)


def usual_rate(edges: np.ndarray) -> float:
    """Return the rate to resample to: that of the median frame, within what clips usually have."""
    return float(np.clip(1 / np.median(np.diff(edges)), *_USUAL))
