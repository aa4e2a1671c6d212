"""A studio on a small model, and a client that does what its page does."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from PIL import Image
from skimage.data import astronaut

from faces_in_motion import tiny_mesh
from kinecast.apps.local.site import TOKEN_HEADER
from kinecast.apps.studio.server import SESSION_HEADER, StudioServer
from kinecast.models.mesh.model import Mesh

LIMIT = 5_000_000  # bytes of an upload


def run(test: Coroutine[Any, Any, None], seconds: float = 60.0) -> None:
    """Run a test's coroutine, which may never hang."""
    asyncio.run(asyncio.wait_for(test, seconds))


def portrait() -> bytes:
    """Return a PNG of a head, (256, 256)."""
    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(astronaut()[:256, 96:352])).save(file, "PNG")
    return file.getvalue()


@cache
def model() -> Mesh:
    """Return a small model, warm; tests in a browser cannot wait long for one."""
    small = tiny_mesh()
    small.warm_up()
    return small


class Client:
    """One page: a session of its own."""

    def __init__(self, server: StudioServer, http: aiohttp.ClientSession) -> None:
        self.server, self.http = server, http
        self.session = ""

    @property
    def headers(self) -> dict[str, str]:
        """What every request has."""
        return {TOKEN_HEADER: self.server.site.token, SESSION_HEADER: self.session}

    async def ask(self, method: str, path: str, **given: Any) -> tuple[int, bytes]:
        """Return status and body."""
        headers = {**self.headers, **given.pop("headers", {})}
        async with self.http.request(method, self.server.site.own + path, headers=headers, **given) as answer:
            return answer.status, await answer.read()

    async def json(self, method: str, path: str, **given: Any) -> Any:
        """Return what a request that succeeds answers."""
        import json

        status, body = await self.ask(method, path, **given)
        assert status < 300, body
        return json.loads(body)

    async def open(self) -> "Client":
        """Begin a session."""
        self.session = (await self.json("POST", "/session"))["session"]
        return self

    async def until(self, job: str, *states: str) -> dict[str, Any]:
        """Wait until a job is in one of some states; returns the page's state."""
        while True:
            state = await self.json("GET", "/state")
            if state[job] is not None and state[job]["state"] in states:
                return state
            await asyncio.sleep(0.05)

    async def ready(self, clip: Path) -> "Client":
        """Begin a session with a portrait and a clip that has been looked at."""
        await self.open()
        await self.json("PUT", "/portrait", data=portrait())
        await self.json("PUT", "/clip", data=clip.read_bytes())
        await self.until("looking", "done")
        return self


def seen(frame: int | None = None, view: str = "square", face: int = 1, **look: float) -> dict[str, Any]:
    """Return the body of a request for a preview."""
    return {"view": view, "face": face, "look": look, "frame": frame}


def order(kind: str = "mp4", **look: float) -> dict[str, Any]:
    """Return the body of a request for a video."""
    return {"view": "square", "face": 1, "look": look, "kind": kind}


@asynccontextmanager
async def serve(limit: int = LIMIT) -> AsyncIterator[Client]:
    """Run a studio; yields a client that has no session yet."""
    server = StudioServer(model, limit)
    await server.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Client(server, http)
    finally:
        await server.stop()
    assert not server.sessions.folder.exists()
