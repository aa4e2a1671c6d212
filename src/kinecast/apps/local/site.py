"""A page on 127.0.0.1 for one person's browser.

Nobody else may use it, including other sites open in the same browser:
- every request must name the server's own address as Host (against DNS rebinding), and no other
  Origin; a WebSocket must name its Origin;
- all private content needs the token. It travels in the address's fragment, which browsers neither send nor put into
referrers, then in a header or the socket's first message;
- the files of the page are a fixed table, not a folder; a request has no body where none is expected.
"""

import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

from kinecast.errors import KinecastError

TOKEN_HEADER = "X-Kinecast-Token"
LOCAL = "kinecast.apps.local"
_HOST = "127.0.0.1"
_log = logging.getLogger(__name__)
_silent = logging.getLogger(f"{__name__}.requests")  # aiohttp's, which logs a traceback for every malformed request
_silent.addHandler(logging.NullHandler())
_silent.propagate = False

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StaticFile(NamedTuple):
    """A file shipped in a package's folder `static`."""

    package: str
    name: str
    kind: str  # its media type


# Files of every page.
SHARED = {
    "/page.css": StaticFile(LOCAL, "page.css", "text/css"),
    "/token.js": StaticFile(LOCAL, "token.js", "text/javascript"),
    "/icon.svg": StaticFile(LOCAL, "icon.svg", "image/svg+xml"),
}

GLB = "model/gltf-binary"
# What pages have that show 3-D heads. three.js is made by recipes/bundle_three.sh.
THREE_D = {
    "/head.js": StaticFile(LOCAL, "head.js", "text/javascript"),
    "/three.js": StaticFile(LOCAL, "three.js", "text/javascript"),
}


class Site:
    """A guarded server on 127.0.0.1.

    Args:
        static: the page's files by path, beside those of `SHARED`.
        socket: the path of its WebSocket, if it has one.
        bodies: (method, path) of requests that may have a body.
    """

    def __init__(
        self,
        static: Mapping[str, StaticFile],
        socket: str | None = None,
        bodies: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        self.port = 0
        self._static = {**SHARED, **static}
        self._socket, self._bodies = socket, bodies
        self._runner: web.AppRunner | None = None

    @property
    def own(self) -> str:
        """The server's own origin."""
        return f"http://{_HOST}:{self.port}"

    @property
    def address(self) -> str:
        """The address to open, with the token."""
        return f"{self.own}/#{self.token}"

    def application(self, longest_body: int = 1024) -> web.Application:
        """Return a guarded application with the page's files; `longest_body` is in bytes."""
        app = web.Application(middlewares=[self._guard], client_max_size=longest_body)
        app.on_response_prepare.append(self._add_headers)
        for path in self._static:
            app.router.add_get(path, self._serve_static)
        return app

    async def listen(self, app: web.Application, port: int = 0) -> None:
        """Listen on 127.0.0.1; port 0 is any free one.

        Raises:
            KinecastError: the port is taken or not allowed.
        """
        # No access log: it would record what this person does, to no use.
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0, logger=_silent)
        await self._runner.setup()
        site = web.TCPSite(self._runner, _HOST, port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            await self._runner.cleanup()
            raise KinecastError(f"port {port}: expected a free port, found {error}: choose another --port") from error
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening."""
        if self._runner:
            await self._runner.cleanup()

    def is_token(self, token: str) -> bool:
        """Return whether a text is the page's token."""
        return hmac.compare_digest(token.encode(errors="surrogatepass"), self.token.encode())

    def has_token(self, request: web.Request) -> bool:
        """Return whether a request's header has the page's token."""
        return self.is_token(request.headers.get(TOKEN_HEADER, ""))

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.getall("Host", []) != [f"{_HOST}:{self.port}"]:
            return refusal(421, f"expected the address {self.own}, found another: open the one kinecast printed")
        origins = request.headers.getall("Origin", ["null"] if request.path == self._socket else [])
        if any(origin != self.own for origin in origins):
            return refusal(403, "expected a request of this page, found another origin")
        if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            return refusal(403, "expected a request of this page, found another site: type the address by hand")
        if request.can_read_body and (request.method, request.path) not in self._bodies:
            return refusal(413, "expected a request without a body")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return refusal(error.status, error.reason)
        except KinecastError as error:
            return refusal(422, str(error))
        except ConnectionError:
            raise
        except Exception:
            _log.exception("a request of the page failed")
            return refusal(500, "this request failed: see the output of kinecast")

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        connects = "'self'" if self._socket is None else f"'self' ws://{_HOST}:{self.port}"
        response.headers.update(
            {
                "Content-Security-Policy": (
                    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
                    f"media-src 'self' blob:; connect-src {connects}; form-action 'none'; "
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

    async def _serve_static(self, request: web.Request) -> web.StreamResponse:
        package, name, kind = self._static[request.path]
        body = files(package).joinpath("static", name).read_bytes()
        return web.Response(body=body, content_type=kind, charset="utf-8")


def refusal(status: int, line: str) -> web.Response:
    """Return a one-line response."""
    return web.Response(status=status, text=f"kinecast: {line}\n")
