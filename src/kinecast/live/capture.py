"""A clip as a camera: its frames in real time, as a camera would give them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from kinecast.live.config import CameraFrame
from kinecast.video import probe, read_frames

_AHEAD = 2  # frames that are decoded before their time


async def play_clip(
    path: Path, submit: Callable[[CameraFrame], None], fps: float | None = None, repeat: bool = False
) -> int:
    """Give a clip's frames at its own pace, decoded off the event loop; returns how many there were when it ends.

    A machine that cannot decode in time gives fewer frames, as a camera would, never later ones.

    Args:
        path: whatever `kinecast.video.read_frames` reads.
        submit: takes each frame, with the time at which it was due.
        fps: the true frame rate where the container's is wrong.
        repeat: begin again at the end, until cancelled.

    Raises:
        KinecastError: it cannot be read.
    """
    loop = asyncio.get_running_loop()
    rate = fps or (await loop.run_in_executor(None, probe, path)).fps
    queue: asyncio.Queue[np.ndarray | None] = asyncio.Queue(_AHEAD)
    reader = asyncio.ensure_future(_read(path, queue, repeat))
    started, number = time.time(), 0
    try:
        while (picture := await queue.get()) is not None:
            due = started + number / rate
            now = time.time()
            if now < due:
                await asyncio.sleep(due - now)
            if now - due < 1 / rate:
                submit(CameraFrame(picture, due, number))
            number += 1
        await reader  # raises what went wrong
        return number
    finally:
        reader.cancel()


async def _read(path: Path, queue: "asyncio.Queue[np.ndarray | None]", repeat: bool) -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            frames: Iterator[np.ndarray] = read_frames(path, crop="none")
            while (picture := await loop.run_in_executor(None, next, frames, None)) is not None:
                await queue.put(picture)
            if not repeat:
                return
    finally:
        if not asyncio.current_task().cancelling():  # type: ignore[union-attr]
            await queue.put(None)
