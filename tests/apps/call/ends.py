"""What tests of calls share: tiny models, two ends with a drawn camera, and a time limit on everything."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import numpy as np

from helpers import draw_frames
from kinecast.apps.call.config import CallConfig, CameraFrame, ShownFrame
from kinecast.apps.call.models import Models
from kinecast.apps.call.peer import Peer
from kinecast.apps.call.session import CallSession
from kinecast.codec import stream_identity
from kinecast.codec.filling import damped
from kinecast.models.base import Backbone
from tiny import tiny_fomm

FPS = 12.0  # tests run beside others on few cores
RECOVERY_S = 2.0  # in which a call goes on when a fault is over; what it takes on a quiet machine: docs/results/live.md
MARGIN_S = 2.0  # more, for tests that run on the same cores: CI has two


def run(work: Coroutine[Any, Any, Any], seconds: float = 30.0) -> Any:
    """Run a coroutine, which must end in time: nothing may hang."""
    return asyncio.run(asyncio.wait_for(work, seconds))


@cache
def models(seed: int = 0) -> Models:
    """Return a tiny backbone at 64x64, loaded, with the forecast that needs no weights."""
    return models_of(tiny_fomm(seed))


def models_of(backbone: Backbone) -> Models:
    """Return a backbone as a call has it."""
    return Models(backbone, stream_identity(backbone), damped, None, None)


@cache
def camera_frames() -> np.ndarray:
    return draw_frames(24)


def config(**changes: Any) -> CallConfig:
    return CallConfig(**{"model": "tiny", "engine": "eager", "fps": FPS, **changes})


class FakePeer(Peer):
    """What `Exchange` needs of a connection: it counts what is refused and keeps what is answered."""

    def __init__(self) -> None:
        self.refused, self.closed = 0, False
        self.sent = {}
        self.answers: list[tuple[str, bytes]] = []

    def refuse(self) -> None:
        self.refused += 1

    def send(self, channel: str, data: bytes) -> bool:
        self.answers.append((channel, data))
        return True

    def start(self) -> None:
        pass

    def waiting(self, channel: str) -> int:
        return 0

    def check_memory(self) -> None:
        pass


class End:
    """A session that keeps what it said and showed."""

    def __init__(self, loaded: Models | None = None, **changes: Any) -> None:
        self.shown: Counter[str] = Counter()
        self.frames: list[ShownFrame] = []  # the last ones
        self.events: list[tuple[str, str]] = []
        self.session: Any = CallSession(config(**changes), self._show, self._event, loaded or models())
        self.on_frame: Callable[[ShownFrame], None] | None = None

    def _show(self, frame: ShownFrame) -> None:
        self.shown[frame.state] += 1
        self.frames = [*self.frames[-49:], frame]
        if self.on_frame is not None:
            self.on_frame(frame)

    def _event(self, kind: str, line: str) -> None:
        assert "\n" not in line
        self.events.append((kind, line))

    @property
    def states(self) -> list[str]:
        return [line for kind, line in self.events if kind == "state"]

    @property
    def state(self) -> str:
        return self.session.stats().state

    def lines(self, kind: str) -> list[str]:
        return [line for found, line in self.events if found == kind]


async def until(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> float:
    """Wait for a condition; returns how long that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what or condition}"
        await asyncio.sleep(0.01)
    return time.monotonic() - started


async def film(*ends: End) -> None:
    """Be the camera of several ends until cancelled."""
    frames, started, number = camera_frames(), time.time(), 0
    while True:
        for end in ends:
            end.session.submit(CameraFrame(frames[number % len(frames)], time.time(), number))
        number += 1
        await asyncio.sleep(max(started + number / FPS - time.time(), 0))


@asynccontextmanager
async def opened(*ends: End):
    """Open ends with running cameras, and close them whatever happens."""
    camera = asyncio.ensure_future(film(*ends))
    try:
        for end in ends:
            await end.session.open()
        yield ends
    finally:
        camera.cancel()
        await asyncio.gather(*(asyncio.wait_for(end.session.close(), 10) for end in ends), return_exceptions=True)


async def by_hand(one: End, other: End) -> None:
    """Connect two open ends by texts."""
    answer = await other.session.accept_offer(await one.session.make_offer())
    await one.session.accept_answer(answer)
    await until(lambda: one.state == other.state == "connected", what="connected")


async def refused(work: Awaitable[Any]) -> str:
    """Return the one line with which something is refused."""
    from kinecast.errors import KinecastError

    try:
        await work
    except KinecastError as error:
        assert "\n" not in str(error)
        return str(error)
    raise AssertionError("expected a refusal, found none")
