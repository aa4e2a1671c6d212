"""The signalling server of `kinecast serve`: introduces the two members of a room and relays their encrypted messages.

It learns a room's name, derived from a secret it never sees, and two tokens chosen by the members, of which it keeps
the hashes. It can neither read nor change the messages. Everything is in memory and bounded; after a restart the
members create their rooms again.

One WebSocket at /v1/room. Its first message claims a place: `{"v": 1, "room": HEX, "role": "host" | "guest", "token":
TEXT}`. The first host of a name creates the room; the first guest takes its one place. Later guests with another token,
and guests of rooms that do not exist, are refused in the same words. Then `{"sealed": TEXT}` is relayed to the other
member, and `{"present": bool}` arrives whenever the other joins or leaves.
"""

import asyncio
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kinecast.apps.call.figures import Allowance
from kinecast.apps.call.invitation import MAX_SEALED
from kinecast.apps.call.peer import needs_live
from kinecast.errors import KinecastError

REFUSED = "this invitation is not known here, was used already, or has expired: ask for a new one"
_PLACES = ("host", "guest")
_CLOSE_S = 0.5  # grace period before a member counts as gone
_SEND_S = 5.0  # for a member to take a message
_HELP = "kinecast signalling server. To take part in a call, pass this address to: kinecast call 'ADDRESS'\n"


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of the server. Times in seconds."""

    rooms: int = 1000
    connections: int = 2500
    connections_per_address: int = 50
    rooms_per_address: int = 20  # waiting for a guest
    unjoined_s: float = 600.0  # until a room without a guest expires,
    deserted_s: float = 60.0  # or one that its host left
    empty_s: float = 600.0  # until a joined room that both left expires
    claim_s: float = 5.0  # for the first message
    message_bytes: int = MAX_SEALED + 256
    messages_per_s: float = 5.0
    messages_at_once: float = 30.0
    refusals_per_minute: float = 20.0  # refusals per address; more are rejected unread


@dataclass
class _Room:
    made: float
    address: str  # of its host
    tokens: dict[str, bytes] = field(default_factory=dict)  # sha256 by place
    members: dict[str, Any] = field(default_factory=dict)  # WebSocket by place
    left: float = 0.0  # when a member last joined or left


class Rooms:
    """All rooms of a server.

    Args:
        limits: its bounds.
        clock: monotonic seconds.
    """

    def __init__(self, limits: ServerLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits or ServerLimits(), clock
        self._rooms: dict[bytes, _Room] = {}
        self._connections: dict[str, int] = {}
        self._refusals: dict[str, Allowance] = {}
        self.refused = 0

    def __len__(self) -> int:
        return len(self._rooms)

    # --- claims -----------------------------------------------------------------------------------------------------

    def claim(self, values: Any, address: str) -> tuple[bytes, str] | None:
        """Return room and place for a first message, None if it is refused."""
        if not isinstance(values, dict) or set(values) != {"v", "room", "role", "token"} or values["v"] != 1:
            return None
        name, place, token = values["room"], values["role"], values["token"]
        if not (isinstance(name, str) and isinstance(token, str) and place in _PLACES):
            return None
        if len(name) != 32 or any(c not in "0123456789abcdef" for c in name) or not 32 <= len(token) <= 64:
            return None
        self.expire()
        key = hashlib.sha256(name.encode()).digest()
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        room = self._rooms.get(key)
        if room is None:
            if place != "host" or not self._room_for(address):
                return None
            room = self._rooms[key] = _Room(self._clock(), address)
        if not hmac.compare_digest(room.tokens.setdefault(place, digest), digest):
            return None
        room.left = self._clock()
        return key, place

    def _room_for(self, address: str) -> bool:
        theirs = sum(room.address == address and "guest" not in room.tokens for room in self._rooms.values())
        return len(self._rooms) < self.limits.rooms and theirs < self.limits.rooms_per_address

    def expire(self) -> None:
        """Remove rooms that nobody joined in time, or that both left long ago."""
        now, limits = self._clock(), self.limits
        for key, room in list(self._rooms.items()):
            joined = "guest" in room.tokens
            alone = now - max(room.left, room.made) if not room.members else 0.0
            if (not joined and now - room.made > limits.unjoined_s) or alone > (
                limits.empty_s if joined else limits.deserted_s
            ):
                for member in room.members.values():
                    asyncio.ensure_future(member.close(message=b"expired"))
                del self._rooms[key]

    # --- a connection -----------------------------------------------------------------------------------------------

    async def handle(self, request: Any) -> Any:
        """Serve one WebSocket."""
        from aiohttp import web

        address = request.remote or "?"
        if "Origin" in request.headers:  # a page of another site; kinecast's own clients send no Origin
            raise web.HTTPForbidden(text="pages may not connect\n")
        allowance = self._refusals.get(address)
        if allowance is not None and allowance.left() < 1:
            raise web.HTTPTooManyRequests(text="too many refused invitations: wait a minute\n")
        mine = self._connections.get(address, 0)
        if mine >= self.limits.connections_per_address or sum(self._connections.values()) >= self.limits.connections:
            raise web.HTTPServiceUnavailable(text="too many connections: try again later\n")
        self._connections[address] = mine + 1
        try:
            socket = web.WebSocketResponse(
                max_msg_size=self.limits.message_bytes, heartbeat=20, compress=False, timeout=_CLOSE_S
            )
            await socket.prepare(request)
            await self._serve(socket, address)
            return socket
        finally:
            self._connections[address] -= 1
            if not self._connections[address]:
                del self._connections[address]

    async def _serve(self, socket: Any, address: str) -> None:
        values = await self._first(socket)
        place = self.claim(values, address) if values is not None else None
        if place is None:
            await self._refuse(socket, address)
            return
        room, role = self._rooms[place[0]], place[1]
        other = _PLACES[1 - _PLACES.index(role)]
        before = room.members.get(role)
        room.members[role] = socket
        if before is not None:  # the same member again: its old connection is dead or about to be
            asyncio.ensure_future(before.close(message=b"you connected again"))
        try:
            await _send(socket, {"present": other in room.members})
            if other in room.members:
                await _send(room.members[other], {"present": True})
            await self._relay(socket, room, role, other)
        finally:
            if room.members.get(role) is socket:
                del room.members[role]
                room.left = self._clock()
                if other in room.members:
                    await _send(room.members[other], {"present": False})

    async def _first(self, socket: Any) -> Any:
        from aiohttp import WSMsgType

        with suppress(asyncio.TimeoutError, ValueError, RecursionError):
            message = await asyncio.wait_for(socket.receive(), self.limits.claim_s)
            if message.type == WSMsgType.TEXT and len(message.data) <= 512:
                return json.loads(message.data)
        return None

    async def _relay(self, socket: Any, room: _Room, role: str, other: str) -> None:
        from aiohttp import WSMsgType

        allowed = Allowance(self.limits.messages_per_s, self.limits.messages_at_once, self._clock)
        async for message in socket:
            sealed = _sealed(message.data) if message.type == WSMsgType.TEXT else None
            if sealed is None or not allowed.take():
                await _send(socket, {"refused": "that message is not of this protocol, or there were too many at once"})
                break
            if room.members.get(role) is not socket:
                break
            if other in room.members:
                await _send(room.members[other], {"sealed": sealed})
        with suppress(Exception):
            await asyncio.wait_for(socket.close(), _CLOSE_S)

    async def _refuse(self, socket: Any, address: str) -> None:
        """Refuse, in the same words for all, and count by address, in bounded memory."""
        self.refused += 1
        per_second = self.limits.refusals_per_minute / 60
        if address not in self._refusals and len(self._refusals) >= self.limits.connections:
            del self._refusals[next(iter(self._refusals))]
        allowance = self._refusals.setdefault(
            address, Allowance(per_second, self.limits.refusals_per_minute, self._clock)
        )
        allowance.take()
        await _send(socket, {"refused": REFUSED})
        with suppress(Exception):
            await asyncio.wait_for(socket.close(), _CLOSE_S)


async def _send(socket: Any, message: dict[str, Any]) -> None:
    """Send with a timeout: a member that does not read is disconnected."""
    try:
        await asyncio.wait_for(socket.send_str(json.dumps(message)), _SEND_S)
    except (TimeoutError, ConnectionError, RuntimeError):
        with suppress(Exception):
            await asyncio.wait_for(socket.close(), _CLOSE_S)


def _sealed(text: str) -> str | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or set(values) != {"sealed"}:
        return None
    sealed = values["sealed"]
    return sealed if isinstance(sealed, str) and 0 < len(sealed) <= MAX_SEALED else None


class Server:
    """A running signalling server; an async context manager."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: ServerLimits | None = None,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        needs_live()
        self.rooms = Rooms(limits)
        self._host, self._port, self._certificate = host, port, certificate
        self._runner: Any = None
        self.address = ""

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> str:
        """Listen; returns the address.

        Raises:
            KinecastError: the port is taken, or the certificate cannot be read.
        """
        from aiohttp import web

        context = _tls(self._certificate)
        application = web.Application(client_max_size=1024)
        application.router.add_get("/v1/room", self.rooms.handle)
        application.router.add_get("/", _help)
        # No access log: it would record who called whom. Stopping does not wait for members that hang.
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        try:
            site = web.TCPSite(self._runner, self._host, self._port, ssl_context=context)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise KinecastError(
                f"server: expected to listen on {self._host}:{self._port}, found {error.strerror or error}: "
                "choose another --port"
            ) from error
        self._port = self._runner.addresses[0][1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.address = f"{'https' if context else 'http'}://{host}:{self._port}"
        return self.address

    async def stop(self) -> None:
        """Stop listening and disconnect everybody."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


async def _help(request: Any) -> Any:
    from aiohttp import web

    return web.Response(text=_HELP, headers={"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"})


def _tls(certificate: tuple[str, str] | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(*certificate)
    except (OSError, ssl.SSLError) as error:
        raise KinecastError(
            f"TLS: expected a certificate and its key (PEM), found {error}: check the two files"
        ) from error
    return context
