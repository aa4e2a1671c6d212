"""The page of `kinecast camera`. `kinecast.apps.local.site` says who may use it; all but its files need the token.

| request | answer |
|---|---|
| GET /state | what `Show.described` says |
| GET /frame?after=N | a JPEG of a later frame, and its number in X-Kinecast-Frame |
| GET /avatar/N | a JPEG of the N-th avatar at rest, from 0 |
| POST /avatar/N | shows it |
| POST /calibrate | the next pose that is seen is the neutral one |
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from kinecast.apps.camera.show import Show, thumbnail
from kinecast.apps.local.site import Site, StaticFile, refusal

FRAME_HEADER = "X-Kinecast-Frame"
_CAMERA = "kinecast.apps.camera"
_STATIC = {
    "/": StaticFile(_CAMERA, "index.html", "text/html"),
    "/avatar.css": StaticFile(_CAMERA, "avatar.css", "text/css"),
    "/avatar.js": StaticFile(_CAMERA, "avatar.js", "text/javascript"),
}
_PATIENCE_S = 1.0  # of a request for a frame that does not come
_THUMBNAIL = 160  # pixels
_MOST_WAITING = 4  # requests for frames at once, of all windows
_MOST_NUMBER = 12  # digits

_Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CameraPage:
    """Serves the page of a show.

    Args:
        show: what is seen and steered.
    """

    def __init__(self, show: Show) -> None:
        self.site, self.show = Site(_STATIC), show
        self._waiting = 0

    async def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 (port 0: any free one); returns the address with the token.

        Raises:
            KinecastError: the port is taken or not allowed.
        """
        app = self.site.application()
        app.router.add_get("/state", self._with_token(self._state))
        app.router.add_get("/frame", self._with_token(self._frame))
        app.router.add_get("/avatar/{number}", self._with_token(self._avatar))
        app.router.add_post("/avatar/{number}", self._with_token(self._choose))
        app.router.add_post("/calibrate", self._with_token(self._calibrate))
        await self.site.listen(app, port)
        return self.site.address

    async def stop(self) -> None:
        """Stop listening."""
        await self.site.close()

    def _with_token(self, route: _Route) -> _Route:
        async def handle(request: web.Request) -> web.StreamResponse:
            if not self.site.has_token(request):
                return refusal(401, "expected the page's token, found another: open the address that kinecast printed")
            return await route(request)

        return handle

    async def _state(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.show.described())

    async def _frame(self, request: web.Request) -> web.StreamResponse:
        after = _number(request.query.get("after", "0"))
        if after is None:
            return refusal(422, "frame: expected a whole number, found something else: reload the page")
        if self._waiting >= _MOST_WAITING:
            return refusal(429, "expected fewer requests at once, found more: close a window of this page")
        self._waiting += 1
        try:
            number, picture = await self.show.picture(after, _PATIENCE_S)
        finally:
            self._waiting -= 1
        return web.Response(body=picture, content_type="image/jpeg", headers={FRAME_HEADER: str(number)})

    async def _avatar(self, request: web.Request) -> web.StreamResponse:
        index, avatars = _number(request.match_info["number"]), self.show.performer.avatars
        if index is None or index >= len(avatars):
            return _no_avatar(len(avatars))
        picture = await asyncio.to_thread(thumbnail, avatars[index].stage.picture, _THUMBNAIL)
        return web.Response(body=picture, content_type="image/jpeg")

    async def _choose(self, request: web.Request) -> web.StreamResponse:
        index = _number(request.match_info["number"])
        if index is None or not self.show.choose(index):
            return _no_avatar(len(self.show.performer.avatars))
        return web.Response(status=204)

    async def _calibrate(self, request: web.Request) -> web.StreamResponse:
        self.show.calibrate()
        return web.Response(status=204)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_NUMBER else None


def _no_avatar(count: int) -> web.Response:
    return refusal(404, f"avatar: expected a number from 0 to {count - 1}, found another: reload the page")
