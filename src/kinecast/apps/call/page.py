"""The local page of `kinecast call`: a server on 127.0.0.1 for one person's browser.

Nobody else may use it, other sites open in the same browser included:
- every request must name the server's own address as Host (a name that was rebound to 127.0.0.1 does not), and no other
  Origin; a WebSocket must name its Origin;
- whatever is not the same for everybody (the socket, the clip) needs the token. It travels in the address's fragment,
  which browsers neither send nor put into referrers, then in a header or the socket's first message;
- the files of the page are a fixed table, not a folder; sizes and rates of messages are bounded.
"""

import asyncio
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from importlib.resources import files
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
from kinecast.errors import KinecastError

_log = logging.getLogger(__name__)
_STATIC = {
    "/": ("index.html", "text/html"),
    "/call.css": ("call.css", "text/css"),
    "/call.js": ("call.js", "text/javascript"),
    "/camera.js": ("camera.js", "text/javascript"),
    "/figures.js": ("figures.js", "text/javascript"),
    "/link.js": ("link.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/sound.js": ("sound.js", "text/javascript"),
}
TOKEN_HEADER = "X-Kinecast-Token"
HELLO_SECONDS = 5.0  # a socket must name the token within
MAX_STRANGERS = 8  # sockets that have not yet
MAX_MISTAKES = 20  # messages that are not what they should be, before a socket is closed
_PICTURES = (120.0, 60.0)  # messages a second and at once; a camera gives 25 to 60, and each shown frame is answered
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
        self.token = secrets.token_urlsafe(32)
        self.clip = clip
        self.call = PageCall(config, choices or Choices(), make_session, load)
        self.port = 0
        self._strangers = 0
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 (port 0: any free one) and begin to load the model; returns the address with the token.

        Raises:
            KinecastError: the port is taken or not allowed.
        """
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.on_response_prepare.append(self._add_headers)
        for path in _STATIC:
            app.router.add_get(path, self._serve_static)
        app.router.add_get("/clip", self._serve_clip)
        app.router.add_get("/socket", self._serve_socket)
        # No access log: it would name what this person does, and is of use to nobody.
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise KinecastError(f"port {port}: expected a free port, found {error}: choose another --port") from error
        self.port = self._runner.addresses[0][1]
        await self.call.start()
        return f"http://127.0.0.1:{self.port}/#{self.token}"

    async def stop(self) -> None:
        """Hang up and stop listening."""
        await self.call.stop()
        for socket in list(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"kinecast call has ended")
        if self._runner:
            await self._runner.cleanup()

    # --- who may ask ------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        own = f"127.0.0.1:{self.port}"
        if request.headers.getall("Host", []) != [own]:
            return _refusal(421, f"expected the address http://{own}, found another: open the one kinecast printed")
        origins = request.headers.getall("Origin", ["null"] if request.path == "/socket" else [])
        if any(origin != f"http://{own}" for origin in origins):
            return _refusal(403, "expected a request of this page, found another origin")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            return _refusal(403, "expected a request of this page, found another site: type the address yourself")
        if request.can_read_body:
            return _refusal(413, "expected a request without a body")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _refusal(error.status, error.reason)

    def _is_token(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(errors="surrogatepass"), self.token.encode())

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(
            {
                "Content-Security-Policy": (
                    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
                    f"media-src 'self' blob:; connect-src 'self' ws://127.0.0.1:{self.port}; form-action 'none'; "
                    "base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
                ),
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
                "X-Frame-Options": "DENY",
                "Cross-Origin-Opener-Policy": "same-origin",
                "Cross-Origin-Embedder-Policy": "require-corp",
                "Cross-Origin-Resource-Policy": "same-origin",
                "Permissions-Policy": "camera=(self), microphone=(self), geolocation=(), display-capture=()",
                "Cache-Control": "no-store",
                "Server": "kinecast",
            }
        )

    # --- what there is ----------------------------------------------------------------------------------------------

    async def _serve_static(self, request: web.Request) -> web.StreamResponse:
        name, kind = _STATIC[request.path]
        body = files("kinecast.apps.call").joinpath("static", name).read_bytes()
        return web.Response(body=body, content_type=kind, charset="utf-8")

    async def _serve_clip(self, request: web.Request) -> web.StreamResponse:
        if not self._is_token(request.headers.get(TOKEN_HEADER, "")):
            return _refusal(401, "expected the page's token, found another or none")
        if self.clip is None:
            return _refusal(404, "expected a clip, found none: start with --input")
        return web.FileResponse(self.clip)

    async def _serve_socket(self, request: web.Request) -> web.StreamResponse:
        if self._strangers >= MAX_STRANGERS:
            return _refusal(503, f"expected at most {MAX_STRANGERS} sockets without token")
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
        return hello["type"] == "hello" and self._is_token(hello["token"])

    async def _listen(self, link: PageLink) -> None:
        """Read messages until the page goes, is replaced, or has sent too many that are not what they should be."""
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
        except KinecastError as error:  # well said at the wrong moment, which is no mistake of the page
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


def _refusal(status: int, line: str) -> web.Response:
    return web.Response(status=status, text=f"kinecast: {line}\n")


async def run_page(server: PageServer, port: int, opened: Callable[[str], Any]) -> None:
    """Serve until Ctrl-C or SIGTERM; `opened` is given the address."""
    ended = asyncio.Event()
    try:
        opened(await server.start(port))
        with on_stop(ended.set):  # ends before the farewell, for which a second Ctrl-C need not wait
            await ended.wait()
    finally:
        await server.stop()
