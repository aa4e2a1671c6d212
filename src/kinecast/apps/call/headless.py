"""A call without a page: a clip as the camera, the received video recorded."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kinecast.apps.call.capture import play_clip
from kinecast.apps.call.config import CallConfig, ShownFrame
from kinecast.apps.call.models import Models
from kinecast.apps.call.session import CallSession
from kinecast.apps.call.signals import on_stop
from kinecast.errors import KinecastError
from kinecast.media.video import probe


@dataclass(frozen=True)
class HeadlessOptions:
    """Options of a headless call.

    `server`: host a room there; the invitation is printed. `invitation`: join one, or answer an offer passed by hand.
    Neither: an offer is printed, and its answer read from stdin. `output` records the received video. `seconds` ends
        the call that long after connecting; None: when the clip ends or the other side hangs up. `repeat` loops the
        clip.
    """

    input: Path
    output: Path | None = None
    server: str | None = None
    invitation: str | None = None
    seconds: float | None = None
    repeat: bool = False

    def __post_init__(self) -> None:
        if self.server is not None and self.invitation is not None:
            raise KinecastError("call: expected a server to host at or an invitation to follow, found both: choose one")
        if self.seconds is not None and not self.seconds > 0:
            raise KinecastError(f"seconds: expected above 0, found {self.seconds}")


def run_headless(
    options: HeadlessOptions,
    config: CallConfig,
    say: Callable[[str], None],
    on_stats: Callable[[dict[str, Any]], None] | None = None,
    models: Models | None = None,
) -> dict[str, Any]:
    """Make a call and return its figures: `CallStats.to_dict()`, `states` as (seconds, state), `shown` by state.

    Args:
        options: clip, how to connect, and when to end.
        config: configuration; `record` is `options.output`.
        say: called with lines for a person.
        on_stats: called with the figures every second.
        models: loaded models; None loads them.

    Raises:
        KinecastError: unreadable input, no connection to the other side, or an unusable stream from it.
    """
    probe(options.input)  # before connecting
    return asyncio.run(_Headless(options, config, say, on_stats, models).run())


@dataclass
class _Seen:
    states: list[tuple[float, str]] = field(default_factory=list)
    shown: dict[str, int] = field(default_factory=dict)
    error: str | None = None


class _Headless:
    def __init__(
        self,
        options: HeadlessOptions,
        config: CallConfig,
        say: Callable[[str], None],
        on_stats: Callable[[dict[str, Any]], None] | None,
        models: Models | None,
    ) -> None:
        self._options, self._say, self._on_stats = options, say, on_stats
        self._config = replace(config, record=options.output) if options.output is not None else config
        self._models = models
        self._seen = _Seen()
        self._started = time.monotonic()

    async def run(self) -> dict[str, Any]:
        self._ended, self._connected = asyncio.Event(), asyncio.Event()
        self._session = session = CallSession(self._config, self._shown, self._event, self._models)
        with on_stop(self._ended.set):
            await self._converse(session)
        if self._seen.error is not None:
            raise KinecastError(self._seen.error)
        return {**session.stats().to_dict(), "states": self._seen.states, "shown": self._seen.shown}

    async def _converse(self, session: CallSession) -> None:
        """Open the session, connect, play the clip, and close."""
        tasks: list[asyncio.Future[Any]] = []
        try:
            await session.open()
            tasks.append(asyncio.ensure_future(self._reach()))
            tasks.append(asyncio.ensure_future(self._report()))
            await self._until(self._connected, tasks)
            if not self._ended.is_set():
                tasks.append(asyncio.ensure_future(self._camera()))
                await self._until(self._ended, tasks, self._options.seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await session.close()

    async def _until(
        self, event: asyncio.Event, tasks: list["asyncio.Future[Any]"], seconds: float | None = None
    ) -> None:
        """Wait for an event, the end, or a failed task, whose error is raised."""
        waits = [asyncio.ensure_future(e.wait()) for e in (event, self._ended)]
        try:
            pending = {*waits, *tasks}
            until = time.monotonic() + seconds if seconds is not None else None
            while not any(wait.done() for wait in waits):
                left = max(until - time.monotonic(), 0) if until is not None else None
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if not done:
                    return
        finally:
            for wait in waits:
                wait.cancel()

    async def _reach(self) -> None:
        options, session = self._options, self._session
        if options.server is not None:
            self._say(f"invitation: {await session.host_room(options.server)}")
        elif options.invitation is None:
            self._say(f"offer, to hand over: {await session.make_offer()}")
            self._say("paste the answer, on one line:")
            answer = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
            await session.accept_answer(answer)
        elif options.invitation.lstrip().startswith("kinecast1:"):
            self._say(f"answer, to hand back: {await session.accept_offer(options.invitation)}")
        else:
            await session.join_room(options.invitation)

    async def _camera(self) -> None:
        await play_clip(self._options.input, self._session.submit, repeat=self._options.repeat)
        if self._options.seconds is None:
            self._ended.set()

    async def _report(self) -> None:
        while self._on_stats is not None:
            await asyncio.sleep(1)
            self._on_stats(self._session.stats().to_dict())

    def _shown(self, frame: ShownFrame) -> None:
        self._seen.shown[frame.state] = self._seen.shown.get(frame.state, 0) + 1

    def _event(self, kind: str, line: str) -> None:
        if kind == "state":
            self._seen.states.append((round(time.monotonic() - self._started, 3), line))
            if line == "connected":
                self._connected.set()
            elif line == "ended":
                self._ended.set()
        else:
            self._say(line)
            if kind == "error":
                self._seen.error = line
