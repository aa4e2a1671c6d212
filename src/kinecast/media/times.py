"""When frames are shown: their times repaired, and the rate and length that follow from them.

A clip's header may lie or be silent: a browser's recording claims 1000 frames per second, a phone's rate wanders with
the light. What counts are the times of the frames. All times are seconds since the first frame.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

DEFAULT_FPS = 25.0  # of pictures, which do not say

_LEAST_DRIFT = 0.05  # of a frame: less than that off the regular grid is a recorder's trembling, not a variable rate

Item = TypeVar("Item")


class Timing(NamedTuple):
    """Mean rate, whether frame i stands at i / fps, and seconds until the last frame has been shown."""

    fps: float
    constant: bool
    duration: float


def regular(items: Iterable[Item], fps: float = DEFAULT_FPS) -> Iterator[tuple[float, Item]]:
    """Yield items with the times of a constant rate."""
    return ((index / fps, item) for index, item in enumerate(items))


def repaired(times: Iterable[tuple[float | None, Item]], fps: float) -> Iterator[tuple[float, Item]]:
    """Yield items with times that start at 0 and strictly increase.

    A time that is missing or not later than the one before becomes that one's plus the last true interval, or 1 / fps
    where there was none yet. So a clip joined of several, whose clock starts anew, goes on at its own pace.
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
    """Tell the rate from the frames' times.

    Args:
        times: (T,) seconds, in order of being shown.
        header: the rate that the file claims.
        tick: seconds of the file's clock: what its times are rounded to.
        last: how long the last frame stays, in seconds; 0 if the file does not say.
    """
    count = len(times)
    if count < 2 or times[-1] <= times[0]:
        if not header * tick < 0.9:  # a rate as fine as the clock itself is the demuxer's guess
            header = 1 / last if last > tick else DEFAULT_FPS
        return Timing(header, True, max(count, 1) / header)
    mean = float((count - 1) / (times[-1] - times[0]))
    last = last if last > tick else 0.0
    for fps in (header, mean):
        allowed = max(1.01 * tick, _LEAST_DRIFT / fps)
        drift = np.abs(times - times[0] - np.arange(count) / fps).max()
        if drift <= allowed and last <= 1.5 / fps + allowed:  # a last frame that is held is a time of its own
            return Timing(fps, True, count / fps)
    duration = float(times[-1] - times[0] + (last or np.median(np.diff(times))))
    return Timing(count / duration, False, duration)
