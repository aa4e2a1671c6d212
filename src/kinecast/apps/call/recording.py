"""Recording of the displayed frames to a clip at a constant frame rate, in its own thread."""

import contextvars
import queue
import threading
from pathlib import Path

import numpy as np

from kinecast.apps.call.faults import reason_of
from kinecast.files import check_output
from kinecast.media.video import VideoWriter

_WAITING = 50  # frames: on a slower disk the newest are dropped


class Recorder:
    """Writes frames as they are shown. The clip is complete after `close`.

    Args:
        path: mp4, mov, mkv, webm or gif.
        fps: frame rate of the clip; a frame lasts until the next one.

    Raises:
        KinecastError: it cannot be written there.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._writer = VideoWriter(check_output(path), fps)
        self._fps, self._queue = fps, queue.Queue[tuple[np.ndarray, int] | None](_WAITING)
        self._started: float | None = None
        self._written = 0  # frames queued
        self.dropped = 0
        self.error: str | None = None
        in_context = contextvars.copy_context().run  # which knows the files being read
        self._thread = threading.Thread(target=in_context, args=(self._run,), name="kinecast-record", daemon=True)
        self._thread.start()

    def add(self, picture: np.ndarray, now: float) -> None:
        """Take a frame shown at `now`, seconds of a monotonic clock. Never blocks."""
        if self._started is None:
            self._started = now
        until = int((now - self._started) * self._fps) + 1
        if until <= self._written:
            return  # two within one frame of the clip
        try:
            self._queue.put_nowait((picture, min(until - self._written, int(60 * self._fps))))
        except queue.Full:
            self.dropped += 1
            return
        self._written = until

    def close(self) -> str | None:
        """Finish the clip; returns a line if it could not be written. Blocks: call it off the event loop."""
        self._queue.put(None)
        self._thread.join()
        return self.error

    def _run(self) -> None:
        shown = iter(self._queue.get, None)
        first = next(shown, None)
        if first is None:
            self.error = f"{self._writer.path}: nothing was shown, so there is no recording"
            return
        try:
            with self._writer as writer:
                last = first[0]
                for picture, count in shown:
                    for _ in range(count):  # the previous frame lasted until this one
                        writer.write(last)
                    last = picture
                writer.write(last)
        except Exception as error:  # of whatever kind: `close` waits for this thread
            self.error = f"recording: {reason_of(error)}"
            for _ in shown:
                pass  # a full disk must not block the producer
