"""Long work in short steps, so that previews come in between and a job can be cancelled."""

import asyncio
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kinecast.apps.extraction import MotionLog
from kinecast.apps.heads.drawing import HeadDrawing
from kinecast.apps.heads.glb import Head
from kinecast.apps.portrait.driving import Reading, driving_footage
from kinecast.apps.studio.controls import Look
from kinecast.apps.studio.heads import Puppet
from kinecast.apps.studio.scene import GIF_LONGEST, SQUARE_SIDE, Choice, Scene
from kinecast.errors import KinecastError
from kinecast.media.framing import fit
from kinecast.media.sound import SoundSource, clip_sound
from kinecast.media.video import VideoWriter
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

FORMATS = ("mp4", "gif", "webm")
_SEEN = 4  # frames of a clip that are looked at in a step
_DRAWN = 2  # frames that are drawn in one
_QUALITY = 18
_HEAD_SIDE = 768  # pixels of a 3-D head as it is drawn; smaller ones are written, or its edges would have steps
_SETTLED = 2  # steps after which the time that is left is guessed

Result = TypeVar("Result")
Steps = Generator[int, None, None]  # yields how many frames a step has done


class Worker:
    """One thread for all work of the model: requests are handled in order, one at a time."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "kinecast-studio")

    async def run(self, work: Callable[..., Result], *args: Any) -> Result:
        """Run a function in the thread and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    async def close(self) -> None:
        """Drop waiting work, and wait for the current one."""
        await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)


