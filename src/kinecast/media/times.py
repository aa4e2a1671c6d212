"""Display times of frames: repaired, and the rate and length derived from them.

A clip's header may be wrong or incomplete: browser recordings claim 1000 frames per second, and a phone's rate varies
with the light. Only the times of the frames count. All times are seconds since the first frame.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

DEFAULT_FPS = 25.0  # of pictures, which have no rate

_LEAST_DRIFT = 0.05  # of a frame: a smaller deviation from the regular grid is jitter, not a variable rate

Item = TypeVar("Item")


class Timing(NamedTuple):
    """Mean rate, whether frame i is at i / fps, and the time in seconds at which the last frame ends."""

    fps: float
    constant: bool
    duration: float


def regular(items: Iterable[Item], fps: float = DEFAULT_FPS) -> Iterator[tuple[float, Item]]:
    """Yield items with the times of a constant rate."""
    return ((index / fps, item) for index, item in enumerate(items))


def repaired(times: Iterable[tuple[float | None, Item]], fps: float) -> Iterator[tuple[float, Item]]:
    """Yield items with times that start at 0 and strictly increase.

    A time that is missing or not later than the previous one becomes the previous one plus the last valid interval, or
    1 / fps if there was none yet. So a concatenated clip whose clock restarts continues at its own rate.
    """
    start: float | None = None
    step = 1 / fps
    last = -step
    for time, item in times:
        if start is None and time is not None:
            start = time - (last + step)
            last += step
        elif start is None or time is None or time - start <= last:
            last += step
        else:
            step, last = time - start - last, time - start
        yield last, item


def measured(times: np.ndarray, header: float, tick: float, last: float = 0.0) -> Timing:
    """Determine the rate from the frames' times.

    Args:
        times: (T,) seconds, in display order.
        header: the rate that the file claims.
        tick: the file's clock period in seconds, to which its times are rounded.
        last: duration of the last frame in seconds; 0 if unknown.
    """
    count = len(times)
    if count < 2 or times[-1] <= times[0]:
        if not header * tick < 0.9:  # a rate equal to the clock itself is the demuxer's guess
            header = 1 / last if last > tick else DEFAULT_FPS
        return Timing(header, True, max(count, 1) / header)
    mean = float((count - 1) / (times[-1] - times[0]))
    last = last if last > tick else 0.0
    for fps in (header, mean):
        allowed = max(1.01 * tick, _LEAST_DRIFT / fps)
        drift = np.abs(times - times[0] - np.arange(count) / fps).max()
        if drift <= allowed and last <= 1.5 / fps + allowed:  # a held last frame has its own duration
            return Timing(fps, True, count / fps)
    duration = float(times[-1] - times[0] + (last or np.median(np.diff(times))))
    return Timing(count / duration, False, duration)
