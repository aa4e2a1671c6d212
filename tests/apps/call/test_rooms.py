"""The signalling server: who is let in, what is passed on, and what it bears."""

import asyncio
import json
import random
import secrets

import aiohttp
import pytest

from apps.call.ends import refused, run, until
from kinecast.apps.call.invitation import derive, new_secret
from kinecast.apps.call.rooms import REFUSED, Rooms, Server, ServerLimits
from kinecast.apps.call.signalling import RoomSignalling
from kinecast.errors import KinecastError


def claim(room: str | None = None, role: str = "host", token: str = "t" * 43, **more):
    return {"v": 1, "room": room or "ab" * 16, "role": role, "token": token, **more}


class Wire:
    """A WebSocket spoken by hand."""

    def __init__(self, session: aiohttp.ClientSession, server: Server, **headers: str) -> None:
        self._connecting = session.ws_connect(f"{server.address}/v1/room", headers=headers)

    async def __aenter__(self):
        self.socket = await self._connecting
        return self

    async def __aexit__(self, *_):
        await self.socket.close()

    async def say(self, message) -> None:
        await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))

    async def hear(self):
        """Return the next message, None when the server hung up."""
        message = await asyncio.wait_for(self.socket.receive(), 5)
        return json.loads(message.data) if message.type == aiohttp.WSMsgType.TEXT else None


async def meet(host: Wire, guest: Wire):
    """Take both places of a room; returns what each hears of it."""
    await host.say(claim())
    await host.hear()
    await guest.say(claim(role="guest"))
    return await guest.hear(), await host.hear()


def serving(test, **limits):
    """Run a test with a server and a client session."""

    async def work():
        # Tests come from one address: what it may be refused is not what they are about, unless they say so.
        bounds = ServerLimits(**{"refusals_per_minute": 1e6, **limits})
        async with Server(limits=bounds) as server, aiohttp.ClientSession() as session:
            return await test(server, lambda **headers: Wire(session, server, **headers))

    return run(work())


def test_two_members_hear_each_other_and_nobody_else():
    async def test(server, wire):
        async with wire() as host, wire() as guest, wire() as third:
            await host.say(claim())
            assert await host.hear() == {"present": False}
            await guest.say(claim(role="guest", token="g" * 43))
            assert await guest.hear() == {"present": True} and await host.hear() == {"present": True}
            await third.say(claim(role="guest", token="x" * 43))  # the invitation was used
            assert await third.hear() == {"refused": REFUSED} and await third.hear() is None
            await host.say({"sealed": "offer"})
            await guest.say({"sealed": "answer"})
            assert await guest.hear() == {"sealed": "offer"} and await host.hear() == {"sealed": "answer"}
        async with wire() as guest:  # the same guest comes back
            await guest.say(claim(role="guest", token="g" * 43))
            assert "present" in await guest.hear()

    serving(test)


@pytest.mark.parametrize(
    "first",
    [
        claim(room="cd" * 16, role="guest"),  # guessed
        claim(token="o" * 43),  # the host's place is taken
        claim(role="admin"),
        claim(room="AB" * 16),
        claim(room="ab" * 17),
        claim(token="short"),
        claim(token="t" * 65),
        claim(more=1),
        {**claim(), "v": 2},
        {**claim(), "room": ["ab"]},
        {},
        [],
        "no json",
        "1" * 600,
        "[" * 500,
    ],
    ids=str,
)
def test_who_has_no_place_is_told_the_same(first):
    async def test(server, wire):
        async with wire() as host, wire() as stranger:
            await host.say(claim())
            assert await host.hear() == {"present": False}
            await stranger.say(first)
            assert await stranger.hear() == {"refused": REFUSED} and await stranger.hear() is None
            async with wire() as guest:  # the room is unharmed
                await guest.say(claim(role="guest"))
                assert await guest.hear() == {"present": True} == await host.hear()

    serving(test)


def test_pages_of_other_sites_may_not_connect():
    async def test(server, wire):
        for origin in ("https://evil.example", "null", server.address):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with wire(Origin=origin):
                    pass
            assert caught.value.status == 403

    serving(test)


def test_guessing_is_slow():
    async def test(server, wire):
        for _ in range(5):
            async with wire() as stranger:
                await stranger.say(claim(room=secrets.token_hex(16), role="guest"))
                assert await stranger.hear() == {"refused": REFUSED}
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with wire():
                pass
        assert caught.value.status == 429

    serving(test, refusals_per_minute=5)


@pytest.mark.parametrize(
    "bad",
    [
        json.dumps({"sealed": "x" * 30_000}),
        json.dumps({"sealed": ""}),
        json.dumps({"sealed": 1}),
        json.dumps({"sealed": "x", "to": "all"}),
        json.dumps(["sealed"]),
        "no json",
        b"bytes",
    ],
    ids=lambda bad: repr(bad)[:24],
)
def test_a_member_that_breaks_the_protocol_goes_and_the_other_stays(bad):
    async def test(server, wire):
        async with wire() as host, wire() as guest:
            assert await meet(host, guest) == ({"present": True}, {"present": True})
            await (guest.socket.send_bytes(bad) if isinstance(bad, bytes) else guest.say(bad))
            assert await host.hear() == {"present": False}
            async with wire() as again:
                await again.say(claim(role="guest"))
                assert await again.hear() == {"present": True} == await host.hear()

    serving(test)


def test_too_many_messages_end_the_connection():
    async def test(server, wire):
        async with wire() as host, wire() as guest:
            await meet(host, guest)
            for _ in range(10):
                await guest.say({"sealed": "flood"})
            heard = [await host.hear() for _ in range(6)]
            assert heard == [{"sealed": "flood"}] * 5 + [{"present": False}]

    serving(test, messages_per_s=0.1, messages_at_once=5)


