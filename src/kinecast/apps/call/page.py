"""The local page of `kinecast call`: the server behind it, and its one socket.

`kinecast.apps.local.site` has its access rules. Private content (the socket, the clip) needs the token; sizes and rates
of messages are bounded.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from kinecast.apps.call.config import CallConfig
from kinecast.apps.call.figures import Allowance
from kinecast.apps.call.models import load_models
from kinecast.apps.call.page_call import Choices, LoadModels, MakeSession, PageCall
from kinecast.apps.call.page_link import PageLink
from kinecast.apps.call.page_wire import MAX_BINARY, Avatar, Camera, Shown, parse_binary, parse_command
from kinecast.apps.call.session import CallSession
from kinecast.apps.call.signals import on_stop
from kinecast.apps.local.site import GLB, THREE_D, Site, StaticFile, refusal
from kinecast.errors import KinecastError

_CALL = "kinecast.apps.call"
_STATIC = {
    "/": StaticFile(_CALL, "index.html", "text/html"),
    "/call.css": StaticFile(_CALL, "call.css", "text/css"),
    "/call.js": StaticFile(_CALL, "call.js", "text/javascript"),
    "/camera.js": StaticFile(_CALL, "camera.js", "text/javascript"),
    "/figures.js": StaticFile(_CALL, "figures.js", "text/javascript"),
    "/link.js": StaticFile(_CALL, "link.js", "text/javascript"),
    "/sound.js": StaticFile(_CALL, "sound.js", "text/javascript"),
    **THREE_D,
}
HELLO_SECONDS = 5.0  # a socket must name the token within
MAX_STRANGERS = 8  # sockets that have not yet
MAX_MISTAKES = 20  # invalid messages before a socket is closed
_PICTURES = (120.0, 60.0)  # messages per second and at once; a camera gives 25 to 60, and each shown frame is answered
_COMMANDS = (10.0, 40.0)


class PageServer:
    """Serves the page and its one socket; `call` is what the page controls.

    Args:
        config, choices, make_session, load: see `PageCall`.
        clip: a file that the page plays as its camera, None for a camera.
    """

    def __init__(
        self,
        config: CallConfig,
        choices: Choices | None = None,
        clip: Path | None = None,
        make_session: MakeSession = CallSession,
        load: LoadModels = load_models,
    ) -> None:
        self._site = Site(_STATIC, socket="/socket")
        self.clip = clip
        self.call = PageCall(config, choices or Choices(), make_session, load)
        self._strangers = 0
        self._sockets: set[web.WebSocketResponse] = set()

    @property
    def token(self) -> str:
        """Security headers and start values for the browser."""
        return self._site.token

    @property
    def port(self) -> int:
        """Where the server listens."""
        return self._site.port

    async def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 (port 0: any free one) and start loading the model; returns the address with the token.

        Raises:
            KinecastError: the port is taken or not allowed.
        """
        app = self._site.application()
        app.router.add_get("/clip", self._serve_clip)
        app.router.add_get("/head.glb", self._serve_head)
        app.router.add_get("/socket", self._serve_socket)
        await self._site.listen(app, port)
        await self.call.start()
        return self._site.address

    async def stop(self) -> None:
        """Hang up and stop listening."""
        await self.call.stop()
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"kinecast call has ended")
        await self._site.close()

    # --- routes ----------------------------------------------------------------------------------------------

    async def _serve_clip(self, request: web.Request) -> web.StreamResponse:
        if not self._site.has_token(request):
            return refusal(401, "expected the page's token, found another or none")
        if self.clip is None:
            return refusal(404, "expected a clip, found none: start with --input")
        return web.FileResponse(self.clip)

    async def _serve_head(self, request: web.Request) -> web.StreamResponse:
        if not self._site.has_token(request):
            return refusal(401, "expected the page's token, found another or none")
        data = self.call.head
        if data is None:
            return refusal(404, "expected a 3-D head, found none: use the model mesh")
        return web.Response(body=data, content_type=GLB)

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if self._strangers >= MAX_STRANGERS:
            return refusal(503, f"expected at most {MAX_STRANGERS} sockets without token")
        socket = web.WebSocketResponse(max_msg_size=MAX_BINARY, compress=False, heartbeat=20.0)
        self._strangers += 1
        try:
            await socket.prepare(request)
            known = await self._is_known(socket)
        finally:
            self._strangers -= 1
        if not known:
            await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"token")
            return socket
        self._sockets.add(socket)
        link = PageLink(socket)
        self.call.attach(link)
        writer = asyncio.ensure_future(link.run())
        try:
            await self._listen(link)
        finally:
            self.call.detach(link)
            self._sockets.discard(socket)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await socket.close()
        return socket

    async def _is_known(self, socket: web.WebSocketResponse) -> bool:
        """Wait for the first message, which must carry the token."""
        try:
            text = await socket.receive_str(timeout=HELLO_SECONDS)
            hello = parse_command(text)
        except (KinecastError, TypeError, TimeoutError, ValueError):  # TypeError: it was binary, or the end
            return False
        return hello["type"] == "hello" and self._site.is_token(hello["token"])

    async def _listen(self, link: PageLink) -> None:
        """Read messages until the page leaves, is replaced, or has sent too many invalid ones."""
        pictures, commands = Allowance(*_PICTURES), Allowance(*_COMMANDS)
        mistakes = 0
        async for message in link.socket:
            try:
                if message.type == WSMsgType.BINARY:
                    if pictures.take():  # those beyond it are dropped, as a camera's may be
                        self._take(link, parse_binary(message.data))
                elif message.type == WSMsgType.TEXT:
                    command = parse_command(message.data)
                    if not commands.take():
                        raise KinecastError(f"page: expected at most {_COMMANDS[0]:g} commands a second: wait")
                    self._obey(link, command)
                else:
                    break
            except KinecastError as error:
                mistakes += 1
                link.say({"type": "error", "line": str(error)})
                if mistakes > MAX_MISTAKES:
                    await link.socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"too many mistakes")

    def _obey(self, link: PageLink, command: dict[str, Any]) -> None:
        if command["type"] == "hello" or not self.call.is_attached(link):
            raise KinecastError("page: expected the page in charge, found another: reload this one")
        try:
            self.call.command(command)
        except KinecastError as error:  # valid but at the wrong moment, which is not the page's fault
            link.say({"type": "error", "line": str(error)})

    def _take(self, link: PageLink, message: Camera | Avatar | Shown) -> None:
        if isinstance(message, Shown):
            link.drawn(message.count)
        elif not self.call.is_attached(link):
            return  # the page that was replaced still sends what it had begun
        elif isinstance(message, Avatar):
            self.call.avatar(message)
        else:
            self.call.camera(message)


async def run_page(server: PageServer, port: int, opened: Callable[[str], Any]) -> None:
    """Serve until Ctrl-C or SIGTERM; `opened` is given the address."""
    ended = asyncio.Event()
    try:
        opened(await server.start(port))
        with on_stop(ended.set):  # ends before the farewell, for which a second Ctrl-C need not wait
            await ended.wait()
    finally:
        await server.stop()
