"""The routes of `kinecast studio`. `kinecast.apps.local.site` says who may use them.

All but the page's own files need the token (`X-Kinecast-Token`), and all but POST /session a session
(`X-Kinecast-Session`). Bodies are bounded. An answer that is no success is one line, "kinecast: ...", which names no
path of this machine.

| request | body | answer |
|---|---|---|
| POST /session | | its name, the limits, the sliders' ranges |
| DELETE /session | | |
| GET /state | | what `Session.described` says |
| PUT /portrait, PUT /clip | the file | what was found in it |
| GET /portrait | | a JPEG |
| DELETE /clip | | |
| POST /preview, POST /picture | JSON: view, face, look, frame | a JPEG, a PNG |
| POST /live | uint8 1 to begin anew, uint16 width, height, RGBA pixels | a JPEG |
| POST /look | JSON: view, face, look | those that POST /live goes by |
| POST /video | JSON: view or "3d", face, look, kind | 202; progress is in /state |
| DELETE /video | | cancelled |
| GET /video | | the clip |
| PUT /head | a GLB file | those of ARKit's names that it has |
| POST /head | | the same of kinecast's own head |
| GET /head.glb | | the head's file |
| POST /pose | JSON: look, frame | JSON: what the head does |
| POST /live-pose | as POST /live | likewise |
"""

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from aiohttp import web

from kinecast.apps.call.signals import on_stop
from kinecast.apps.heads.expression import SHAPES
from kinecast.apps.heads.glb import MAX_BYTES
from kinecast.apps.local.site import GLB, THREE_D, Site, StaticFile, refusal
from kinecast.apps.studio.controls import RANGES, Look
from kinecast.apps.studio.heads import described
from kinecast.apps.studio.jobs import FORMATS, Order, Worker
from kinecast.apps.studio.scene import HEAD, VIEWS, Choice
from kinecast.apps.studio.sessions import NO_HEAD, Busy, Session, Sessions
from kinecast.apps.studio.uploads import TooLarge, bounded
from kinecast.errors import KinecastError
from kinecast.models.base import Backbone
from kinecast.models.mesh.model import Mesh

SESSION_HEADER = "X-Kinecast-Session"
FACE_HEADER = "X-Kinecast-Face"  # of what POST /live answers: seen, or none so far
_STUDIO = "kinecast.apps.studio"
_STATIC = {
    "/": StaticFile(_STUDIO, "index.html", "text/html"),
    "/studio.css": StaticFile(_STUDIO, "studio.css", "text/css"),
    "/studio.js": StaticFile(_STUDIO, "studio.js", "text/javascript"),
    "/server.js": StaticFile(_STUDIO, "server.js", "text/javascript"),
    "/sliders.js": StaticFile(_STUDIO, "sliders.js", "text/javascript"),
    "/camera.js": StaticFile(_STUDIO, "camera.js", "text/javascript"),
    "/puppet.js": StaticFile(_STUDIO, "puppet.js", "text/javascript"),
    **THREE_D,
}
_BODIES = frozenset(
    {("PUT", "/portrait"), ("PUT", "/clip"), ("PUT", "/head")}
    | {("POST", path) for path in ("/preview", "/picture", "/live", "/look", "/video", "/pose", "/live-pose")}
)
MIN_SIDE, MAX_SIDE = 16, 640  # pixels of a camera's frame
_LIVE = struct.Struct("<BHH")
_LONGEST_BODY = _LIVE.size + MAX_SIDE * MAX_SIDE * 4
_LONGEST_JSON = 4096
_EXPIRY_S = 60.0  # between looks at which sessions have ended
_MOST_FRAMES = 10_000_000
_KINDS = {"mp4": "video/mp4", "gif": "image/gif", "webm": "video/webm"}

LoadModel = Callable[[], Backbone]
_Route = Callable[[web.Request, Session], Awaitable[web.StreamResponse]]


