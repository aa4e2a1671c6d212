"""The server's side of one connected page: what waits to be sent is bounded, and the newest picture wins."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

from kinecast.apps.call.page_wire import WINDOW, pack_head, pack_picture

MAX_EVENTS = 64  # a page that is stuck loses the oldest lines, not the server its memory


class PageLink:
    """Sends events, figures and pictures to one page over its WebSocket.

    Of pictures one waits at most, and at most `WINDOW` travel without the page having said that they are drawn: what
    a stalled page would miss never becomes delay. Of figures only the latest set waits.
    """

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        self.dropped = 0
        self._events: deque[Mapping[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._figures: Mapping[str, Any] | None = None
        self._picture: Callable[[], bytes] | None = None
        self._sent = self._drawn = 0
        self._wake = asyncio.Event()

    def say(self, event: Mapping[str, Any]) -> None:
        """Queue an event."""
        self._events.append(event)
        self._wake.set()

    def figures(self, figures: Mapping[str, Any]) -> None:
        """Queue a set of figures in place of one that still waits."""
        self._figures = figures
        self._wake.set()

    def show(self, *picture: Any) -> None:
        """Queue a picture, the arguments of `pack_picture`, in place of one that still waits."""
        self._queue(lambda: pack_picture(*picture))

    def pose(self, *pose: Any) -> None:
        """Queue what a 3-D head does, the arguments of `pack_head`, in place of a picture that still waits."""
        self._queue(lambda: pack_head(*pose))

    def _queue(self, packed: Callable[[], bytes]) -> None:
        self.dropped += self._picture is not None
        self._picture = packed
        self._wake.set()

    def drawn(self, count: int) -> None:
        """Note that the page has drawn `count` pictures since it connected; a claim of more than were sent is cut."""
        self._drawn = min(max(self._drawn, count), self._sent)
        self._wake.set()

    async def run(self) -> None:
        """Send until the socket closes or the task is cancelled."""
        while not self.socket.closed:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._flush()
            except ConnectionError:  # the page went; its reader ends by itself
                return

    async def _flush(self) -> None:
        while self._events:
            await self.socket.send_json(self._events.popleft())
        if self._figures is not None:
            figures, self._figures = self._figures, None
            await self.socket.send_json(figures)
        if self._picture is not None and self._sent - self._drawn < WINDOW:
            picture, self._picture = self._picture, None
            self._sent += 1
            await self.socket.send_bytes(picture())
