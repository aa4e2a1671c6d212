"""Messages in, frames out: bounded and checked, decoded, concealed where missing, and rendered.

`Receiver` has two halves. Its methods `take...` and `due` run on the event loop and are fast; `play` runs in one worker
thread. Everything is passed between them by value.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from kinecast.apps.blendshapes import face_of
from kinecast.apps.call.concealment import FORECAST_S, Concealment, Idle
from kinecast.apps.call.config import CallConfig, ShownFrame, ShownState
from kinecast.apps.call.heads import Heads
from kinecast.apps.call.jitter import JitterBuffer, Waiting
from kinecast.apps.call.line import MAX_FRAMES
from kinecast.apps.call.messages import VERSION, Hello, Use, UseHead
from kinecast.apps.stream.clips import check_model, profile_for
from kinecast.codec import Header, MotionDecoder, MotionPacket, PictureAssembler, ReferenceChunk
from kinecast.codec.filling import Forecast
from kinecast.codec.packets import REFERENCES
from kinecast.codec.stream import open_picture
from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster
from kinecast.media.pictures import to_tensor, to_uint8
from kinecast.models.base import Backbone
from kinecast.motion import Motion

MAX_PICTURE = 256 << 10  # bytes of a reference picture in a call
MAX_FPS = 60.0
_KEPT = 3  # encoded references
_PICTURES = 4  # that wait to be decoded
_FROZEN_S = 1.0  # between repetitions of a frozen frame


@dataclass(frozen=True)
class Picture:
    """A whole coded reference picture."""

    number: int
    data: bytes


@dataclass(frozen=True)
class Job:
    """The event loop's input to the worker for one frame."""

    number: int
    packets: list[Waiting]
    pictures: list[Picture]
    uses: list[Use | UseHead]
    paused: bool  # the other side currently sends no video


@dataclass
class Played:
    """The worker's result."""

    shown: ShownFrame | None = None
    have: list[int] = field(default_factory=list)
    unreadable: list[tuple[int, str]] = field(default_factory=list)  # number and reason
    again: list[int] = field(default_factory=list)  # valid pictures that failed locally
    need_key: bool = False
    errors: list[Exception] = field(default_factory=list)  # failures that were skipped

    @contextmanager
    def passing_over(self) -> Iterator[None]:
        """Collect an error of the block instead of raising it: the rest of the job continues."""
        try:
            yield
        except Exception as error:  # of whatever kind: the next frame may be better
            self.errors.append(error)