def test_numbers_are_bounded():
    async def test(server, wire):
        async with wire() as one, wire() as two, wire() as three:
            for socket, room in ((one, "11" * 16), (two, "22" * 16), (three, "33" * 16)):
                await socket.say(claim(room=room))
            assert await one.hear() == await two.hear() == {"present": False}
            assert await three.hear() == {"refused": REFUSED}
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with wire(), wire():
                    pass
            assert caught.value.status == 503

    serving(test, rooms=2, connections_per_address=4)


def test_silence_is_not_waited_for():
    async def test(server, wire):
        async with wire() as stranger:
            assert await stranger.hear() == {"refused": REFUSED}

    serving(test, claim_s=0.1)


def test_rooms_expire():
    now = [0.0]
    rooms = Rooms(ServerLimits(rooms_per_address=3), lambda: now[0])
    assert rooms.claim(claim(), "a") is not None
    now[0] = 59.0
    assert rooms.claim(claim(role="guest"), "a") is not None  # joined in time
    now[0] = 650.0
    assert rooms.claim(claim(role="guest"), "a") is not None  # and found again, ten minutes after it was left
    now[0] = 10_000.0
    assert rooms.claim(claim(role="guest"), "a") is None and len(rooms) == 0
    for number in range(5):
        made = rooms.claim(claim(room=f"{number:032x}"), "a") is not None
        assert made == (number < 3)  # one address cannot fill the server
    assert rooms.claim(claim(room="ff" * 16), "b") is not None
    now[0] += 61.0  # their hosts never came, or left
    rooms.expire()
    assert len(rooms) == 0


def test_generated_messages_harm_nobody():
    """Hundreds of bad first and later messages, while two members go on talking."""
    damage = random.Random(0)

    async def test(server, wire):
        async with wire() as host, wire() as guest:
            await meet(host, guest)
            for number in range(150):
                async with wire() as stranger:
                    text = json.dumps(damage.choice([claim(), {"sealed": "x"}, {"present": True}]))
                    for _ in range(damage.randint(1, 4)):
                        at = damage.randrange(len(text))
                        text = text[:at] + chr(damage.randrange(1, 0x300)) + text[at + damage.randint(0, 2) :]
                    if damage.random() < 0.3:
                        await stranger.socket.send_bytes(damage.randbytes(damage.randint(0, 2000)))
                    else:
                        await stranger.say(text)
                    answer = await stranger.hear()
                    assert answer in ({"refused": REFUSED}, {"present": False}, None)
                if number % 50 == 0:
                    await host.say({"sealed": str(number)})
                    assert await guest.hear() == {"sealed": str(number)}

    serving(test)


# --- the members' side ------------------------------------------------------------------------------------------------


class Member:
    def __init__(self, server: Server, secret: str, role: str, token: str | None = None) -> None:
        self.presence: list[bool] = []
        self.heard: list[dict] = []
        self.trouble: list[str | None] = []
        self.room = RoomSignalling(
            server.address, secret, role, token, self.presence.append, self.heard.append, self.trouble.append
        )


def test_members_come_back_after_a_restart_of_the_server():
    async def test(server, wire):
        secret, port = new_secret(), server._port
        host, guest = Member(server, secret, "host"), Member(server, secret, "guest")
        await host.room.open()
        await guest.room.open()
        await until(lambda: host.room.present and guest.room.present)
        await server.stop()
        await until(lambda: host.trouble[-1] is not None, what="trouble")
        again = Server(port=port)
        await again.start()
        try:
            await until(lambda: host.room.present and guest.room.present, 15, "both present again")
            guest.room.send({"type": "ready"})
            await until(lambda: host.heard == [{"type": "ready"}], what="heard")
            assert host.trouble[-1] is None
        finally:
            await host.room.close()
            await guest.room.close()
            await again.stop()

    serving(test)


def test_a_server_that_lies_cannot_put_words_into_a_members_mouth():
    async def test(server, wire):
        secret = new_secret()
        host = Member(server, secret, "host")
        await host.room.open()
        async with wire() as liar:  # stands for the server: it knows the room, not the key
            await liar.say(claim(room=derive(secret, "room", 16).hex(), role="guest"))
            await liar.hear()
            await liar.say({"sealed": host.room._seal.close({"type": "ready"})})  # the host's own words
            await liar.say({"sealed": "A" * 200})
            await until(lambda: host.room.present)
            await asyncio.sleep(0.1)
            assert host.heard == []
        await host.room.close()

    serving(test)


def test_a_server_that_is_not_there_is_said_in_a_line():
    async def work():
        server = Server()
        await server.start()
        member = Member(server, new_secret(), "host")
        await server.stop()
        assert "expected an answer" in await refused(member.room.open())

    run(work())


def test_a_taken_port_is_said_in_a_line():
    async def test(server, wire):
        with pytest.raises(KinecastError, match="choose another --port"):
            await Server(port=server._port).start()

    serving(test)


def test_a_place_is_kept_whatever_one_visit_raises(monkeypatch):
    """An error of a kind that was not thought of would take the task with it, and the way to meet again."""
    visits: list[int] = []

    async def visit(self, session, admitted) -> None:
        visits.append(len(visits))
        if not admitted.done():
            admitted.set_result(None)
            raise ValueError("odd\nanswer")
        await asyncio.Event().wait()

    monkeypatch.setattr(RoomSignalling, "_visit", visit)

    async def work() -> None:
        troubles: list[str | None] = []
        room = RoomSignalling("http://127.0.0.1:1", new_secret(), "host", None, print, print, troubles.append)
        await room.open()
        await until(lambda: len(visits) == 2, 5, "another visit")
        await room.close()
        assert troubles == ["the signalling server: odd answer; trying again"]

    run(work())
