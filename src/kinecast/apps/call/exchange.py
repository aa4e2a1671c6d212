"""The two loops of a call, over the current connection.

Sending: the newest camera frame goes to a worker thread, which detects and encodes; its result is sent.
Playing: whenever a frame is due by the play-out clock, the received packets go to another worker thread, which decodes
and renders. Each worker has one frame at a time, so that nothing queues up: a worker slower than the camera skips
frames.

Each loop repeats a step. A failed step is counted and reported (`Faults`), and the next one follows: no frame, packet
or message ends the call.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from kinecast.apps.call import messages as m
from kinecast.apps.call.config import CallConfig, CameraFrame, ShownFrame
from kinecast.apps.call.faults import Faults, repeat
from kinecast.apps.call.figures import Allowance, Quantiles, Rate
from kinecast.apps.call.line import HEADERS, LineEstimate, Plan
from kinecast.apps.call.links import FaultyLink
from kinecast.apps.call.losses import Losses
from kinecast.apps.call.models import Models, worker
from kinecast.apps.call.peer import Peer
from kinecast.apps.call.pings import Pings, microseconds
from kinecast.apps.call.receiving import Job, Played, Receiver
from kinecast.apps.call.sending import Message, Sender
from kinecast.codec import Header, MotionPacket, ReferenceChunk
from kinecast.errors import KinecastError

INTERRUPTED_S = 1.0  # without any message, while the other side sends video,
QUIET_S = 3.0  # and while it does not
_BEAT_S = 0.25
_CAMERA_S = 1.0  # without a frame: the other side is informed that the camera stopped
_KEY_S, _KEY_THIN_S = 0.1, 1.0  # between requests of a key packet, and on a thin line
_MOTION_WAITING = 2400  # unsent bytes above which frames are skipped: old motion is useless
_PICTURE_WAITING = 128_000
_STAMP_S = 0.25  # between messages that say when they were sent


class Exchange:
    """Sends and plays.

    Args:
        config: see there.
        models: loaded.
        on_frame: called on the event loop with each frame to show.
        on_line: kind ("notice" or "error") and a line.
        on_bye: the other side hung up, with its reason.
        on_unusable: the other side's stream cannot be used at all, with the reason in a line.
        on_resume: the secret of the reconnection room.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: CallConfig,
        models: Models,
        on_frame: Callable[[ShownFrame], None],
        on_line: Callable[[str, str], None],
        on_bye: Callable[[str], None],
        on_unusable: Callable[[str], None],
        on_resume: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._models = config, models
        self._on_frame, self._on_line = on_frame, on_line
        self._on_bye, self._on_unusable, self._on_resume = on_bye, on_unusable, on_resume
        self._loop, self._clock = asyncio.get_running_loop(), clock
        self.peer: Peer | None = None
        self.heard = 0.0  # time of the last message
        self.avatar: np.ndarray | Literal["head"] | None = models.avatar
        self.video_muted = self.audio_muted = False
        self.theirs = m.Sending(video=True, audio=True, camera=True)
        self._heard = False  # whether the other side's microphone was ever on
        self._said: m.Sending | None = None
        self._link: FaultyLink | None = None
        self._sender: Sender | None = None
        self._receiver = Receiver(
            models.backbone, models.identity, config, models.forecast, models.sampler, clock, models.heads
        )
        self._workers = worker("kinecast-send"), worker("kinecast-play")
        self._slot: CameraFrame | None = None
        self._slot_lock = threading.Lock()
        self._fresh = asyncio.Event()
        self._last_number = -1
        self.pings = Pings(clock)
        self._losses = Losses(clock)
        self.line = LineEstimate(config.kbps)
        self._riding: list[m.Signal] = []  # signals that wait for a message to go with
        self._ride_until = self._stamped = 0.0
        self._key_asked = self._camera_at = 0.0
        self._key_allowed = Allowance(4, 8)
        self._faults = {
            kind: Faults(one, lasting, on_line, clock)
            for kind, one, lasting in (
                ("send", "a camera frame was skipped", "no camera frame can be sent"),
                ("play", "a frame was not shown", "nothing new can be shown"),
                ("take", "a message was skipped", "the other side's messages cannot be read"),
                ("beat", "the connection was not maintained", "the connection cannot be maintained"),
            )
        }
        self.captured, self.sent, self.shown, self.forecast = Rate(), Rate(), Rate(), Rate()
        self.latency = Quantiles()
        self.dropped_camera = self.dropped_late = self.pictures_sent = self.pictures_received = 0
        self.refused = 0  # of connections that ended
        self._without_face = 0  # likewise
        loops = {"send": self._send_next, "play": self._play_next, "beat": self._beat}
        self._tasks = [asyncio.ensure_future(repeat(step, self._faults[kind])) for kind, step in loops.items()]

    @property
    def failed(self) -> int:
        """Number of local failures that were skipped."""
        return sum(faults.total for faults in self._faults.values())

    @property
    def frames_without_face(self) -> int:
        """Number of camera frames without a face, if one is needed."""
        return self._without_face + (self._sender.without_face if self._sender is not None else 0)

    # --- connections ------------------------------------------------------------------------------------------------

    def attach(self, peer: Peer) -> None:
        """Continue over a newly opened connection: both streams restart."""
        self.detach()
        self.peer, self.heard = peer, self._clock()
        self._camera_at = self.heard  # its frames may start only now
        self._sender = Sender(self._models.backbone, self._models.identity, self._config, self.avatar, self._clock)
        self._plan(self._sender)
        self._losses.transit.begin()
        self._receiver.begin()
        self.pings.begin()
        self._last_number, self._said = -1, None
        self.theirs = m.Sending(video=True, audio=True, camera=True)
        if self._config.link is not None:
            self._link = FaultyLink(self._config.link, lambda data: peer.send("motion", data))
        peer.start()
        self._tell_sending()

    def detach(self) -> None:
        """Handle the loss of the connection."""
        self._riding = []
        if self.peer is not None:
            self.refused += self.peer.refused
        if self._sender is not None:
            self._without_face += self._sender.without_face
        if self._link is not None:
            self._link.close()
        self.peer = self._link = self._sender = None

    @property
    def silent_s(self) -> float:
        """Seconds since the last message; infinite without a connection."""
        return self._clock() - self.heard if self.peer is not None else float("inf")

    @property
    def interrupted(self) -> bool:
        """Whether a message from the other side is overdue."""
        video = self.theirs.video and self.theirs.camera
        return self.silent_s > (INTERRUPTED_S if video else QUIET_S) + self._patience

    async def close(self) -> None:
        """Stop the loops and the workers."""
        self.detach()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in self._workers:
            await self._loop.run_in_executor(None, pool.shutdown)

    # --- messages in ------------------------------------------------------------------------------------------------

    def take(self, peer: Peer, channel: str, data: bytes) -> None:
        """Take a message of a connection, already checked for bounds."""
        if peer is not self.peer:
            return
        self._losses.transit.received.add(len(data) + HEADERS)
        try:
            if channel == "picture":
                self._take_reliable(peer, data)
            else:
                self._take_motion(data)
        except KinecastError:
            peer.refuse()
            return
        except Exception as error:  # a local fault; raised here, it would end aiortc's loop and the connection
            self._faults["take"].failed(error)
            return
        self.heard = self._clock()

    def _take_motion(self, data: bytes) -> None:
        signals, rest = m.split_signals(data)
        for signal in signals:
            self._take_signal(signal)
        if rest:
            packet, rest = MotionPacket.parse(rest)
            _nothing_after(rest)
            if not self._receiver.take_packet(packet, self._clock()):
                self._ask_key()  # the first key packet was lost, and the next regular one is seconds away

    def _take_reliable(self, peer: Peer, data: bytes) -> None:
        if data[:1] == b"{":
            self._take_control(peer, m.parse_control(data))
        elif data[:1] == b"R":
            chunk, rest = ReferenceChunk.parse(data)
            _nothing_after(rest)
            self._receiver.take_chunk(chunk)
        else:
            header, rest = Header.parse(data)
            _nothing_after(rest)
            self._take_header(peer, header)

    def _take_header(self, peer: Peer, header: Header) -> None:
        if self._receiver.header is not None:
            raise KinecastError("header: expected one in a call, found another")
        if header.model != self._models.identity:
            theirs = f"the other side uses the model {header.model_name or '?'} with other weights or settings"
            self._unusable(peer, f"{theirs} than {self._config.model}")
            return
        try:
            self._receiver.take_header(header)
        except KinecastError as error:
            self._unusable(peer, str(error))

    def _take_control(self, peer: Peer, message: m.Control) -> None:
        sender = self._sender
        if isinstance(message, m.Hello):
            try:
                self._receiver.take_hello(message)
            except KinecastError as error:
                self._unusable(peer, str(error))
        elif isinstance(message, m.Use | m.UseHead):
            self._receiver.take_use(message)
        elif isinstance(message, m.Have) and sender is not None:
            sender.have = message.picture
        elif isinstance(message, m.Again) and sender is not None:
            sender.resend = True
        elif isinstance(message, m.Sending):
            self._take_sending(message)
        elif isinstance(message, m.Resume):
            self._on_resume(message.secret)
        elif isinstance(message, m.Bye):
            self._on_bye(message.reason)

    def _take_sending(self, now: m.Sending) -> None:
        before, self.theirs = self.theirs, now
        if now.camera != before.camera:
            self._on_line("notice", f"the other side's camera {'works again' if now.camera else 'has stopped'}")
        if now.video != before.video:
            self._on_line("notice", f"the other side {'shows' if now.video else 'has paused'} its video")
        if now.audio:
            self._heard = True
        if now.audio != before.audio and self._heard:  # a microphone that was never on was not muted
            self._on_line("notice", f"the other side has {'un' if now.audio else ''}muted its microphone")

    def _take_signal(self, signal: m.Signal) -> None:
        if isinstance(signal, m.KeyRequest):
            if self._sender is not None and self._key_allowed.take():
                self._sender.request_key()
        elif isinstance(signal, m.Ping):
            self._send_motion(m.write_signal(m.Pong(signal.sent, microseconds())))
        elif isinstance(signal, m.LineReport):
            self.line.take(signal)
            if self._sender is not None:
                self._sender.loss = signal.share / 255
                self._plan(self._sender)
        elif isinstance(signal, m.Stamp):
            self._losses.transit.stamp(signal.milliseconds)
        else:
            self.pings.answered(signal)

    def _unusable(self, peer: Peer, line: str) -> None:
        peer.send("picture", m.write_control(m.Bye("the stream cannot be used: " + _plain(line)[:150])))
        self._on_unusable(line)

    # --- sending ----------------------------------------------------------------------------------------------------

    def submit(self, frame: CameraFrame) -> None:
        """Take a camera frame, from any thread."""
        with self._slot_lock:
            self.dropped_camera += self._slot is not None
            self._slot = frame
            self.captured.add()
        self._loop.call_soon_threadsafe(self._fresh.set)

    async def _send_next(self) -> None:
        await self._fresh.wait()
        self._fresh.clear()
        with self._slot_lock:
            frame, self._slot = self._slot, None
        self._camera_at = self._clock()
        peer, sender = self.peer, self._sender
        if frame is None or peer is None or sender is None or self.video_muted:
            return
        if peer.waiting("motion") > _MOTION_WAITING or peer.waiting("picture") > _PICTURE_WAITING:
            self.dropped_camera += 1
            return
        sender.avatar = self.avatar
        out = await self._loop.run_in_executor(self._workers[0], sender.process, frame)
        if peer is self.peer:
            self._send_all(peer, sender, out)
        self._report("send", sender.take_errors())

    def _report(self, kind: str, errors: list[Exception]) -> None:
        """Report what failed in a step, or that nothing did."""
        for error in errors:
            self._faults[kind].failed(error)
        if not errors:
            self._faults[kind].worked()

    def _send_all(self, peer: Peer, sender: Sender, out: list[Message]) -> None:
        for channel, data in out:
            if channel == "motion":
                self._send_motion(self._with_signals() + data)
                self.sent.add(frames_in(data))
            else:
                peer.send(channel, data)
        self.pictures_sent += sender.take_pictures_sent()

    def _plan(self, sender: Sender) -> None:
        sender.plan = Plan.of(self.line.kbps, self._config.fps)

    def _ride(self, signal: m.Signal) -> None:
        """Send a signal with the next motion, or alone if none comes soon; the newest of a kind is enough."""
        if not self._riding:
            frames = self._sender.plan.frames if self._sender is not None else 1
            self._ride_until = self._clock() + _BEAT_S + 1.5 * frames / self._config.fps
        self._riding = [one for one in self._riding if type(one) is not type(signal)] + [signal]

    def _with_signals(self) -> bytes:
        """Return the signals that waited for a message to go with, and the time."""
        waiting, self._riding = self._riding, []
        now = self._clock()
        if now - self._stamped > _STAMP_S:
            self._stamped = now
            waiting.append(m.Stamp(int(1000 * now) & 0xFFFF))
        return b"".join(map(m.write_signal, waiting))

    def _send_motion(self, data: bytes) -> None:
        if self._link is not None:
            self._link.send(data)
        elif self.peer is not None:
            self.peer.send("motion", data)

    def _tell_sending(self) -> None:
        frames = self._clock() - self._camera_at < _CAMERA_S
        face = self._sender is None or self._sender.faceless_s < _CAMERA_S
        camera = frames and face
        now = m.Sending(video=not self.video_muted, audio=not self.audio_muted, camera=camera)
        if self.peer is not None and now != self._said and self.peer.send("picture", m.write_control(now)):
            if self._said is not None and now.camera != self._said.camera:
                lost = "the camera delivers no frames" if not frames else "no face is visible: the last picture is held"
                self._on_line("notice", "the camera works again" if camera else lost)
            self._said = now

    # --- playing ----------------------------------------------------------------------------------------------------

    async def _play_next(self) -> None:
        receiver, now = self._receiver, self._clock()
        if self.peer is None:
            await self._show_without(receiver)
            return
        paused = not (self.theirs.video and self.theirs.camera)
        job = receiver.due(now, paused, self._last_number)
        if job is not None:
            await self._play(receiver, job)
            return
        due = receiver.jitter.time_of(self._last_number + 1) if receiver.jitter is not None else None
        await asyncio.sleep(min(max(due - now, 0.001), 0.05) if due is not None else 0.02)

    async def _play(self, receiver: Receiver, job: Job) -> None:
        peer, fresh = self.peer, job.number > self._last_number
        blocked = receiver.jitter is not None and receiver.jitter.blocked(job.number)
        played: Played = await self._loop.run_in_executor(self._workers[1], receiver.play, job, fresh)
        if peer is None or peer is not self.peer:
            return  # another connection: its frame numbers restart
        if fresh:
            if self._last_number >= 0:
                self.dropped_late += job.number - self._last_number - 1
            self._last_number = job.number
        self._answer(peer, played)
        if blocked or played.need_key:
            self._ask_key()
        self._show(played.shown)
        if played.errors or played.shown is not None:
            self._report("play", played.errors)

    def _answer(self, peer: Peer, played: Played) -> None:
        for number in played.have:
            self.pictures_received += 1
            peer.send("picture", m.write_control(m.Have(number)))
        for number, line in played.unreadable:
            self._on_line("notice", line)  # it is requested again
            peer.refuse()
            peer.send("picture", m.write_control(m.Again(number)))
        for number in played.again:
            peer.send("picture", m.write_control(m.Again(number)))

    def _ask_key(self) -> None:
        now, thin = self._clock(), self.line.thin
        if now - self._key_asked > (_KEY_THIN_S if thin else _KEY_S):
            self._key_asked = now
            if thin:
                self._ride(m.KeyRequest())
            else:
                self._send_motion(m.write_signal(m.KeyRequest()))

    def _show(self, frame: ShownFrame | None) -> None:
        if frame is None:
            return
        if frame.state != "frozen":
            self.shown.add()
        if frame.state in ("forecast", "idle"):
            self.forecast.add()
        if frame.state == "received" and frame.captured is not None and self.pings.offset is not None:
            self.latency.add(1000 * (time.time() + self.pings.offset - frame.captured))
        self._on_frame(frame)

    async def _show_without(self, receiver: Receiver) -> None:
        """Show concealed frames while there is no connection, at the call's frame rate."""
        started = self._clock()
        frame = await self._loop.run_in_executor(self._workers[1], receiver.without_connection)
        self._show(frame)
        if frame is not None:
            self._report("play", [])
        await asyncio.sleep(max(1 / self._config.fps - (self._clock() - started), 0.001))

    # --- heartbeat --------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        await asyncio.sleep(_BEAT_S)
        peer = self.peer
        if peer is None:
            return
        ping = self.pings.due(self.silent_s, self.line.thin)
        if ping is not None:
            self._send_motion(m.write_signal(ping))
        self._tell_sending()
        if self._receiver.jitter is not None:
            self._losses.count(self._receiver.jitter)
        report = self._losses.due()
        if report is not None:
            self._ride(report)
        elif self._riding and self._clock() > self._ride_until:
            self._send_motion(self._with_signals())
        sent = 8 * sum(peer.sent[name].per_second() for name in peer.sent) / 1000
        if self._sender is not None and self.line.starved(self._clock(), sent, self._patience):
            self._plan(self._sender)
        peer.check_memory()
        self._report("beat", [])

    @property
    def _patience(self) -> float:
        """Seconds from one of the other side's packets to the next, beyond what one of a single frame takes."""
        jitter = self._receiver.jitter
        return 0.0 if jitter is None else max(2 * jitter.interval - 0.2, 0.0)

    @property
    def loss(self) -> float:
        """The share of motion packets lost in the last seconds."""
        return self._losses.share

    @property
    def jitter_buffer_ms(self) -> float:
        """The current delay of the jitter buffer."""
        return 1000 * self._receiver.jitter.delay if self._receiver.jitter is not None else 0.0

    def queues(self) -> dict[str, int]:
        """Return the lengths of every queue."""
        found = {"camera": int(self._slot is not None), "pings": len(self.pings), **self._receiver.queues()}
        if self._link is not None:
            found["faulty_link"] = len(self._link)
        if self.peer is not None:
            found |= {f"{name}_bytes_waiting": self.peer.waiting(name) for name in ("motion", "picture")}
        return found


def frames_in(packet: bytes) -> int:
    """Return how many frames a motion packet holds."""
    return MotionPacket.parse(packet)[0].count


def _nothing_after(rest: bytes) -> None:
    if rest:
        raise KinecastError(f"message: expected one unit, found {len(rest)} bytes after it")


def _plain(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)
