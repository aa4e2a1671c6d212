"""A clip as a camera: its frames in real time."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kinecast.apps.call.config import CameraFrame
from kinecast.media.resampling import Shown, with_ends
from kinecast.media.video import probe, timed_frames

_AHEAD = 2  # frames decoded ahead


async def play_clip(
    path: Path, submit: Callable[[CameraFrame], None], fps: float | None = None, repeat: bool = False
) -> int:
    """Submit a clip's frames at their own times, decoded off the event loop; returns their number at the end.

    A machine too slow to decode in time skips frames, as a camera would, and never delays them.

    Args:
        path: anything `kinecast.media.video.read_frames` reads.
        submit: takes each frame, with its due time.
        fps: the true frame rate, if the times in the file are wrong.
        repeat: loop until cancelled.

    Raises:
        KinecastError: it cannot be read.
    """
    loop = asyncio.get_running_loop()
    info = await loop.run_in_executor(None, probe, path)
    queue: asyncio.Queue[Shown[np.ndarray] | None] = asyncio.Queue(_AHEAD)
    reader = asyncio.ensure_future(_read(path, queue, fps, info.duration, repeat))
    started, number = time.time(), 0
    try:
        while (shown := await queue.get()) is not None:
            begin, end, picture = shown
            due = started + begin
            now = time.time()
            if now < due:
                await asyncio.sleep(due - now)
            if now < started + end:
                submit(CameraFrame(picture, due, number))
            number += 1
        await reader  # raises its error
        return number
    finally:
        reader.cancel()


async def _read(
    path: Path,
    queue: "asyncio.Queue[Shown[np.ndarray] | None]",
    fps: float | None,
    duration: float | None,
    repeat: bool,
) -> None:
    loop = asyncio.get_running_loop()
    start = end = 0.0
    try:
        while True:
            timed = timed_frames(path, crop="none")
            if fps is not None:
                timed = ((i / fps, picture) for i, (_, picture) in enumerate(timed))
            frames = with_ends(timed, duration if fps is None else None)
            while (shown := await loop.run_in_executor(None, next, frames, None)) is not None:
                end = start + shown[1]
                await queue.put((start + shown[0], end, shown[2]))
            if not repeat:
                return
            start = end
    finally:
        if not asyncio.current_task().cancelling():  # type: ignore[union-attr]
            await queue.put(None)