class StudioServer:
    """Serves the studio.

    Args:
        load: returns the backbone, which must be a mesh; called in a thread once the server listens.
        upload_bytes: of a file that a page sends, at most.
    """

    def __init__(self, load: LoadModel, upload_bytes: int) -> None:
        self.site = Site(_STATIC, bodies=_BODIES)
        self._load, self._limit = load, upload_bytes
        self._worker = Worker()
        self.sessions = Sessions(self._worker, upload_bytes)
        self._model: asyncio.Task[Mesh] | None = None
        self._expiry: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> str:
        """Listen on 127.0.0.1 (port 0: any free one) and begin to load the model; returns the address with the token.

        Raises:
            KinecastError: the port is taken or not allowed.
        """
        app = self.site.application(_LONGEST_BODY)
        app.router.add_post("/session", self._open)
        add = app.router.add_route
        add("DELETE", "/session", self._of_session(self._end))
        add("GET", "/state", self._of_session(self._state))
        add("PUT", "/portrait", self._of_session(self._put_portrait))
        add("GET", "/portrait", self._of_session(self._get_portrait))
        add("PUT", "/clip", self._of_session(self._put_clip))
        add("DELETE", "/clip", self._of_session(self._drop_clip))
        add("POST", "/preview", self._of_session(self._preview))
        add("POST", "/picture", self._of_session(self._picture))
        add("POST", "/look", self._of_session(self._look))
        add("POST", "/live", self._of_session(self._live))
        add("POST", "/video", self._of_session(self._make))
        add("DELETE", "/video", self._of_session(self._cancel))
        add("GET", "/video", self._of_session(self._get_video))
        add("PUT", "/head", self._of_session(self._put_head))
        add("POST", "/head", self._of_session(self._own_head))
        add("GET", "/head.glb", self._of_session(self._get_head))
        add("POST", "/pose", self._of_session(self._pose))
        add("POST", "/live-pose", self._of_session(self._live_pose))
        try:
            await self.site.listen(app, port)
        except KinecastError:
            await self.stop()
            raise
        self._model = asyncio.ensure_future(self._worker.run(_loaded, self._load))
        self._expiry = asyncio.ensure_future(self._expire())
        return self.site.address

    async def stop(self) -> None:
        """Stop listening, end all work, and remove what pages sent."""
        if self._expiry is not None:
            self._expiry.cancel()
        await self.site.close()
        await self.sessions.close()
        await self._worker.close()
        if self._model is not None:
            await asyncio.gather(self._model, return_exceptions=True)

    async def loaded(self) -> Mesh:
        """Wait for the model.

        Raises:
            KinecastError: it cannot be loaded, or is no mesh.
        """
        assert self._model is not None
        return await asyncio.shield(self._model)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_EXPIRY_S)
            await self.sessions.expire()

    # --- sessions ---------------------------------------------------------------------------------------------------

    def _of_session(self, route: _Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            if not self.site.has_token(request):
                return _no_token()
            session = self.sessions.find(request.headers.get(SESSION_HEADER, ""))
            if session is None:
                return refusal(410, "expected a session that is open, found none: reload the page")
            return await _answered(route(request, session))

        return handle

    async def _open(self, request: web.Request) -> web.StreamResponse:
        if not self.site.has_token(request):
            return _no_token()
        return await _answered(self._opened())

    async def _opened(self) -> web.StreamResponse:
        name = await self.sessions.open(await self.loaded())
        return web.json_response(
            {"session": name, "upload_bytes": self._limit, "ranges": RANGES, "kinds": FORMATS, "most_side": MAX_SIDE}
        )

    async def _end(self, request: web.Request, session: Session) -> web.StreamResponse:
        await self.sessions.end(request.headers[SESSION_HEADER])
        return web.Response(status=204)

    async def _state(self, request: web.Request, session: Session) -> web.StreamResponse:
        return web.json_response(session.described())

    # --- files ------------------------------------------------------------------------------------------------------

    async def _put_portrait(self, request: web.Request, session: Session) -> web.StreamResponse:
        return web.json_response(await session.take_portrait(_pieces(request), request.content_length))

    async def _put_clip(self, request: web.Request, session: Session) -> web.StreamResponse:
        return web.json_response(await session.take_clip(_pieces(request), request.content_length))

    async def _drop_clip(self, request: web.Request, session: Session) -> web.StreamResponse:
        await session.drop_clip()
        return web.Response(status=204)

    # --- pictures ---------------------------------------------------------------------------------------------------

    async def _get_portrait(self, request: web.Request, session: Session) -> web.StreamResponse:
        return web.Response(body=await session.thumbnail(), content_type="image/jpeg")

    async def _preview(self, request: web.Request, session: Session) -> web.StreamResponse:
        values = await _json(request, {"view", "face", "look", "frame"})
        picture = await session.preview(*_seen(values), _frame(values["frame"]))
        return web.Response(body=picture, content_type="image/jpeg")

    async def _picture(self, request: web.Request, session: Session) -> web.StreamResponse:
        values = await _json(request, {"view", "face", "look", "frame"})
        picture = await session.preview(*_seen(values), _frame(values["frame"]), saved=True)
        return web.Response(body=picture, content_type="image/png")

    async def _look(self, request: web.Request, session: Session) -> web.StreamResponse:
        session.seen = _seen(await _json(request, {"view", "face", "look"}))
        return web.Response(status=204)

    async def _live(self, request: web.Request, session: Session) -> web.StreamResponse:
        anew, frame = _camera(await request.read())
        picture, is_seen = await session.live(frame, anew)
        return web.Response(
            body=picture, content_type="image/jpeg", headers={FACE_HEADER: "seen" if is_seen else "none"}
        )

    # --- a 3-D head -------------------------------------------------------------------------------------------------

    async def _put_head(self, request: web.Request, session: Session) -> web.StreamResponse:
        return _named(await session.take_head(await bounded(_pieces(request), request.content_length, MAX_BYTES)))

    async def _own_head(self, request: web.Request, session: Session) -> web.StreamResponse:
        return _named(await session.take_head(None))

    async def _get_head(self, request: web.Request, session: Session) -> web.StreamResponse:
        if session.head is None:
            raise KinecastError(NO_HEAD)
        return web.Response(body=session.head.data, content_type=GLB)

    async def _pose(self, request: web.Request, session: Session) -> web.StreamResponse:
        values = await _json(request, {"look", "frame"})
        return web.json_response(described(await session.pose(Look.parse(values["look"]), _frame(values["frame"]))))

    async def _live_pose(self, request: web.Request, session: Session) -> web.StreamResponse:
        anew, frame = _camera(await request.read())
        pose, is_seen = await session.live_pose(frame, anew)
        return web.json_response(described(pose), headers={FACE_HEADER: "seen" if is_seen else "none"})

    # --- the video --------------------------------------------------------------------------------------------------

    async def _make(self, request: web.Request, session: Session) -> web.StreamResponse:
        values = await _json(request, {"view", "face", "look", "kind"})
        if values["kind"] not in FORMATS:
            raise KinecastError(f"video: expected {', '.join(FORMATS)}, found another: choose one")
        await session.begin(Order(values["kind"], *_seen(values, (*VIEWS, HEAD))))
        return web.Response(status=202)

    async def _cancel(self, request: web.Request, session: Session) -> web.StreamResponse:
        await session.cancel()
        return web.Response(status=204)

    async def _get_video(self, request: web.Request, session: Session) -> web.StreamResponse:
        path, kind = session.result()
        name = f'attachment; filename="kinecast.{kind}"'
        return web.FileResponse(path, headers={"Content-Type": _KINDS[kind], "Content-Disposition": name})


async def _answered(work: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    try:
        return await work
    except TooLarge as error:
        answer = refusal(413, str(error))
        answer.force_close()  # what else arrives is not read
        return answer
    except Busy as error:
        return refusal(429, str(error))
    except web.RequestPayloadError:
        return refusal(400, "expected a body as its headers say, found another")


def _named(shapes: list[str]) -> web.Response:
    return web.json_response({"names": SHAPES, "shapes": shapes})


def _no_token() -> web.Response:
    return refusal(401, "expected the page's token, found another or none: open the address that kinecast printed")


def _loaded(load: LoadModel) -> Mesh:
    model = load()
    if not isinstance(model, Mesh):
        raise KinecastError(f"studio: expected a mesh backbone, found {model.name}: use the model mesh")
    model.warm_up()
    return model


def _pieces(request: web.Request) -> Any:
    return request.content.iter_chunked(1 << 18)


async def _json(request: web.Request, fields: set[str]) -> dict[str, Any]:
    """Return the object that a request carries, which has exactly these fields.

    Raises:
        KinecastError: it carries something else.
    """
    values: Any = None
    body = await request.read()
    if len(body) <= _LONGEST_JSON:
        with suppress(ValueError, RecursionError):
            values = json.loads(body)
    if not isinstance(values, dict) or set(values) != fields:
        raise KinecastError(f"request: expected JSON with {', '.join(sorted(fields))}, found others: reload the page")
    return values


def _seen(values: dict[str, Any], views: Sequence[str] = VIEWS) -> tuple[Choice, Look]:
    view, face = values["view"], values["face"]
    if view not in views:
        raise KinecastError(f"view: expected {' or '.join(views)}, found another: reload the page")
    if isinstance(face, bool) or not isinstance(face, int):
        raise KinecastError("face: expected a whole number, found something else: reload the page")
    return Choice(view, face), Look.parse(values["look"])


def _frame(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_FRAMES):
        return value
    raise KinecastError("frame: expected a whole number from 0, found something else: reload the page")


def _camera(data: bytes) -> tuple[bool, np.ndarray]:
    """Return whether to begin anew, and the picture (h, w, 3), uint8, of a camera's message.

    Raises:
        KinecastError: a size out of bounds, or pixels missing or too many.
    """
    if len(data) < _LIVE.size:
        raise KinecastError(f"camera: expected at least {_LIVE.size} bytes, found {len(data)}: reload the page")
    anew, width, height = _LIVE.unpack_from(data)
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise KinecastError(
            f"camera: expected sides of {MIN_SIDE} to {MAX_SIDE} pixels, found {width}x{height}: reload the page"
        )
    if len(data) != _LIVE.size + width * height * 4:
        raise KinecastError(f"camera: expected {width * height * 4} bytes of pixels, found others: reload the page")
    pixels = np.frombuffer(data, np.uint8, offset=_LIVE.size).reshape(height, width, 4)
    return bool(anew), np.ascontiguousarray(pixels[..., :3])


async def run_studio(server: StudioServer, port: int, opened: Callable[[str], Any]) -> None:
    """Serve until Ctrl-C or SIGTERM; `opened` is given the address.

    Raises:
        KinecastError: the port is taken, or the model cannot be loaded.
    """
    ended = asyncio.Event()
    try:
        opened(await server.start(port))
        with on_stop(ended.set):
            waiting = asyncio.ensure_future(ended.wait())
            loading = asyncio.ensure_future(server.loaded())
            await asyncio.wait({waiting, loading}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()  # an error ends the studio, where it is read
            await waiting
            loading.cancel()
    finally:
        await server.stop()
