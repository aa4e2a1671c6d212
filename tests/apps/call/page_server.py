"""A page server on a fake session, and a client that knows its token, for tests."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from apps.call.fake_session import FakeSession, no_models
from kinecast.apps.call.config import CallConfig
from kinecast.apps.call.page import PageServer
from kinecast.apps.call.page_call import Choices


def run(test: Coroutine[Any, Any, None], seconds: float = 30.0) -> None:
    """Run a test's coroutine, which may never hang."""
    asyncio.run(asyncio.wait_for(test, seconds))


async def until(check: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait until something is true on the server's side."""
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.02)


class Client:
    """Talks to the server as the page does."""

    def __init__(self, server: PageServer, http: aiohttp.ClientSession) -> None:
        self.server, self.http = server, http
        self.base = f"http://127.0.0.1:{server.port}"

    @property
    def session(self) -> FakeSession:
        """The session that the page's call has now."""
        return FakeSession.made[-1]

    def socket(self, **headers: str) -> Any:
        """Open the socket with the page's own Origin, unless another is given."""
        return self.http.ws_connect(f"{self.base}/socket", headers={"Origin": self.base, **headers})

    async def page(self, **headers: str) -> aiohttp.ClientWebSocketResponse:
        """Open the socket, say the token, and wait for the state `ready`."""
        socket = await self.socket(**headers)
        await socket.send_json({"type": "hello", "token": self.server.token})
        welcome = await event(socket, "welcome")
        if welcome["state"] == "loading":
            await event(socket, "state")
        return socket


async def event(socket: aiohttp.ClientWebSocketResponse, kind: str, seconds: float = 5.0) -> dict[str, Any]:
    """Return the next event of a type; others before it are passed over."""
    async with asyncio.timeout(seconds):
        while True:
            message = await socket.receive()
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), f"closed, waiting for {kind}"
            if message.type == aiohttp.WSMsgType.TEXT and json.loads(message.data)["type"] == kind:
                return json.loads(message.data)


async def picture(socket: aiohttp.ClientWebSocketResponse, seconds: float = 5.0) -> bytes:
    """Return the next picture message."""
    async with asyncio.timeout(seconds):
        while True:
            message = await socket.receive()
            assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), "closed"
            if message.type == aiohttp.WSMsgType.BINARY:
                return message.data


@asynccontextmanager
async def serve(choices: Choices | None = None, clip: Path | None = None, **config: Any) -> AsyncIterator[Client]:
    """Run a page server on a free port."""
    FakeSession.made.clear()
    server = PageServer(CallConfig(**config), choices, clip, FakeSession, no_models)
    await server.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Client(server, http)
    finally:
        await server.stop()
