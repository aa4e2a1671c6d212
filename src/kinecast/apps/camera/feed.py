"""The newest frame of a camera: what is not taken in time is replaced, so that nothing is ever late."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kinecast.apps.call.capture import play_clip
from kinecast.apps.call.config import CameraFrame
from kinecast.errors import KinecastError

PATIENCE_S = 10.0  # without a frame
_PARTING_S = 1.0  # for the camera to give its last one


class Captured(NamedTuple):
    """A frame (H, W, 3), uint8, and when it arrived, by `time.monotonic`."""

    picture: np.ndarray
    at: float


class Newest:
    """A place for one frame, between the camera's thread and the one that draws."""

    def __init__(self) -> None:
        self.arrived = 0
        self._changed = threading.Condition()
        self._item: Captured | None = None
        self.closed = False
        self._error: BaseException | None = None

    def put(self, item: Captured) -> None:
        """Bring a frame; one that nobody took is forgotten."""
        with self._changed:
            self._item = item
            self.arrived += 1
            self._changed.notify()

    def close(self, error: BaseException | None = None) -> None:
        """Say that no more frames come; a frame that waits is still taken."""
        with self._changed:
            if not self.closed:
                self.closed, self._error = True, error
            self._changed.notify()

    def take(self, patience: float = PATIENCE_S) -> Captured | None:
        """Wait for a frame and take it; None after the last.

        Raises:
            KinecastError: none comes, or what ended the camera.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._item is not None or self.closed, patience):
                raise KinecastError(
                    f"camera: expected frames, found none for {patience:g} seconds: plug it in anew, or end the "
                    "program that uses it"
                )
            item, self._item = self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item


async def read_camera(frames: Iterator[np.ndarray], newest: Newest) -> None:
    """Bring a camera's frames as they come, by a thread of their own, until cancelled; `newest` says how they ended."""

    def read() -> None:
        try:
            for picture in frames:
                if newest.closed:
                    return
                newest.put(Captured(picture, time.monotonic()))
            newest.close()
        except Exception as error:
            newest.close(error)

    # A daemon: a camera that hangs must not keep the program from ending.
    thread = threading.Thread(target=read, name="kinecast-camera", daemon=True)
    thread.start()
    try:
        await asyncio.Event().wait()
    finally:
        newest.close()
        await asyncio.to_thread(thread.join, _PARTING_S)  # the device is let go after the frame that it gives now


async def read_clip(path: Path, newest: Newest, repeat: bool = False) -> None:
    """Bring the frames of a clip at their own times, as a camera would, and return at its end.

    Raises:
        KinecastError: it cannot be read.
    """

    def bring(frame: CameraFrame) -> None:
        late = time.time() - frame.captured
        newest.put(Captured(frame.picture, time.monotonic() - late))

    await play_clip(path, bring, repeat=repeat)