class Receiver:
    """The receiving half of a call; `begin` restarts it for a new connection.

    Args:
        backbone: renders.
        identity: identity of its weights, precomputed since hashing would block the event loop.
        config: forecasts, jitter buffer, idle avatar.
        forecast: conceals frames.
        sampler: samples an idle avatar's futures, None if none fits this motion.
        clock: monotonic seconds.
        heads: draws 3-D heads; None if the backbone has no faces.
    """

    def __init__(
        self,
        backbone: Backbone,
        identity: bytes,
        config: CallConfig,
        forecast: Forecast,
        sampler: Forecaster | None,
        clock: Callable[[], float] = time.monotonic,
        heads: Heads | None = None,
    ) -> None:
        self._heads, self._is_head = heads, False
        self._backbone, self._identity, self._config, self._clock = backbone, identity, config, clock
        self._forecast, self._sampler = forecast, sampler
        self.jitter: JitterBuffer | None = None
        self.start: float | None = None
        self.header: Header | None = None
        self._assembler: tuple[int, PictureAssembler] | None = None
        self._pictures: deque[Picture] = deque(maxlen=_PICTURES)
        self._uses: deque[Use | UseHead] = deque(maxlen=_PICTURES)
        # the worker's
        self._stream: Header | None = None
        self._decoder: MotionDecoder | None = None
        self._concealment = Concealment(forecast)
        self._references: dict[int, tuple[Any, Motion]] = {}
        self._planned: list[Use | UseHead] = []
        self._drawn: tuple[Any, Motion] | None = None
        self._avatar = False
        self._idle: Idle | None = None
        self._last: ShownFrame | None = None
        self._frozen_at = 0.0
        self._fps = config.fps

    # --- on the event loop ----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Reset for a new stream. The current picture stays."""
        self.jitter = self.header = self.start = None
        self._assembler = None
        self._pictures.clear()
        self._uses.clear()

    def take_hello(self, hello: Hello) -> None:
        """Take the sender's greeting.

        Raises:
            KinecastError: it uses another protocol version.
        """
        if hello.version != VERSION:
            raise KinecastError(f"call: expected protocol version {VERSION}, found {hello.version}: update kinecast")
        self.start = hello.start

    def take_header(self, header: Header) -> None:
        """Take the header of the following stream.

        Raises:
            KinecastError: another model or profile, or too high a frame rate.
        """
        check_model(header, self._backbone, self._identity, "the other side's motion")
        if not 1 <= header.fps <= MAX_FPS:
            raise KinecastError(f"call: expected 1 to {MAX_FPS:g} frames per second, found {header.fps:g}")
        profile_for(header)
        self.header = header
        self.jitter = JitterBuffer(header.fps, self._config.jitter_ms)

    def take_chunk(self, chunk: ReferenceChunk) -> None:
        """Take a chunk of a picture. A new picture discards an unfinished one.

        Raises:
            KinecastError: too large, or inconsistent with its picture.
        """
        if chunk.size > MAX_PICTURE:
            raise KinecastError(
                f"reference picture: expected at most {MAX_PICTURE} bytes in a call, found {chunk.size}: shrink it"
            )
        if self._assembler is None or self._assembler[0] != chunk.picture:
            self._assembler = chunk.picture, PictureAssembler()
        whole = self._assembler[1].push(chunk)
        if whole is not None:
            self._assembler = None
            self._pictures.append(Picture(whole[0], whole[2]))

    def take_use(self, use: Use | UseHead) -> None:
        """Take the frame from which a picture, or a 3-D head, is used.

        Raises:
            KinecastError: a head, but the backbone has no faces.
        """
        if isinstance(use, UseHead) and self._heads is None:
            raise KinecastError("call: expected a picture, found a 3-D head: it needs the model mesh")
        self._uses.append(use)

    def take_packet(self, packet: MotionPacket, now: float) -> bool:
        """Take a packet of motion; returns False if decoding must wait for a key packet.

        Raises:
            KinecastError: of too many frames or a layer, or before the stream's header.
        """
        if packet.count > MAX_FRAMES or packet.back > 1 or packet.layer:
            raise KinecastError(
                f"motion packet: expected 1 to {MAX_FRAMES} frames per packet in a call, found another packing"
            )
        if self.jitter is None:
            raise KinecastError("motion packet: expected a header before it, found none")
        return self.jitter.push(packet, now)

    def due(self, now: float, paused: bool, last: int = -1) -> Job | None:
        """Return the current job, None if there is none; `last` is the number of the last frame that was due.

        The job must be played: it is not kept here. An announcement alone waits for the next job.
        """
        number = self.jitter.due(now) if self.jitter is not None else None
        packets = self.jitter.take(number) if self.jitter is not None and number is not None else []
        number = -1 if number is None else number
        if number <= last and not packets and not self._pictures:
            return None
        job = Job(number, packets, list(self._pictures), list(self._uses), paused)
        self._pictures.clear()
        self._uses.clear()
        return job

    def queues(self) -> dict[str, int]:
        """Return queue lengths by kind."""
        return {
            "jitter_buffer": len(self.jitter) if self.jitter is not None else 0,
            "pictures": len(self._pictures),
            "uses": len(self._uses),
        }

    # --- in the worker ----------------------------------------------------------------------------------------------

    def play(self, job: Job, show: bool = True) -> Played:
        """Decode the received packets, and render the due frame if it is to be shown.

        Nothing is raised. Errors are in the result's `errors` and affect only that picture, packet or frame.
        """
        played = Played()
        if self.header is not self._stream:
            self._restart()
        for picture in job.pictures:
            with played.passing_over():
                self._decode_picture(picture, played)
        self._planned = (self._planned + job.uses)[-2 * _PICTURES :]
        for waiting in job.packets:
            with played.passing_over():
                self._decode(waiting)
        self._apply_uses(job.number)
        last = self._concealment.last
        if job.packets and (last is None or last < job.packets[-1].number):
            played.need_key = True
        if job.number >= 0 and show:
            with played.passing_over():
                played.shown = self._frame(job)
        return played

    def without_connection(self) -> ShownFrame | None:
        """Return what is shown without new frames: an idle avatar, or occasionally the frozen frame."""
        return self._without_news(self._last.number + 1 if self._last is not None else 0)

    def _restart(self) -> None:
        self._stream = self.header
        self._references.clear()
        self._planned = []
        self._decoder = self._new_decoder()
        if self._stream is not None:
            self._fps = self._stream.fps
            self._concealment = Concealment(self._forecast)

    def _new_decoder(self) -> MotionDecoder | None:
        stream = self._stream
        return None if stream is None else MotionDecoder(stream.layout, profile_for(stream), reorder=0)

    @property
    def _smaller(self) -> bool:
        return self._stream is not None and self._stream.version >= REFERENCES

    def _decode_picture(self, picture: Picture, played: Played) -> None:
        try:
            pixels = open_picture(picture.data, self._backbone.frame_size, self._smaller)
        except KinecastError as error:
            played.unreadable.append((picture.number, str(error)))
            return
        try:
            tensor = to_tensor(pixels).to(self._backbone.device)
            reference = self._backbone.encode_source(tensor), self._backbone.detect(tensor)
        except Exception:
            played.again.append(picture.number)
            raise
        self._references[picture.number] = reference
        while len(self._references) > _KEPT:
            del self._references[next(iter(self._references))]
        played.have.append(picture.number)

    def _decode(self, waiting: Waiting) -> None:
        if self._decoder is None:
            return
        try:
            frames = self._decoder.push(waiting.packet)
        except Exception:
            self._decoder = self._new_decoder()  # half a frame: resumes with a key packet
            raise
        for frame in frames:
            if not frame.concealed:
                later = (frame.number - waiting.packet.frame) & 0xFFFF  # in a packet of several
                self._concealment.came(waiting.number + later, frame.vector)
                self._idle = None

    def _apply_uses(self, number: int) -> None:
        reached = number if number >= 0 else self._concealment.last or 0
        due = [use for use in self._planned if use.frame <= reached]
        for use in due:
            if isinstance(use, UseHead):
                self._drawn, self._is_head, self._avatar = None, True, True
            elif use.picture in self._references:
                self._drawn, self._is_head, self._avatar = self._references[use.picture], False, use.avatar
        self._planned = [use for use in self._planned if use not in due]

    def _frame(self, job: Job) -> ShownFrame | None:
        last = self._concealment.last
        if last is None or not self._has_something:
            return self._without_news(job.number)
        missing = job.number - last
        if missing > 0 and (job.paused or missing > FORECAST_S * self._fps):
            return self._without_news(job.number)
        state: ShownState = "received" if missing <= 0 else "forecast"
        return self._draw(self._concealment.at(job.number), job.number, state)

    def _without_news(self, number: int) -> ShownFrame | None:
        """Return an idle avatar's frame, or the frozen one if it was not shown for a second."""
        now = self._clock()
        if self._config.diverse_idle and self._avatar and self._has_something and self._concealment.last is not None:
            if self._idle is None:
                self._idle = Idle(self._sampler, self._concealment.observed(), self._config.seed)
            return self._draw(self._idle.next(), number, "idle")
        if self._last is None or (self._last.state == "frozen" and now - self._frozen_at < _FROZEN_S):
            return None
        self._frozen_at = now
        self._last = replace(self._last, state="frozen")
        return self._last

    @property
    def _has_something(self) -> bool:
        return self._drawn is not None or self._is_head

    def _draw(self, vector: np.ndarray, number: int, state: ShownState) -> ShownFrame:
        motion = self._backbone.unflatten(torch.from_numpy(np.ascontiguousarray(vector))[None])
        head = None
        if self._is_head:
            assert self._heads is not None
            head, picture = self._heads.show(motion)
        else:
            assert self._drawn is not None
            encoded, source_motion = self._drawn
            picture = to_uint8(self._backbone.animate(encoded, source_motion, motion.to(self._backbone.device)))[0]
        start = self.start
        captured = None if start is None or state == "idle" else start + number / self._fps
        face = face_of(self._backbone, motion) if self._config.blendshapes is not None else None
        self._last = ShownFrame(picture, number, captured, state, head, face)
        return self._last