class Job:
    """Steps in a worker's thread, with progress.

    Args:
        worker: whose.
        steps: what is to be done.
        total: frames in all, as far as is known.
        said: turns an error's line into one that the page may see.
        clock: monotonic seconds.

    Attributes:
        state: "running", "done", "cancelled" or "failed".
        done: frames so far.
        total: frames in all, as far as is known.
        error: why it failed, in one line.
    """

    def __init__(
        self,
        worker: Worker,
        steps: Steps,
        total: int | None,
        said: Callable[[str], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state, self.done, self.total, self.error = "running", 0, total, ""
        self._worker, self._steps, self._said, self._clock = worker, steps, said, clock
        self._began, self._count = clock(), 0
        self._cancelled = False
        self.task = asyncio.ensure_future(self._run())

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining seconds at the rate so far; None while unknown."""
        if self.state != "running" or self._count < _SETTLED or not self.total or not self.done:
            return None
        return max(self.total - self.done, 0) * (self._clock() - self._began) / self.done

    def cancel(self) -> None:
        """Cancel after the current step."""
        self._cancelled = True

    async def stop(self) -> None:
        """Cancel it and wait for its end."""
        self.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def described(self) -> dict[str, Any]:
        """Return what the page shows of it."""
        left = self.seconds_left
        return {
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "left": None if left is None else round(left, 1),
            "error": self.error,
        }

    async def _run(self) -> None:
        ended = object()
        try:
            while not self._cancelled:
                count: Any = await self._worker.run(next, self._steps, ended)
                if count is ended:
                    self.state, self.total = "done", self.done
                    return
                self.done += count
                self._count += count > 0
            self.state = "cancelled"
        except KinecastError as error:
            self.state, self.error = "failed", self._said(str(error))
        except (OSError, RuntimeError, MemoryError) as error:  # the disk or memory is full, or the studio ends
            self.state, self.error = "failed", f"expected enough disk space and memory, found {type(error).__name__}"
        finally:
            await asyncio.shield(self._closed())

    async def _closed(self) -> None:
        try:
            await self._worker.run(self._steps.close)  # what is half written is removed
        except RuntimeError:  # the worker has ended: so does the program
            self._steps.close()


class Track:
    """A driving clip, and its motion as far as it has been analysed.

    Args:
        model: what detects.
        path: the clip.

    Raises:
        KinecastError: it cannot be read, or is a picture.
    """

    def __init__(self, model: Mesh, path: Path) -> None:
        self.model, self.path = model, path
        self.footage = driving_footage(model, path, Reading())
        info = self.footage.info
        self.count = info.frames or (round(info.duration * info.fps) if info.duration else None)
        if self.count == 1:
            raise KinecastError("clip: expected moving pictures, found one picture: choose a clip")
        self._log = MotionLog(model, self.footage)

    @property
    def seen(self) -> int:
        """The frames that have been looked at."""
        return len(self._log)

    def look(self) -> Steps:
        """Detect its motion in steps.

        Raises:
            KinecastError: no face in any frame.
        """
        detect = self.model.follow()
        for edges, frames in self.footage.batches(_SEEN):
            self._log.add(edges, detect(frames.to(self.model.device)))
            yield len(frames)
        if not self._log.shows_something:
            raise KinecastError("clip: expected a face in some frame, found none: choose another clip")

    def motion(self) -> Motion | None:
        """Return the motion of the frames seen so far, None before the first."""
        if not self.seen:
            return None
        motion = self._log.motion()
        return motion.held() if self._log.shows_something else motion

    def frame(self, index: int) -> tuple[Motion, Motion] | None:
        """Return the motion of a frame, or of the last one seen so far, and of the first; None before there is any."""
        motion = self.motion()
        return None if motion is None else (motion[min(index, len(motion) - 1)], motion[0])

    def described(self) -> dict[str, Any]:
        """Return what the page shows of it."""
        return {"known": self.seen, "frames": self.count, "fps": round(self._log.fps, 3)}


@dataclass(frozen=True)
class Order:
    """What is to be made: a `kind` of FORMATS, what is shown, and how it looks."""

    kind: str
    choice: Choice
    look: Look


def render(scene: Scene, track: Track, order: Order, output: Path) -> Steps:
    """Draw all frames of a clip and write them, in steps.

    Raises:
        KinecastError: nothing is known of the clip's motion, or it cannot be written.
    """
    known = _analysed(track)
    longest = GIF_LONGEST if order.kind == "gif" else None
    stage = scene.stage(order.choice, longest)
    yield 0
    motion, first = scene.motion(stage, order.look, known, known[0])
    yield from _written(track, motion, stage.frames(_pieces(motion), first), order.kind, output)


def render_head(puppet: Callable[[], Puppet], head: Head, track: Track, order: Order, output: Path) -> Steps:
    """Draw a 3-D head for all frames of a clip and write them, in steps.

    Raises:
        KinecastError: nothing is known of the clip's motion, or it cannot be written.
    """
    motion = _analysed(track)
    drawing, poses = HeadDrawing(head, _HEAD_SIDE), puppet().follow(order.look, motion[0])
    yield 0
    size = (SQUARE_SIDE, SQUARE_SIDE)
    frames = (
        fit(drawing.draw(pose), (0, 0, _HEAD_SIDE, _HEAD_SIDE), size)
        for piece in _pieces(motion)
        for pose in poses(piece)
    )
    yield from _written(track, motion, frames, order.kind, output)


def _analysed(track: Track) -> Motion:
    known = track.motion()
    if known is None:
        raise KinecastError("clip: expected its motion, found none yet: wait until it has been analysed")
    return known


def _written(track: Track, motion: Motion, frames: Iterator[np.ndarray], kind: str, output: Path) -> Steps:
    """Write a frame for each of the motion's, with the clip's times and sound."""
    edges = None if motion.times is None else motion.edges()
    sound: SoundSource | None = None if kind == "gif" else clip_sound(track.path, 0.0)
    with VideoWriter(output, motion.fps or track.footage.rate, quality=_QUALITY, sound=sound) as writer:
        for i, frame in enumerate(frames):
            writer.write(frame, None if edges is None else edges[i : i + 2])
            if i % _DRAWN == _DRAWN - 1 or i == len(motion) - 1:
                yield i % _DRAWN + 1


def _pieces(motion: Motion) -> Iterator[Motion]:
    for start in range(0, len(motion), _DRAWN):
        yield motion[start : start + _DRAWN]
