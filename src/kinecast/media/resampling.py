"""Display times of frames: resampling to a constant rate, and whether frames count as evenly spaced.

*Edges* are (T + 1,) seconds, float64, increasing: frame i is shown from edge i to edge i + 1. A frame stays until the
next one comes, so resampling picks for each new time the frame shown then.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil
from typing import TypeVar

import numpy as np

_USUAL = 1.0, 60.0  # limits of automatically chosen rates: a still hour must not become a million frames
_ROUNDING = 1e-6  # of a frame: times equal up to float rounding

Item = TypeVar("Item")
Shown = tuple[float, float, Item]  # start, end, item


def with_ends(timed: Iterable[tuple[float, Item]], duration: float | None) -> Iterator[Shown[Item]]:
    """Yield items with their display times: each ends when the next begins, or at `duration`.

    Without a duration, the last one stays as long as the one before it.
    """
    last: tuple[float, Item] | None = None
    step = 1.0
    for time, item in timed:
        if last is not None:
            step = time - last[0]
            yield last[0], time, last[1]
        last = time, item
    if last is not None:
        end = duration if duration is not None and duration > last[0] else last[0] + step
        yield last[0], end, last[1]


def at_rate(shown: Iterable[Shown[Item]], fps: float) -> Iterator[Shown[Item]]:
    """Resample to a constant rate: yield the items shown at 0, 1 / fps, 2 / fps, ... after the start."""
    given, start = 0, None
    for begin, end, item in shown:
        start = begin if start is None else start
        for number in range(given, frames_before(end - start, fps)):
            yield number / fps, (number + 1) / fps, item
            given = number + 1


def between(shown: Iterable[Shown[Item]], start: float, end: float | None) -> Iterator[Shown[Item]]:
    """Yield the items shown from `start` to `end`, with times relative to the first.

    An item that a boundary cuts is included if most of it is inside.
    """
    first: float | None = None
    for begins, ends, item in shown:
        middle = (begins + ends) / 2
        if end is not None and middle >= end:
            return
        if middle >= start:
            first = begins if first is None else first
            yield begins - first, ends - first, item


def frames_before(seconds: float, fps: float) -> int:
    """Return how many frames of a constant rate begin before a time."""
    return ceil(seconds * fps - _ROUNDING)


def even(edges: np.ndarray) -> bool:
    """Return whether frames count as evenly spaced: all are less than one frame from a regular grid."""
    count = len(edges) - 1
    period = (edges[-1] - edges[0]) / max(count, 1)
    return count < 2 or bool(np.ptp(edges[:-1] - np.arange(count) * period) < period)


def usual_rate(edges: np.ndarray) -> float:
    """Return the rate to resample to: that of the median frame, within the usual range."""
    return float(Fraction(np.clip(1 / np.median(np.diff(edges)), *_USUAL)).limit_denominator(1001))
