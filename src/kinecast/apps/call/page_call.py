"""The one call of a `kinecast call` process: commands from its page, and events for it.

The call belongs to the process, not to the page: a page that is reloaded, or a second one, finds it as it is.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinecast.apps.call.audio import PageSound
from kinecast.apps.call.background import in_background
from kinecast.apps.call.config import CallConfig, CameraFrame, ShownFrame
from kinecast.apps.call.heads import AS_HEAD
from kinecast.apps.call.models import load_models
from kinecast.apps.call.page_link import PageLink
from kinecast.apps.call.page_wire import MAX_SIDE, Avatar, Camera
from kinecast.apps.call.session import CallSession
from kinecast.apps.heads.expression import SHAPES
from kinecast.errors import KinecastError

_log = logging.getLogger(__name__)
_STATS_SECONDS = 1.0
_LARGEST = 256  # pixels a side that the bundled models take
_CALLING = ("waiting", "connecting", "connected", "interrupted", "reconnecting")  # states in which there is a call
_ONCE_READY = ("host", "join", "make-offer", "accept-offer")


MakeSession = Callable[[CallConfig, Callable[[ShownFrame], None], Callable[[str, str], None], Any], CallSession]
Work = Callable[[], Coroutine[Any, Any, None]]
LoadModels = Callable[[CallConfig], Any]


@dataclass(frozen=True)
class Choices:
    """What the command line said that the page shows: a room server and an invitation, and whether there is a clip."""

    server: str = ""
    invitation: str = ""
    clip: str = ""  # the name of the clip that is the camera, without its folder


class PageCall:
    """Takes the page's commands, owns the session, and tells the attached page what happens.

    After a call has ended there is a new session, so that the next call can begin at once. `set_avatar` and muting
    outlive a call. All methods belong to one event loop.
    """

    def __init__(
        self,
        config: CallConfig,
        choices: Choices,
        make_session: MakeSession = CallSession,
        load: LoadModels = load_models,
    ) -> None:
        self.config, self.choices = config, choices
        self._make_session, self._load = make_session, load
        self._models: Any = None
        self._recordings = 0
        self._link: PageLink | None = None
        self._session: CallSession | None = None
        self._leaving: CallSession | None = None  # while it closes, its last lines are still passed on
        self._sound: PageSound | None = None
        self._job: asyncio.Task[None] | None = None  # opening, hosting, joining, hanging up: one at a time
        self._farewells: set[asyncio.Task[None]] = set()
        self._sound_jobs: set[asyncio.Task[None]] = set()
        self._sound_turn = asyncio.Lock()
        self._reporter: asyncio.Task[None] | None = None
        self._state = "loading"
        self._handed_over: dict[str, str] = {}  # the text that waits to be given to the other person, and its kind
        self._avatar: np.ndarray | Literal["head"] | None = AS_HEAD if config.avatar == AS_HEAD else None
        self._head_told = False  # to the attached page, which then draws it, if it can
        self._has_avatar = config.avatar is not None
        self._muted = {"video": False, "audio": False}
        self._page_draws = False

    # --- the page comes and goes ------------------------------------------------------------------------------------

    def attach(self, link: PageLink) -> None:
        """Attach `link` as the page that receives events; the previous one is notified."""
        if self._link:
            self._link.say({"type": "replaced"})
        self._link = link
        self._draw_heads(True)  # until this page says that it does
        link.say(self._welcome())

    def detach(self, link: PageLink) -> None:
        """Forget a page that has gone; the call goes on."""
        if self._link is link:
            self._link = None

    def is_attached(self, link: PageLink) -> bool:
        """Say whether `link` is the page in charge."""
        return self._link is link

    def _welcome(self) -> dict[str, Any]:
        return {
            "type": "welcome",
            "state": self._state,
            "server": self.choices.server,
            "invitation": self.choices.invitation,
            "clip": self.choices.clip,
            "avatar": self._has_avatar,
            "as_head": self._avatar == AS_HEAD,
            "shapes": SHAPES,
            "square": self.config.crop == "center",
            "side": self._side(),
            "fps": self.config.fps,
            "muted": self._muted,
            "hand_over": self._handed_over,
        }

    def _side(self) -> int:
        """Return how many pixels a side of the camera's square are of use: what the model takes, once it is known."""
        return min(max(self._models.backbone.frame_size), MAX_SIDE) if self._models is not None else _LARGEST

    # --- the session ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to load the model; returns at once."""
        self._reporter = asyncio.ensure_future(self._report())
        self._begin(self._renew)

    async def stop(self) -> None:
        """End the call and everything that belongs to it."""
        tasks = [task for task in (self._job, self._reporter, *self._sound_jobs) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._drop_sound()
        await self._drop_session()
        await asyncio.gather(*self._farewells, return_exceptions=True)

    async def _renew(self) -> None:
        """Close the session there is, if any, and open the next."""
        await self._drop_session()
        try:
            if self._models is None:  # they outlive a call, so that the next can begin at once
                self._models = await in_background(lambda: self._load(self.config))
                self._say({"type": "model", "side": self._side()})
            session = await self._open()
        except BaseException:
            self._set_state("failed")
            raise
        self._session = session
        session.on_audio = self._on_audio
        if self._avatar is not None or not self._has_avatar:  # otherwise the avatar is the command line's
            session.set_avatar(self._avatar)
        session.set_muted(**self._muted)
        session.draw_heads(not self._page_draws)
        if self._sound:
            session.audio_in(self._sound.microphone())
        self._set_state("ready")

    async def _open(self) -> CallSession:
        # The callbacks of a session that has been given up find that they are no longer meant.
        session: CallSession = self._make_session(
            replace(
                self.config,
                record=self._recording(self.config.record),
                blendshapes=self._recording(self.config.blendshapes),
            ),
            lambda frame: self._on_frame(frame) if session is self._session else None,
            lambda kind, line: self._on_event(session, kind, line),
            self._models,
        )
        try:
            await session.open()
        except BaseException:
            await session.close()
            raise
        return session

    def _recording(self, path: Path | None) -> Path | None:
        """Return where the next call is recorded: seen.mp4, then seen-2.mp4."""
        if path is None or not self._recordings:
            return path
        return path.with_stem(f"{path.stem}-{self._recordings + 1}")

    async def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session:
            self._recordings += session.stats().seconds > 0
            self._leaving = session
            farewell = asyncio.ensure_future(session.close())
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)
            await asyncio.shield(farewell)  # a job that is given up must not leave half a session behind

    def _begin(self, work: Work, instead: bool = False) -> None:
        """Run a job that takes time; one at a time, or instead of the one that runs."""
        before = self._job
        if before and not before.done():
            if not instead:
                raise KinecastError("call: expected one thing at a time, found another still going on: wait for it")
            before.cancel()
        self._job = asyncio.ensure_future(self._carry_out(work, before))

    async def _carry_out(self, work: Work, before: asyncio.Task[None] | None) -> None:
        if before:
            await asyncio.gather(before, return_exceptions=True)
        try:
            await work()
        except KinecastError as error:
            self._say({"type": "error", "line": str(error)})
        except Exception as error:  # what is not foreseen must reach the log and the person, not vanish with the task
            _log.exception("a job of the call failed")
            self._say({"type": "error", "line": f"internal error ({type(error).__name__}): see its terminal"})

    def _on_frame(self, frame: ShownFrame) -> None:
        if not self._link:
            return
        if frame.head is not None and not self._head_told:
            self._head_told = True
            self._link.say({"type": "head"})
        if frame.head is not None and self._page_draws:
            self._link.pose(frame.number, frame.captured, frame.state, frame.head)
        elif frame.picture.size:
            self._link.show(frame.number, frame.captured, frame.state, frame.picture)

    def _on_event(self, session: CallSession, kind: str, line: str) -> None:
        if session not in (self._session, self._leaving):
            return
        if kind != "state":
            self._say({"type": kind, "line": line})
        elif session is self._session and line == "ended":
            self._set_state("ended")
            self._begin(self._renew, instead=True)
        elif session is self._session and line != "new":  # opened: said as "ready"
            self._set_state(line)

    def _on_audio(self, track: Any) -> None:
        if self._sound:
            self._sound.play(track)

    def _set_state(self, state: str) -> None:
        if state not in ("waiting", "connecting"):
            self._handed_over = {}
        self._state = state
        self._say({"type": "state", "state": state})

    def _say(self, event: dict[str, Any]) -> None:
        if self._link:
            self._link.say(event)

    async def _report(self) -> None:
        """Tell the page the figures, once a second while there is a call."""
        while True:
            await asyncio.sleep(_STATS_SECONDS)
            if self._link and self._session and self._state in _CALLING:
                self._link.figures({"type": "stats", **self._session.stats().to_dict(), "skipped": self._link.dropped})

    # --- what the page sends ----------------------------------------------------------------------------------------

    def camera(self, frame: Camera) -> None:
        """Give a camera frame to the call; while the picture is muted none is taken."""
        if self._session and not self._muted["video"]:
            self._session.submit(CameraFrame(frame.picture, frame.captured, frame.number))

    def avatar(self, avatar: Avatar | None) -> None:
        """Show the other side a picture instead of me, or me again."""
        self._avatar, self._has_avatar = (avatar.picture if avatar else None), avatar is not None
        if self._session:
            self._session.set_avatar(self._avatar)

    def _be_head(self) -> None:
        """Show the other side a 3-D head instead of me.

        Raises:
            KinecastError: the model knows no heads.
        """
        if self._session:
            self._session.set_avatar(AS_HEAD)
        self._avatar, self._has_avatar = AS_HEAD, True

    @property
    def head(self) -> bytes | None:
        """The file of the 3-D head that this side draws, None where the model knows none."""
        head = self._session.head if self._session else None
        return head.data if head is not None else None

    def _draw_heads(self, wanted: bool) -> None:
        self._page_draws = not wanted
        self._head_told = self._head_told and self._page_draws
        if self._session:
            self._session.draw_heads(wanted)

    def command(self, command: dict[str, Any]) -> None:
        """Carry out a command of `page_wire.COMMANDS`; what takes time goes on by itself and tells the page.

        Raises:
            KinecastError: the call is not in a state for it.
        """
        kind = command["type"]
        if kind == "mute":
            self._muted = {"video": command["video"], "audio": command["audio"]}
            if self._session:
                self._session.set_muted(**self._muted)
        elif kind == "avatar-off":
            self.avatar(None)
        elif kind == "avatar-head":
            self._be_head()
        elif kind == "heads":
            self._draw_heads(not command["drawn"])
        elif kind == "reconnect":
            if self._session and self._state in _CALLING:
                self._session.reconnect()
        elif kind == "hang-up":
            busy = self._state == "ready" and self._job and not self._job.done()
            if busy or self._state in _CALLING:
                self._begin(self._hang_up, instead=True)
        elif kind == "sound":
            self._begin_sound(lambda: self._answer_sound(command["sdp"]))
        elif kind == "sound-off":
            self._begin_sound(self._drop_sound)
        else:
            self._begin(lambda: self._connect(kind, command))

    async def _connect(self, kind: str, command: dict[str, Any]) -> None:
        session = self._session
        if not session or (self._state != "ready" and kind in _ONCE_READY):
            raise KinecastError(f"call: expected to be ready for one, found it {self._state}: hang up, or wait")
        try:
            if kind == "host":
                self._hand_over("invitation", await session.host_room(command["server"]))
            elif kind == "join":
                await session.join_room(command["invitation"])
            elif kind == "make-offer":
                self._hand_over("offer", await session.make_offer())
            elif kind == "accept-offer":
                self._hand_over("answer", await session.accept_offer(command["text"]))
            else:
                await session.accept_answer(command["text"])
        except KinecastError as error:
            self._say({"type": "error", "line": str(error)})
            if kind in _ONCE_READY:  # a wrong answer may be mended, the others leave a session half begun
                await self._renew()

    def _hand_over(self, kind: str, text: str) -> None:
        self._handed_over = {"kind": kind, "text": text}
        self._say({"type": "hand-over", "kind": kind, "text": text})

    async def _hang_up(self) -> None:
        self._set_state("ended")
        await self._renew()

    def _begin_sound(self, work: Work) -> None:
        task = asyncio.ensure_future(self._in_turn(work))
        self._sound_jobs.add(task)
        task.add_done_callback(self._sound_jobs.discard)

    async def _in_turn(self, work: Work) -> None:
        async with self._sound_turn:
            await self._carry_out(work, None)

    async def _answer_sound(self, sdp: str) -> None:
        await self._drop_sound()
        sound = PageSound()
        try:
            answer = await sound.answer(sdp)
        except KinecastError:
            await sound.close()
            raise
        self._sound = sound
        if self._session:
            self._session.audio_in(sound.microphone())
        self._say({"type": "sound", "sdp": answer})

    async def _drop_sound(self) -> None:
        sound, self._sound = self._sound, None
        if sound:
            await sound.close()
