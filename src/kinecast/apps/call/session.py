"""One end of a call, as a page or a program uses it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import numpy as np

from kinecast.apps.blendshapes import BlendshapeFile
from kinecast.apps.call.config import (
    CallConfig,
    CallStats,
    CameraFrame,
    IceServer,
    LinkFaults,
    ShownFrame,
    State,
)
from kinecast.apps.call.exchange import Exchange
from kinecast.apps.call.faults import Faults, repeat
from kinecast.apps.call.meeting import Meeting
from kinecast.apps.call.messages import Bye, write_control
from kinecast.apps.call.models import Models, load_models
from kinecast.apps.call.peer import CHANNELS, Peer, needs_live
from kinecast.apps.call.recording import Recorder
from kinecast.apps.heads.expression import needs_mesh
from kinecast.apps.heads.glb import Head
from kinecast.errors import KinecastError

__all__ = ["CallConfig", "CallSession", "CallStats", "CameraFrame", "IceServer", "LinkFaults", "ShownFrame"]

_WATCH_S = 0.1
_RECONNECT_S = 2.0  # of silence, after which a new connection is requested
_BYE_S = 0.15  # for the last message to be sent


class CallSession:
    """One end of a call.

    All methods belong to one event loop, except `submit`, which any thread may call. Callbacks are called on the event
    loop's thread and must not block.

    Args:
        config: see `CallConfig`.
        on_frame: called with each frame to show, on the play-out clock.
        on_event: called with a kind and one line: "state" with one of `config.State`, "notice" and "error" with a line
            for a person. After "ended" nothing more is called.
        models: loaded models, for tests and for several sessions in one process; None loads them in `open`.
    """

    def __init__(
        self,
        config: CallConfig,
        on_frame: Callable[[ShownFrame], None],
        on_event: Callable[[str, str], None],
        models: Models | None = None,
    ) -> None:
        needs_live()
        self.config = config
        self.on_audio: Callable[[Any], None] | None = None  # called with the other side's aiortc audio track
        self._on_frame, self._on_event, self._models = on_frame, on_event, models
        self._state: State = "new"
        self._exchange: Exchange | None = None
        self._meeting: Meeting | None = None
        self._recorder: Recorder | None = None
        self._faces: BlendshapeFile | None = None
        self._faces_since: float | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._track: Any = None
        self._audio_muted = False
        self._sink: asyncio.Task[None] | None = None
        self._connected_at: float | None = None
        self._seconds = 0.0
        self._past = {name: [0, 0] for name in (*CHANNELS, "audio")}  # bytes sent, received of ended connections
        self._audio = [0, 0]
        self._audio_kbps = [0.0, 0.0]
        self._ticks = 0  # of `_watch`

    # --- the user's side --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Load the models and warm up, off the event loop.

        Raises:
            KinecastError: a model or an avatar that cannot be loaded, or a recording that cannot be written.
        """
        if self._models is None:
            self._models = await asyncio.get_running_loop().run_in_executor(None, load_models, self.config)
        if self.config.record is not None:
            self._recorder = Recorder(self.config.record, self.config.fps)
        if self.config.blendshapes is not None:
            self._faces = BlendshapeFile(self.config.blendshapes)
        self.draw_heads(True)
        self._exchange = Exchange(
            self.config, self._models, self._show, self._tell, self._other_left, self._unusable, self._resume
        )
        self._meeting = Meeting(self.config, self._make_peer, self._alive, self._connecting, self._tell)
        faults = Faults("the connection was not monitored", "the connection cannot be monitored", self._tell)
        self._watcher = asyncio.ensure_future(repeat(self._watch, faults))

    async def host_room(self, server: str) -> str:
        """Create a room on a signalling server (http(s)://HOST:PORT); returns the invitation, a text for one guest.

        Raises:
            KinecastError: an invalid address, no server there, or it refuses.
        """
        invitation = await self._ready().host(server)
        self._enter("waiting")
        return invitation

    async def join_room(self, invitation: str) -> None:
        """Join the room of an invitation; returns when admitted, before the call is connected.

        Raises:
            KinecastError: an invalid, used or expired invitation, or no server there.
        """
        await self._ready().join(invitation)
        if self._state == "new":
            self._enter("waiting")

    async def make_offer(self) -> str:
        """By hand: return the text to hand over."""
        return await self._ready().make_offer()

    async def accept_offer(self, text: str) -> str:
        """By hand: accept the other side's offer; returns the answer text to hand back.

        Raises:
            KinecastError: not an offer, too old, or already answered.
        """
        return await self._ready().accept_offer(text)

    async def accept_answer(self, text: str) -> None:
        """By hand: accept the answer to `make_offer`'s text.

        Raises:
            KinecastError: not an answer, or one to another offer.
        """
        await self._ready().accept_answer(text)

    def submit(self, frame: CameraFrame) -> None:
        """Submit a camera frame. The newest wins: an older waiting one is dropped and counted. Never blocks."""
        if self._exchange is not None and self._state != "ended":
            self._exchange.submit(frame)

    def set_muted(self, video: bool, audio: bool) -> None:
        """Stop or resume sending video and audio."""
        self._audio_muted = audio
        if self._exchange is not None:
            self._exchange.video_muted, self._exchange.audio_muted = video, audio
            self._set_track()

    def set_avatar(self, picture: np.ndarray | Literal["head"] | None) -> None:
        """Show the other side a picture, uint8 (H, W, 3), or "head", a 3-D head; None shows the camera.

        Raises:
            KinecastError: not such a picture, or the model has no faces.
        """
        if isinstance(picture, str):
            if self._models is not None:
                needs_mesh(self._models.backbone)
        elif picture is not None:
            CameraFrame(picture, 0.0, 0)  # the same requirements as for camera frames
        if self._exchange is None:
            raise KinecastError("avatar: expected an open session: open it first, or set it in the config")
        self._exchange.avatar = picture

    @property
    def head(self) -> Head | None:
        """What is drawn where the other side is seen as a 3-D head; None where the model knows none."""
        return self._models.heads.head if self._models is not None and self._models.heads is not None else None

    def draw_heads(self, wanted: bool) -> None:
        """Say whether pictures of 3-D heads are wanted, or a page draws them; a recording has them in any case."""
        if self._models is not None and self._models.heads is not None:
            self._models.heads.drawn = wanted or self._recorder is not None

    def reconnect(self) -> None:
        """Reconnect, as happens automatically after a few seconds of silence. Needs a room.

        Raises:
            KinecastError: no call, or one set up by hand.
        """
        meeting = self._ready()
        if not meeting.has_room:
            raise KinecastError("reconnect: expected a call through a room server, found none: start a new call")
        meeting.again()

    def audio_in(self, track: Any) -> None:
        """Send an aiortc audio track to the other side (None: silence). Before or during the call."""
        self._track = track
        self._set_track()

    async def close(self) -> None:
        """Hang up: notify the other side, stop everything, finish the recording."""
        self._begin_end("hung up", say=True)
        assert self._ending is not None
        await asyncio.shield(self._ending)  # the waiting task may be cancelled; ending continues

    def _ready(self) -> Meeting:
        if self._meeting is None or self._state == "ended":
            raise KinecastError("call: expected an open session, found one that is not open or has ended")
        return self._meeting

    # --- connections ------------------------------------------------------------------------------------------------

    def _make_peer(self, caller: bool) -> Peer:
        assert self._exchange is not None
        peer = Peer(caller, self.config.ice_servers, self._exchange.take, self._opened, self._closed, self._other_track)
        peer.set_track(None if self._audio_muted else self._track)
        return peer

    def _opened(self, peer: Peer) -> None:
        if self._exchange is None or self._meeting is None or self._state == "ended":
            return
        before = self._exchange.peer
        self._retire(before)
        self._exchange.attach(peer)
        self._set_track()
        if self._connected_at is None:
            self._connected_at = time.monotonic()
        self._enter("connected")
        self._meeting.connected(peer)

    def _closed(self, peer: Peer, reason: str) -> None:
        if self._exchange is None or self._meeting is None or self._state == "ended":
            return
        if peer is not self._exchange.peer:
            asyncio.ensure_future(peer.close())
            return
        self._exchange.detach()
        self._retire(peer)
        if self._meeting.has_room and not peer.hostile:
            self._tell("notice", f"{reason}; reconnecting")
            self._enter("reconnecting")
            self._meeting.again()
        else:
            line = reason if peer.hostile else f"{reason}: without a room, reconnect with a new offer by hand"
            self._tell("error", line)
            self._begin_end(reason)

    def _retire(self, peer: Peer | None) -> None:
        if peer is None:
            return
        for name in CHANNELS:
            self._past[name][0] += int(peer.sent[name].total)
            self._past[name][1] += int(peer.received[name].total)
        self._past["audio"][0] += self._audio[0]
        self._past["audio"][1] += peer.audio_received
        self._audio = [0, 0]
        asyncio.ensure_future(peer.close())

    def _alive(self) -> bool:
        return self._exchange is not None and not self._exchange.interrupted

    def _connecting(self) -> None:
        if not self._alive():
            self._enter("connecting" if self._connected_at is None else "reconnecting")

    async def _watch(self) -> None:
        """Monitor the connection, and reconnect when it is lost."""
        await asyncio.sleep(_WATCH_S)
        exchange, meeting = self._exchange, self._meeting
        if exchange is None or meeting is None:
            return
        if exchange.peer is not None:
            if exchange.interrupted and self._state == "connected":
                self._enter("interrupted")
            elif not exchange.interrupted and self._state in ("interrupted", "reconnecting"):
                self._enter("connected")
                await meeting.drop_attempt()
        if self._connected_at is not None and exchange.silent_s > _RECONNECT_S and exchange.interrupted:
            meeting.again()
        self._ticks += 1
        if self._ticks % round(1 / _WATCH_S) == 0:
            await self._count_audio()

    async def _count_audio(self) -> None:
        peer = self._exchange.peer if self._exchange is not None else None
        if peer is None:
            return
        now = [await peer.audio_sent(), peer.audio_received]
        self._audio_kbps = [8 * max(n - b, 0) / 1000 for n, b in zip(now, self._audio, strict=True)]
        self._audio = now

    # --- events -----------------------------------------------------------------------------------------------------

    def _enter(self, state: State) -> None:
        if state != self._state and self._state != "ended":
            self._state = state
            self._on_event("state", state)

    def _tell(self, kind: str, line: str) -> None:
        if self._state != "ended":
            self._on_event(kind, " ".join(line.split()))

    def _show(self, frame: ShownFrame) -> None:
        if self._recorder is not None:
            self._recorder.add(frame.picture, time.monotonic())
        if self._faces is not None and frame.state != "frozen":
            now = time.monotonic()
            self._faces_since = now if self._faces_since is None else self._faces_since
            self._faces.add(now - self._faces_since, frame.face)
        self._on_frame(frame)

    def _resume(self, secret: str) -> None:
        if self._meeting is not None:
            self._meeting.resume(secret)

    def _other_left(self, reason: str) -> None:
        self._tell("notice", f"the other side has ended the call: {reason}")
        self._begin_end(reason)

    def _unusable(self, line: str) -> None:
        self._tell("error", line)
        self._begin_end(line)

    def _begin_end(self, reason: str, say: bool = False) -> None:
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._end(reason, say))

    async def _end(self, reason: str, say: bool) -> None:
        """Stop everything, in order of dependency."""
        exchange, meeting, watcher = self._exchange, self._meeting, self._watcher
        peer = exchange.peer if exchange is not None else None
        if peer is not None:
            if say:
                peer.send("picture", write_control(Bye(reason)))
            await asyncio.sleep(_BYE_S)
        self._seconds = self._elapsed()
        if watcher is not None:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
        if meeting is not None:
            await meeting.close(over=True)
        if exchange is not None:
            self._retire(peer)
            await exchange.close()
        if peer is not None:
            await peer.close()
        if self._sink is not None:
            self._sink.cancel()
        if self._recorder is not None:
            line = await asyncio.get_running_loop().run_in_executor(None, self._recorder.close)
            if line is not None:
                self._tell("error", line)
        if self._faces is not None:
            try:
                self._faces.close()
            except KinecastError as error:
                self._tell("error", str(error))
        self._enter("ended")

    # --- audio ------------------------------------------------------------------------------------------------------

    def _set_track(self) -> None:
        if self._exchange is not None and self._exchange.peer is not None:
            self._exchange.peer.set_track(None if self._audio_muted else self._track)

    def _other_track(self, track: Any) -> None:
        if self.on_audio is not None:
            self.on_audio(track)
        else:  # the frames must be read, or they queue up
            self._sink = asyncio.ensure_future(_drain(track))

    # --- figures ----------------------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return time.monotonic() - self._connected_at if self._connected_at is not None else 0.0

    def stats(self) -> CallStats:
        """Return the figures so far."""
        x = self._exchange
        if x is None:
            return CallStats(state=self._state)
        shown = x.shown.recent()
        sent, received = self._bytes(0), self._bytes(1)
        return CallStats(
            state=self._state,
            seconds=round(self._seconds if self._state == "ended" else self._elapsed(), 3),
            kbps_sent=self._kbps(0),
            kbps_received=self._kbps(1),
            bytes_sent=sent,
            bytes_received=received,
            fps_captured=x.captured.per_second(),
            fps_sent=x.sent.per_second(),
            fps_shown=x.shown.per_second(),
            dropped_camera=x.dropped_camera,
            dropped_late=x.dropped_late,
            latency_ms_p50=x.latency(0.5),
            latency_ms_p95=x.latency(0.95),
            round_trip_ms=x.pings.round_trip_ms,
            line_kbps=x.line.kbps,
            jitter_buffer_ms=x.jitter_buffer_ms,
            share_forecast=x.forecast.recent() / shown if shown else 0.0,
            loss=x.loss,
            refused=x.refused + (x.peer.refused if x.peer is not None else 0),
            failed=x.failed,
            frames_without_face=x.frames_without_face,
            pictures_sent=x.pictures_sent,
            pictures_received=x.pictures_received,
            queues=x.queues(),
        )

    def _bytes(self, way: int) -> dict[str, int]:
        """Return bytes sent (0) or received (1) in the whole call, by channel."""
        peer = self._exchange.peer if self._exchange is not None else None
        found = {name: past[way] for name, past in self._past.items()}
        if peer is not None:
            for name in CHANNELS:
                found[name] += int((peer.sent, peer.received)[way][name].total)
            found["audio"] += self._audio[way]
        return {**found, "total": sum(found.values())}

    def _kbps(self, way: int) -> dict[str, float]:
        peer = self._exchange.peer if self._exchange is not None else None
        found = dict.fromkeys((*CHANNELS, "audio"), 0.0)
        if peer is not None:
            for name in CHANNELS:
                found[name] = 8 * (peer.sent, peer.received)[way][name].per_second() / 1000
            found["audio"] = self._audio_kbps[way]
        return {**found, "total": sum(found.values())}


async def _drain(track: Any) -> None:
    from aiortc.mediastreams import MediaStreamError

    with suppress(MediaStreamError):
        while True:
            await track.recv()
