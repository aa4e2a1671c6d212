"""How two ends connect and reconnect: through a room, or by texts passed by hand.

The host always calls. In a room the guest requests a call with a nonce (`ready`), the host replies with an offer that
repeats it, and the guest with an answer that repeats the offer's, so that none can be replayed. Once the first call is
connected, the host creates another room, whose secret travels in the call itself: only these two can reconnect there.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from kinecast.apps.call import memberships
from kinecast.apps.call.config import CallConfig
from kinecast.apps.call.faults import reason_of
from kinecast.apps.call.invitation import HandText, Invitation, check_secret, check_server, new_secret
from kinecast.apps.call.messages import Resume, write_control
from kinecast.apps.call.peer import MAX_SDP, Peer
from kinecast.apps.call.signalling import RoomSignalling
from kinecast.errors import KinecastError

_ATTEMPT_S = 15.0  # for a connection to be established
_RING_S = 0.4  # for a guest to request a call


class Meeting:
    """Makes connections. Callbacks are called on the event loop.

    Args:
        config: ICE servers.
        make_peer: creates a connection; its argument is whether this end calls.
        alive: whether a connection is up, with recent messages from the other side.
        on_connecting: called when a connection attempt starts.
        on_line: called with a kind ("notice" or "error") and a line for a person.
    """

    def __init__(
        self,
        config: CallConfig,
        make_peer: Callable[[bool], Peer],
        alive: Callable[[], bool],
        on_connecting: Callable[[], None],
        on_line: Callable[[str, str], None],
    ) -> None:
        self._config, self._make_peer, self._alive = config, make_peer, alive
        self._on_connecting, self._on_line = on_connecting, on_line
        self._room: RoomSignalling | None = None
        self._resume: RoomSignalling | None = None  # where both reconnect
        self._invitation: Invitation | None = None
        self._role = "host"
        self._attempt: Peer | None = None
        self._attempt_id = self._nonce = ""
        self._hand: HandText | None = None
        self._answered: set[str] = set()  # keys of offers by hand
        self._tasks: set[asyncio.Task[None]] = set()
        self._trouble: str | None = None
        self._asked = 0.0

    @property
    def has_room(self) -> bool:
        """Whether both ends can reconnect without the user's help."""
        return self._room is not None or self._resume is not None

    @property
    def other_present(self) -> bool:
        """Whether the other end is in the room."""
        return any(room is not None and room.present for room in (self._resume, self._room))

    # --- rooms ------------------------------------------------------------------------------------------------------

    async def host(self, server: str) -> str:
        """Create a room; returns the invitation to it."""
        self._invitation, self._role = Invitation(check_server(server), new_secret()), "host"
        self._room = self._enter(self._invitation.server, self._invitation.secret, None)
        await self._open("_room")
        return str(self._invitation)

    async def join(self, text: str) -> None:
        """Take the place of an invitation, or this machine's previous place in its interrupted call."""
        self._invitation = Invitation.parse(text)
        kept = memberships.load(self._invitation.secret)
        if kept is not None:
            self._role = kept.role
            self._resume = self._enter(kept.server, kept.secret, kept.token, patient=True)
            memberships.save(self._invitation.secret, kept.role, kept.server, kept.secret, kept.token)
            await self._open("_resume")
            return
        self._role = "guest"
        self._room = self._enter(self._invitation.server, self._invitation.secret, None)
        await self._open("_room")

    async def _open(self, which: str) -> None:
        try:
            await getattr(self, which).open()
        except BaseException:
            setattr(self, which, None)
            raise

    def _enter(self, server: str, secret: str, token: str | None, patient: bool = False) -> RoomSignalling:
        return RoomSignalling(
            server, secret, self._role, token, self._present, self._said, self._troubled, patient=patient
        )

    def connected(self, peer: Peer) -> None:
        """Handle an established connection; the host creates the reconnection room."""
        if self._attempt is peer:
            self._attempt = None
        if self._role == "host" and self._room is not None and self._invitation is not None:
            self._later(self._move(peer, self._invitation))

    async def _move(self, peer: Peer, invitation: Invitation) -> None:
        """Create the reconnection room, send its secret to the guest, and leave the first one, which was used."""
        secret = new_secret()
        room = self._enter(invitation.server, secret, None)
        try:
            await room.open()
        except KinecastError:
            return  # the server is down: retried at the next connection
        self._resume, used = room, self._room
        peer.send("picture", write_control(Resume(secret)))
        memberships.save(invitation.secret, "host", room.server, secret, room.token)
        self._room = None
        if used is not None:
            await used.close()

    def resume(self, secret: str) -> None:
        """Take the secret of the reconnection room.

        Raises:
            KinecastError: this end is the host, or the secret is invalid.
        """
        if self._role != "guest" or self._invitation is None:
            raise KinecastError("resume: expected it from the host of a room, found it from another")
        check_secret(secret)
        self._later(self._follow(secret, self._invitation))

    async def _follow(self, secret: str, invitation: Invitation) -> None:
        before = [room for room in (self._room, self._resume) if room is not None]
        self._resume, self._room = self._enter(invitation.server, secret, None, patient=True), None
        memberships.save(invitation.secret, "guest", invitation.server, secret, self._resume.token)
        for room in before:
            await room.close()
        try:
            await self._resume.open()
        except KinecastError as error:
            self._troubled(str(error))

    def again(self) -> None:
        """Request a new connection, at most once in two seconds."""
        if time.monotonic() - self._asked > 2 and self.other_present:
            self._asked = time.monotonic()
            self._ask()

    def _ask(self) -> None:
        if self._role == "host":
            self._send({"type": "ring"})
        else:
            self._nonce = secrets.token_urlsafe(12)
            self._send({"type": "ready", "nonce": self._nonce})

    def _send(self, message: dict[str, Any]) -> None:
        room = self._resume if self._resume is not None and self._resume.present else self._room or self._resume
        if room is not None:
            room.send(message)

    def _present(self, present: bool) -> None:
        if present and not self._alive():
            self._on_connecting()
            if self._role == "guest":
                self._ask()
            else:
                self._later(self._ring())

    async def _ring(self) -> None:
        await asyncio.sleep(_RING_S)
        if self._attempt is None and not self._alive():
            self._ask()

    def _troubled(self, line: str | None) -> None:
        if line is not None and self._trouble is None:
            self._on_line("notice", line)
        elif line is None and self._trouble is not None:
            self._on_line("notice", "the signalling server is reachable again")
        self._trouble = line

    def _said(self, message: dict[str, Any]) -> None:
        """Take the other member's message. It is authentic, but may be invalid."""
        kind = message.get("type")
        texts = {key: message.get(key) for key in ("nonce", "attempt", "sdp")}
        if not all(value is None or (isinstance(value, str) and len(value) <= MAX_SDP) for value in texts.values()):
            return
        nonce, attempt, sdp = texts["nonce"], texts["attempt"], texts["sdp"]
        if self._role == "host" and kind == "ready" and nonce and len(nonce) <= 32:
            self._later(self._call(nonce))
        elif self._role == "host" and kind == "answer" and sdp and attempt and attempt == self._attempt_id:
            self._attempt_id = ""  # an answer is accepted once
            if self._attempt is not None:
                self._later(self._finish(self._attempt, sdp))
        elif self._role == "guest" and kind == "ring":
            self._ask()
        elif self._role == "guest" and kind == "offer" and sdp and attempt and nonce and nonce == self._nonce:
            self._nonce = ""
            self._later(self._answer(sdp, attempt[:32]))

    async def _call(self, nonce: str) -> None:
        peer = await self._begin(caller=True)
        self._attempt_id = attempt = secrets.token_urlsafe(12)
        sdp = await peer.offer()
        self._send({"type": "offer", "nonce": nonce, "attempt": attempt, "sdp": sdp})

    async def _answer(self, offer: str, attempt: str) -> None:
        peer = await self._begin(caller=False)
        self._send({"type": "answer", "attempt": attempt, "sdp": await peer.answer(offer)})

    async def _finish(self, peer: Peer, answer: str) -> None:
        await peer.accept(answer)

    # --- by hand ----------------------------------------------------------------------------------------------------

    async def make_offer(self) -> str:
        """Return an offer as a text to hand over."""
        self._role = "host"
        peer = await self._begin(caller=True, by_hand=True)
        self._hand = HandText("offer", await peer.offer(), new_secret(), time.time())
        return str(self._hand)

    async def accept_offer(self, text: str) -> str:
        """Return the answer to an offer."""
        self._role = "guest"
        offer = HandText.parse(text, "offer")
        if offer.key in self._answered:
            raise KinecastError("offer: expected a new one, found one that was answered already: ask for another")
        peer = await self._begin(caller=False, by_hand=True)
        answer = HandText("answer", await peer.answer(offer.sdp), offer.key, time.time())
        self._answered.add(offer.key)
        return str(answer)

    async def accept_answer(self, text: str) -> None:
        """Take the answer to the last offer."""
        answer = HandText.parse(text, "answer")
        if self._hand is None or self._attempt is None or not secrets.compare_digest(answer.key, self._hand.key):
            raise KinecastError("answer: expected one to the last offer, found another: hand over that offer again")
        self._hand = None
        await self._attempt.accept(answer.sdp)

    # --- attempts ---------------------------------------------------------------------------------------------------

    async def _begin(self, caller: bool, by_hand: bool = False) -> Peer:
        """Start a connection attempt; a pending one is abandoned."""
        await self.drop_attempt()
        self._on_connecting()
        peer = self._attempt = self._make_peer(caller)
        if not by_hand:  # people need time
            asyncio.get_running_loop().call_later(_ATTEMPT_S, lambda: self._later(self._expire(peer)))
        return peer

    async def _expire(self, peer: Peer) -> None:
        if self._attempt is peer:
            await self.drop_attempt()
            if not self._alive():
                self._on_line("notice", f"no connection within {_ATTEMPT_S:.0f} s; trying again")
                self.again()

    async def drop_attempt(self) -> None:
        """Abandon the pending connection."""
        peer, self._attempt, self._attempt_id = self._attempt, None, ""
        if peer is not None:
            await peer.close()

    async def close(self, over: bool) -> None:
        """Leave all rooms; `over`: the call was ended explicitly, and nobody will reconnect."""
        for task in list(self._tasks):
            task.cancel()
        await self.drop_attempt()
        for room in (self._room, self._resume):
            if room is not None:
                await room.close()
        self._room = self._resume = None
        if self._invitation is not None:
            leave = memberships.forget if over else memberships.release
            leave(self._invitation.secret, self._role)

    def _later(self, work: Any) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:  # a full disk, or an error of aiortc: it must not vanish with the task
                self._on_line("error", reason_of(error))

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
