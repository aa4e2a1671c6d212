"""The client of a room: claims its place, encrypts messages, and reconnects when the server or the network fails."""

import asyncio
import json
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from kinecast.apps.call.invitation import MAX_SEALED, Seal, derive
from kinecast.errors import KinecastError, one_line

_MAX_MESSAGE = MAX_SEALED + 256
_RETRY_S = (0.2, 4.0)  # shortest and longest wait before the next attempt
_REFUSED_S = 3.0  # at least, after a refusal: a server accepts few of them per minute
_CONNECT_S = 5.0


class RoomSignalling:
    """A place in a room of a signalling server. Callbacks are called on the event loop.

    Args:
        server: its address, http(s)://HOST:PORT.
        secret: of the room.
        role: host or guest.
        token: identifies this member when it reconnects; a new one if None.
        on_present: called with whether the other member is present, at each change.
        on_message: called with its messages.
        on_trouble: called with a line when the server becomes unreachable, with None when it is reachable again.
        patient: keep trying when refused: the other member may have to create the room again.
    """

    def __init__(
        self,
        server: str,
        secret: str,
        role: str,
        token: str | None,
        on_present: Callable[[bool], None],
        on_message: Callable[[dict[str, Any]], None],
        on_trouble: Callable[[str | None], None],
        patient: bool = False,
    ) -> None:
        self.server, self.secret, self.role = server, secret, role
        self.token = token or secrets.token_urlsafe(32)
        self._seal = Seal(secret, role)
        self._on_present, self._on_message, self._on_trouble = on_present, on_message, on_trouble
        self._patient = patient
        self._socket: Any = None
        self._task: asyncio.Task[None] | None = None
        self.present = False

    async def open(self) -> None:
        """Take the place.

        Raises:
            KinecastError: the server cannot be reached, or refuses.
        """
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run(admitted))
        try:
            await admitted
        except BaseException:
            await self.close()
            raise

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the other member; lost if it is absent."""
        if self._socket is not None and not self._socket.closed:
            asyncio.ensure_future(self._send(self._socket, message))

    async def _send(self, socket: Any, message: dict[str, Any]) -> None:
        with suppress(ConnectionError, RuntimeError, asyncio.TimeoutError):
            await asyncio.wait_for(socket.send_str(json.dumps({"sealed": self._seal.close(message)})), _CONNECT_S)

    async def close(self) -> None:
        """Leave the room."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
            self._task = None

    async def _run(self, admitted: "asyncio.Future[None]") -> None:
        """Keep the place: reconnect, at growing intervals, until closed or refused."""
        import aiohttp

        wait = _RETRY_S[0]
        async with aiohttp.ClientSession() as session:
            while True:
                try:
                    await self._visit(session, admitted)
                    wait = _RETRY_S[0]
                except Exception as error:  # any error: without this task the place is lost for good
                    refused = isinstance(error, KinecastError)
                    if not (admitted.done() or (refused and self._patient)):
                        line = str(error) if refused else f"server {self.server}: expected an answer, found "
                        admitted.set_exception(KinecastError(line if refused else line + _said(error)))
                        return
                    # A restarted server refuses a guest until its host has created the room again.
                    wait = max(wait, _REFUSED_S) if refused else wait
                    self._on_trouble(f"the signalling server: {_said(error)}; trying again")
                finally:
                    self._socket = None
                    self._now_present(False)
                await asyncio.sleep(wait * (0.75 + secrets.randbelow(500) / 1000))
                wait = min(2 * wait, _RETRY_S[1])

    async def _visit(self, session: Any, admitted: "asyncio.Future[None]") -> None:
        """Connect once and stay until disconnected."""
        from aiohttp import WSMsgType

        connecting = session.ws_connect(f"{self.server}/v1/room", max_msg_size=_MAX_MESSAGE, heartbeat=10)
        try:
            socket = await asyncio.wait_for(connecting, _CONNECT_S)
        except Exception as error:
            status = getattr(error, "status", None)
            if status is not None and 400 <= status < 500:
                raise KinecastError(f"server {self.server}: expected a room server, found HTTP {status}") from error
            raise
        async with socket:
            room = derive(self.secret, "room", 16).hex()
            await socket.send_str(json.dumps({"v": 1, "room": room, "role": self.role, "token": self.token}))
            async for message in socket:
                if message.type != WSMsgType.TEXT:
                    break
                self._take(message.data)
                if not admitted.done():
                    admitted.set_result(None)
                if self._socket is None:
                    self._socket = socket
                    self._on_trouble(None)
                    self._announce()

    def _announce(self) -> None:
        if self.present:
            self._on_present(True)

    def _take(self, text: str) -> None:
        """Take a message of the server. Messages outside the protocol are dropped.

        Raises:
            KinecastError: it refuses.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(values, dict):
            return
        if isinstance(values.get("refused"), str):
            line = "".join(c for c in values["refused"][:200] if c.isprintable())
            raise KinecastError(f"server {self.server}: {line}")
        if isinstance(values.get("present"), bool):
            self._now_present(values["present"], announce=self._socket is not None)
        elif isinstance(values.get("sealed"), str):
            with suppress(KinecastError):
                self._on_message(self._seal.open(values["sealed"]))

    def _now_present(self, present: bool, announce: bool = True) -> None:
        # A returning member is reported even if it was never missed: it may be another process.
        changed = present or self.present
        self.present = present
        if changed and announce:
            self._on_present(present)


def _said(error: BaseException) -> str:
    system = getattr(error, "os_error", error)  # aiohttp's own text is too detailed
    if isinstance(system, OSError) and system.strerror:
        return system.strerror.partition("[")[0].strip() or type(error).__name__
    return one_line(error, 120)
