"""Sessions: one per open page, with a folder that is removed with it."""

import asyncio
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kinecast.apps.heads.expression import HeadPose
from kinecast.apps.heads.glb import Head, own_head, parse_head
from kinecast.apps.portrait.inputs import as_picture
from kinecast.apps.studio.controls import Look
from kinecast.apps.studio.heads import Puppet
from kinecast.apps.studio.jobs import Job, Order, Steps, Track, Worker, render, render_head
from kinecast.apps.studio.scene import HEAD, Choice, Scene, jpeg, png
from kinecast.apps.studio.uploads import check_length, receive
from kinecast.errors import KinecastError
from kinecast.media.pictures import to_tensor
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

MOST_SESSIONS = 8
IDLE_S = 1800.0  # after which a session of which nothing was heard ends
NO_HEAD = "3-D head: expected one, found none yet: choose one"
_MOST_WAITING = 4  # requests of a session that the worker has still to answer

Result = TypeVar("Result")


class Busy(KinecastError):
    """There are too many requests at once."""


class Session:
    """The state of one page. Everything that uses the model is done by `worker`.

    Args:
        worker: shared by all sessions.
        model: what animates.
        folder: of its own.
        limit: bytes of an upload.
    """

    def __init__(self, worker: Worker, model: Mesh, folder: Path, limit: int) -> None:
        self._worker, self._model = worker, model
        self._folder, self._limit = folder, limit
        self.heard = time.monotonic()
        self.scene: Scene | None = None
        self.seen = (Choice(), Look())  # of what follows the camera
        self.track: Track | None = None
        self.looking: Job | None = None
        self.rendering: Job | None = None
        self._order: Order | None = None
        self._files = self._waiting = 0
        self._follow: Callable[[Any], Motion] | None = None
        self._neutral: Motion | None = None
        self.head: Head | None = None
        self._made: Puppet | None = None

    # --- files ------------------------------------------------------------------------------------------------------

    async def take_portrait(self, content: AsyncIterator[bytes], length: int | None) -> dict[str, Any]:
        """Take an uploaded picture, or a clip's first frame; returns `Scene.described`.

        Raises:
            KinecastError: too large, unreadable, or without a face.
        """
        path = await self._received("portrait", content, length)
        try:
            scene = await self._do(lambda: Scene(self._model, as_picture(path)))
        finally:
            path.unlink(missing_ok=True)
        await self.cancel()
        self.scene = scene
        return scene.described()

    async def take_clip(self, content: AsyncIterator[bytes], length: int | None) -> dict[str, Any]:
        """Take an uploaded clip and start its analysis; returns `Track.described`.

        Raises:
            KinecastError: too large, or unreadable.
        """
        path = await self._received("clip", content, length)
        try:
            track = await self._do(lambda: Track(self._model, path))
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        await self.drop_clip()
        self.track = track
        self.looking = Job(self._worker, track.look(), track.count, self._said)
        return track.described()

    async def drop_clip(self) -> None:
        """Remove the clip."""
        for job in (self.rendering, self.looking):
            if job is not None:
                await job.stop()
        self.looking = None
        track, self.track = self.track, None
        if track is not None:
            track.path.unlink(missing_ok=True)

    async def _received(self, what: str, content: AsyncIterator[bytes], length: int | None) -> Path:
        check_length(length, self._limit, self._folder)
        self._files += 1
        return await receive(content, self._folder / f"{what}-{self._files}", self._limit)

    # --- pictures ---------------------------------------------------------------------------------------------------

    async def preview(self, choice: Choice, look: Look, frame: int | None, saved: bool = False) -> bytes:
        """Return how the portrait looks, as a small JPEG, or as a PNG to be saved.

        Args:
            choice: what is shown.
            look: where the sliders are.
            frame: of the clip, None for the portrait at rest.
            saved: whether it is one to keep.
        """
        scene, track = self._scene(), self.track

        def draw() -> bytes:
            pair = track.frame(frame) if track is not None and frame is not None else None
            stage = scene.stage(choice) if saved else scene.preview_stage(choice)
            picture = scene.drawn(stage, look, *(pair or (None, None)))
            return png(picture) if saved else jpeg(picture)

        return await self._do(draw)

    async def live(self, frame: np.ndarray, anew: bool) -> tuple[bytes, bool]:
        """Return the portrait moved by a frame of the camera, as a JPEG, and whether a face was ever seen.

        `seen` says what is shown, and where the sliders are.

        Args:
            frame: (h, w, 3), uint8.
            anew: whether its pose is the one since which changes count.
        """
        scene = self._scene()

        def draw() -> tuple[bytes, bool]:
            choice, look = self.seen
            motion = self._followed(frame, anew)
            picture = scene.drawn(scene.preview_stage(choice), look, motion, self._neutral)
            return jpeg(picture), motion is not None

        return await self._do(draw)

    def _followed(self, frame: np.ndarray, anew: bool) -> Motion | None:
        """Return the motion (1) in a frame of the camera, None before the first face, from which changes count."""
        if anew or self._follow is None:
            self._follow, self._neutral = self._model.follow(), None
        motion = self._follow(to_tensor(frame).to(self._model.device)).to("cpu")
        if self._neutral is None:
            if not motion.valid_frames().all():
                return None
            self._neutral = motion
        return motion

    # --- a 3-D head -------------------------------------------------------------------------------------------------

    async def take_head(self, data: bytes | None) -> list[str]:
        """Take a head's file, None for kinecast's own; returns those of ARKit's names that it has.

        Raises:
            KinecastError: no GLB with ARKit's morph targets, or one that names files outside itself.
        """
        self.head = await self._do(lambda: own_head() if data is None else parse_head(data))
        return self.head.shapes

    async def pose(self, look: Look, frame: int | None) -> HeadPose:
        """Return what a head does: as the sliders say, at a `frame` of the clip, None for a head at rest."""
        track = self.track

        def move() -> HeadPose:
            pair = track.frame(frame) if track is not None and frame is not None else None
            return self._puppet().pose(look, *(pair or (None, None)))

        return await self._do(move)

    async def live_pose(self, frame: np.ndarray, anew: bool) -> tuple[HeadPose, bool]:
        """Return what a head does that is moved by a frame of the camera, and whether a face was ever seen."""

        def move() -> tuple[HeadPose, bool]:
            motion = self._followed(frame, anew)
            return self._puppet().pose(self.seen[1], motion, self._neutral), motion is not None

        return await self._do(move)

    def _puppet(self) -> Puppet:
        if self._made is None:
            self._made = Puppet(self._model)
        return self._made

    async def thumbnail(self) -> bytes:
        """Return the portrait as it came, small, as a JPEG."""
        scene = self._scene()
        return await self._do(scene.thumbnail)

    def _scene(self) -> Scene:
        if self.scene is None:
            raise KinecastError("portrait: expected one, found none yet: choose a picture")
        return self.scene

    # --- the job ----------------------------------------------------------------------------------------------------

    async def begin(self, order: Order) -> None:
        """Start rendering a clip.

        Raises:
            KinecastError: something is missing, or one is being made.
        """
        track, draw = self.track, self._drawer(order)
        if track is None:
            raise KinecastError("clip: expected one, found none yet: choose a clip, or record one")
        if self.looking is None or self.looking.state != "done":
            line = self.looking.error if self.looking is not None else ""
            raise KinecastError(line or "clip: expected one that has been analysed completely: wait a little")
        if self.rendering is not None and self.rendering.state == "running":
            raise Busy("video: expected one at a time, found one being made: wait, or cancel it")
        self._forget_result()
        self._order = order
        self.rendering = Job(self._worker, draw(track, order, self._output(order.kind)), track.seen, self._said)

    def _drawer(self, order: Order) -> Callable[[Track, Order, Path], Steps]:
        """Return what draws the portrait or the 3-D head that is to be seen, which must be there."""
        if order.choice.view != HEAD:
            scene = self._scene()
            scene.check(order.choice)
            return partial(render, scene)
        if self.head is None:
            raise KinecastError(NO_HEAD)
        return partial(render_head, self._puppet, self.head)

    async def cancel(self) -> None:
        """Cancel the current rendering, if any."""
        if self.rendering is not None:
            await self.rendering.stop()

    def result(self) -> tuple[Path, str]:
        """Return the finished clip and its kind.

        Raises:
            KinecastError: there is none.
        """
        if self._order is None or self.rendering is None or self.rendering.state != "done":
            raise KinecastError("video: expected a finished one, found none: make it first")
        return self._output(self._order.kind), self._order.kind

    def _output(self, kind: str) -> Path:
        return self._folder / f"result.{kind}"

    def _forget_result(self) -> None:
        if self._order is not None:
            self._output(self._order.kind).unlink(missing_ok=True)

    # --- state ------------------------------------------------------------------------------------------------------

    def described(self) -> dict[str, Any]:
        """Return what the page shows."""
        return {
            "portrait": None if self.scene is None else self.scene.described(),
            "clip": None if self.track is None else self.track.described(),
            "looking": None if self.looking is None else self.looking.described(),
            "video": None
            if self.rendering is None or self._order is None
            else {**self.rendering.described(), "kind": self._order.kind},
        }

    async def close(self) -> None:
        """End all work and remove the folder."""
        for job in (self.rendering, self.looking):
            if job is not None:
                await job.stop()
        await asyncio.to_thread(shutil.rmtree, self._folder, True)

    async def _do(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= _MOST_WAITING:
            raise Busy(f"expected at most {_MOST_WAITING} requests at once, found more: wait for their answers")
        self._waiting += 1
        try:
            return await self._worker.run(work)
        except KinecastError as error:
            raise KinecastError(self._said(str(error))) from error
        finally:
            self._waiting -= 1

    def _said(self, line: str) -> str:
        """Return a line in a form the page may see: without the folder and its file names."""
        line = re.sub(re.escape(f"{self._folder}/") + r"(portrait|clip|result)[-.\w]*", r"\1", line)
        return line.replace(str(self._folder), "a folder")


class Sessions:
    """All sessions, in one folder.

    Args:
        worker: shared by them.
        limit: bytes of an upload.
        most: how many there may be; those of which nothing was heard for long make room.
    """

    def __init__(self, worker: Worker, limit: int, most: int = MOST_SESSIONS) -> None:
        self._worker, self._limit, self._most = worker, limit, most
        self._folder = Path(tempfile.mkdtemp(prefix="kinecast-studio-"))
        self._sessions: dict[str, Session] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def folder(self) -> Path:
        """Where the sessions' folders are."""
        return self._folder

    async def open(self, model: Mesh) -> str:
        """Start a session and return its name.

        Raises:
            Busy: there are too many, or the studio is stopping.
        """
        await self.expire()
        if self._closed:
            raise Busy("studio: expected it to run, found it stopping: start it again")
        if len(self) >= self._most:
            raise Busy(f"studio: expected at most {self._most} pages at once, found more: close one, and wait a little")
        name = secrets.token_urlsafe(18)
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        self._sessions[name] = Session(self._worker, model, folder, self._limit)
        return name

    def find(self, name: str) -> Session | None:
        """Return a session by its name and mark it as used."""
        session = self._sessions.get(name)
        if session is not None:
            session.heard = time.monotonic()
        return session

    async def expire(self, idle: float = IDLE_S) -> None:
        """End sessions that were idle for that many seconds."""
        now = time.monotonic()
        for name, session in list(self._sessions.items()):
            if now - session.heard >= idle:
                await self.end(name)

    async def end(self, name: str) -> None:
        """End a session."""
        session = self._sessions.pop(name, None)
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """End all and remove the folder."""
        self._closed = True
        for name in list(self._sessions):
            await self.end(name)
        with suppress(OSError):
            await asyncio.to_thread(shutil.rmtree, self._folder)
