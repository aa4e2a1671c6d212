"""A camera's frames, the portrait that they move, and the virtual camera that shows it, until one of them ends."""

import asyncio
import queue
import time
from collections.abc import Awaitable, Callable
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from kinecast.apps.camera.feed import Newest
from kinecast.apps.camera.figures import Figures
from kinecast.apps.camera.performer import Performer
from kinecast.media.virtual_camera import FrameSink

PREVIEW_LONGEST = 640  # pixels of what the page shows

Feed = Callable[[Newest], Awaitable[object]]


class Show:
    """Draws each frame as it comes, in a thread of its own, and sends it to all that show it.

    Where drawing is slower than the camera, frames are left out: the newest is drawn, and nothing queues.

    Args:
        performer: draws.
        sinks: what shows it: a virtual camera, or nothing but the page.
    """

    def __init__(self, performer: Performer, *sinks: FrameSink) -> None:
        self.performer, self.sinks = performer, sinks
        self.newest, self.figures = Newest(), Figures()
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._shown: tuple[int, np.ndarray] = (0, performer.avatars[0].stage.picture)
        self._news = asyncio.Event()
        self._ended = asyncio.Event()

    # --- what people may ask for, from the event loop ---------------------------------------------------------------

    def choose(self, index: int) -> bool:
        """Show another avatar from the next frame on; returns whether there is one of this index."""
        there = 0 <= index < len(self.performer.avatars)
        if there:
            self._orders.put(lambda: self.performer.choose(index))
        return there

    def calibrate(self) -> None:
        """Take the next pose that is seen for the neutral one."""
        self._orders.put(self.performer.calibrate)

    def end(self) -> None:
        """End it after the frame that is being drawn."""
        self._ended.set()

    def described(self) -> dict[str, Any]:
        """Return what the page shows beside the picture."""
        return {
            "avatars": [avatar.name for avatar in self.performer.avatars],
            "current": self.performer.current,
            "seen": self.performer.seen,
            "calibrated": self.performer.calibrated,
            "camera": self.sinks[0].name if self.sinks else "",
            **self.figures.now(),
        }

    async def picture(self, after: int, patience: float) -> tuple[int, bytes]:
        """Return the number of the newest frame and the frame, small, as a JPEG.

        Args:
            after: wait for one with a higher number.
            patience: seconds until the same one is returned again.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while self._shown[0] <= after and loop.time() < end:
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), end - loop.time())
            except TimeoutError:
                break
        number, frame = self._shown
        return number, await asyncio.to_thread(thumbnail, frame)

    # --- the work ---------------------------------------------------------------------------------------------------

    async def run(self, feed: Feed) -> dict[str, Any]:
        """Show all that `feed` brings, and return the figures of `Figures.total`.

        Args:
            feed: brings frames into the `Newest` that it is given; it ends when there are no more.

        Raises:
            KinecastError: the camera or the virtual camera is gone.
        """
        loop = asyncio.get_running_loop()
        self.figures = Figures()
        feeding = asyncio.ensure_future(feed(self.newest))
        feeding.add_done_callback(lambda done: None if done.cancelled() else self.newest.close(done.exception()))
        drawing = asyncio.ensure_future(asyncio.to_thread(self._draw, loop))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({drawing, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.newest.close()
            feeding.cancel()
            ended.cancel()
            await asyncio.gather(feeding, ended, return_exceptions=True)
            await asyncio.gather(drawing, return_exceptions=True)
        drawing.result()
        return self.figures.total(self.newest.arrived)

    def _draw(self, loop: asyncio.AbstractEventLoop) -> None:
        while (captured := self.newest.take()) is not None and not self._ended.is_set():
            while not self._orders.empty():
                self._orders.get()()
            frame = self.performer(captured.picture)
            for sink in self.sinks:
                sink.send(frame)
            self.figures.add(time.monotonic() - captured.at, not self.performer.seen)
            self._shown = (self._shown[0] + 1, frame)
            loop.call_soon_threadsafe(self._news.set)


def thumbnail(frame: np.ndarray, longest: int = PREVIEW_LONGEST) -> bytes:
    """Return a frame (H, W, 3), uint8, as a JPEG no longer than `longest` pixels."""
    picture = Image.fromarray(frame)
    picture.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    file = BytesIO()
    picture.save(file, "JPEG", quality=80)
    return file.getvalue()
