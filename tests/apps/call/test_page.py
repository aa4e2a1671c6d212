"""The local page's server: who is let in, what is bounded, and that a call goes the way the page asks."""

import asyncio
import json
import logging
import random
import struct

import aiohttp
import numpy as np
import pytest

from apps.call.fake_session import INVITATION, FakeSession
from apps.call.page_server import event, picture, run, serve
from kinecast.apps.call import page as page_module
from kinecast.apps.call.config import CallConfig, ShownFrame
from kinecast.apps.call.page import MAX_MISTAKES, MAX_STRANGERS, PageServer
from kinecast.apps.call.page_call import Choices
from kinecast.apps.call.page_wire import MAX_BINARY, WINDOW
from kinecast.errors import KinecastError

PATHS = (
    "/",
    "/call.js",
    "/call.css",
    "/page.css",
    "/token.js",
    "/camera.js",
    "/figures.js",
    "/link.js",
    "/sound.js",
    "/icon.svg",
)


def camera_message(number=1, side=256, value=90):
    pixels = np.full((side, side, 4), value, np.uint8)
    return struct.pack("<BIdHH", 1, number, 1_790_000_000_000.0, side, side) + pixels.tobytes()


def shown(number=1, value=0):
    return ShownFrame(np.full((128, 128, 3), value, np.uint8), number, None, "received")


# --- who is let in ----------------------------------------------------------------------------------------------------


def test_the_page_is_served_with_strict_headers_and_says_nothing_of_the_call():
    async def test():
        async with serve(Choices("https://rooms.example.org", INVITATION)) as client:
            for path in PATHS:
                async with client.http.get(client.base + path) as answer:
                    body = await answer.text()
                    assert answer.status == 200, path
                    assert client.server.token not in body and INVITATION not in body
                    policy = answer.headers["Content-Security-Policy"]
                    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
                    assert "unsafe" not in policy and "*" not in policy and "data:" not in policy
                    assert answer.headers["Referrer-Policy"] == "no-referrer"
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    assert answer.headers["Cache-Control"] == "no-store"
                    assert answer.headers["Server"] == "kinecast"

    run(test())


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1", "127.0.0.1.evil.example", "[::1]", ""])
def test_a_name_rebound_to_this_machine_is_refused(host):
    async def test():
        async with serve() as client:
            for path in (*PATHS, "/clip", "/socket", "/nothing"):
                for value in (host, f"{host}:{client.server.port}" if host != "127.0.0.1" else host):
                    headers = {"Host": value, "X-Kinecast-Token": client.server.token}
                    async with client.http.get(client.base + path, headers=headers) as answer:
                        assert answer.status in (400, 421), (path, value)
                        assert client.server.token not in await answer.text()

    run(test())


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_another_origin_is_refused(headers):
    async def test():
        async with serve() as client:
            for path in (*PATHS, "/clip", "/socket"):
                own = {"Origin": client.base, "X-Kinecast-Token": client.server.token, **headers}
                async with client.http.get(client.base + path, headers=own) as answer:
                    assert answer.status == 403, path
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await client.socket(**headers)
            assert caught.value.status == 403
            assert client.server.call._link is None

    run(test())


def test_a_socket_without_origin_is_refused():
    async def test():
        async with serve() as client:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await client.http.ws_connect(f"{client.base}/socket")
            assert caught.value.status == 403

    run(test())


@pytest.mark.parametrize(
    "first",
    [
        '{"type": "hello", "token": ""}',
        '{"type": "hello", "token": "guessed"}',
        '{"type": "hello", "token": "\\ud800"}',
        '{"type": "host", "server": "http://x"}',
        '{"type": "hello"}',
        "hello",
        b"hello",
        camera_message(),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_socket_without_the_token_gets_nothing(first):
    async def test():
        async with serve() as client:
            socket = await client.socket()
            await (socket.send_str if isinstance(first, str) else socket.send_bytes)(first)
            message = await socket.receive(timeout=5)
            assert message.type == aiohttp.WSMsgType.CLOSE and message.data == 1008
            assert client.server.call._link is None and client.session.calls == [("muted", False, False)]

    run(test())


def test_a_silent_socket_is_closed_and_few_of_them_are_kept(monkeypatch):
    monkeypatch.setattr(page_module, "HELLO_SECONDS", 3.0)  # opening nine must take less, however busy the machine

    async def test():
        async with serve() as client:
            silent = [await client.socket() for _ in range(MAX_STRANGERS)]
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await client.socket()
            assert caught.value.status == 503
            for socket in silent:
                assert (await socket.receive(timeout=10)).type == aiohttp.WSMsgType.CLOSE
            await client.page()

    run(test())


def test_the_clip_needs_the_token(clip):
    async def test():
        async with serve(Choices(clip=clip.name), clip) as client:
            for token in ("", "guessed", client.server.token[:-1]):
                async with client.http.get(f"{client.base}/clip", headers={"X-Kinecast-Token": token}) as answer:
                    assert answer.status == 401 and len(await answer.read()) < 200
            async with client.http.get(f"{client.base}/clip?token={client.server.token}") as answer:
                assert answer.status == 401
            headers = {"X-Kinecast-Token": client.server.token}
            async with client.http.get(f"{client.base}/clip", headers=headers) as answer:
                assert answer.status == 200 and await answer.read() == clip.read_bytes()
        async with serve() as client:
            headers = {"X-Kinecast-Token": client.server.token}
            async with client.http.get(f"{client.base}/clip", headers=headers) as answer:
                assert answer.status == 404

    run(test())


@pytest.mark.parametrize(
    "path",
    [
        "/../page.py",
        "/static/call.js",
        "/%2e%2e/page.py",
        "/call.js/../../page.py",
        "/..%2f..%2fpage.py",
        "//etc/passwd",
    ],
)
def test_nothing_but_the_page_is_served(path):
    async def test():
        async with serve() as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.server.port}\r\n\r\n".encode())
            status = await reader.readline()
            assert status.split()[1] in (b"404", b"400"), status
            writer.close()

    run(test())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_and_bodies_are_refused(method):
    async def test():
        async with serve() as client:
            for data in (None, b"x" * 100_000):
                async with client.http.request(method, f"{client.base}/call.js", data=data) as answer:
                    assert answer.status in (405, 413)

    run(test())


def test_the_token_is_in_no_log(caplog):
    async def test():
        async with serve() as client:
            async with client.http.get(f"{client.base}/clip", headers={"X-Kinecast-Token": client.server.token}):
                pass
            socket = await client.page()
            await socket.send_json({"type": "hello", "token": client.server.token})
            assert client.server.token not in (await event(socket, "error"))["line"]
            assert client.server.token not in caplog.text and caplog.records

    with caplog.at_level(logging.DEBUG):
        run(test())


def test_a_port_that_is_taken_is_said():
    async def test():
        async with serve() as client:
            with pytest.raises(KinecastError, match="expected a free port.*choose another --port"):
                await PageServer(CallConfig(), make_session=FakeSession).start(client.server.port)
            with pytest.raises(KinecastError, match="expected a free port"):
                await PageServer(CallConfig(), make_session=FakeSession).start(70_000)

    run(test())


# --- what is bounded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["x" * (MAX_BINARY + 1), b"\x01" * (MAX_BINARY + 1)], ids=["text", "binary"])
def test_an_oversized_message_closes_the_socket(message):
    async def test():
        async with serve() as client:
            socket = await client.page()
            await (socket.send_str if isinstance(message, str) else socket.send_bytes)(message)
            with pytest.raises(AssertionError, match="closed"):
                await event(socket, "never")
            assert socket.close_code == 1009
            await client.page()  # another is let in

    run(test())


def test_a_page_that_makes_mistakes_is_told_and_then_closed():
    async def test():
        async with serve() as client:
            socket = await client.page()
            for _ in range(MAX_MISTAKES):
                await socket.send_str("{}")
                assert "expected a known type" in (await event(socket, "error"))["line"]
            await socket.send_str("{}")
            with pytest.raises(AssertionError, match="closed"):
                await event(socket, "never")
            assert socket.close_code == 1008

    run(test())


def test_thousands_of_generated_messages_leave_the_call_as_it_is():
    """Bytes and texts at random, over as many sockets as it takes: the call of the real page goes on."""
    draw = random.Random(1)
    sent = 0

    async def test():
        nonlocal sent
        async with serve() as client:
            await (await client.page()).close()
            client.session.go("connected")
            while sent < 3000:
                socket = await client.page()
                for _ in range(60):
                    if draw.random() < 0.5:
                        await socket.send_bytes(draw.choice([b"", b"\x01", b"\x02\xff", b"\x03"]) + draw.randbytes(30))
                    else:
                        await socket.send_str(json.dumps({"type": draw.choice(["x", "host"]), "a": draw.random()}))
                    sent += 1
                await socket.close()
            assert client.session.state == "connected" and len(FakeSession.made) == 1
            assert client.session.calls[1:] == [] and client.session.frames == []
            socket = await client.page()
            await socket.send_bytes(camera_message())
            assert len(await picture(socket)) == 18 + 128 * 128 * 4

    run(test())


def test_commands_are_bounded_in_rate():
    async def test():
        async with serve() as client:
            socket = await client.page()
            for _ in range(41):
                await socket.send_json({"type": "mute", "video": False, "audio": False})
            assert "at most 10 commands a second" in (await event(socket, "error"))["line"]
            assert len(client.session.calls) == 41  # one when the session was opened

    run(test())


def test_camera_frames_beyond_the_rate_are_dropped(monkeypatch):
    monkeypatch.setattr(page_module, "_PICTURES", (1.0, 10))

    async def test():
        async with serve() as client:
            socket = await client.page()
            for number in range(40):
                await socket.send_bytes(camera_message(number, 16))
            await socket.send_json({"type": "host", "server": "http://x"})
            await event(socket, "hand-over")
            assert [frame.number for frame in client.session.frames] == list(range(10))

    run(test())


def test_a_stalled_page_gets_the_newest_picture_and_no_backlog():
    async def test():
        async with serve() as client:
            socket = await client.page()
            client.session.go("connected")
            await event(socket, "state")
            for number in range(500):
                client.session.on_frame(shown(number))
                await asyncio.sleep(0)
            got = [struct.unpack_from("<BI", await picture(socket))[1] for _ in range(WINDOW)]
            with pytest.raises(TimeoutError):
                await picture(socket, 0.2)
            await socket.send_bytes(struct.pack("<BI", 3, 1_000_000))  # a lie: no more than were sent are counted
            got.append(struct.unpack_from("<BI", await picture(socket))[1])
            assert got[-1] == 499 and got == sorted(got)
            client.session.on_frame(shown(500))
            client.session.on_frame(shown(501))
            assert struct.unpack_from("<BI", await picture(socket))[1] == 501
            client.session.on_frame(shown(502))
            with pytest.raises(TimeoutError):
                await picture(socket, 0.2)

    run(test())


def test_events_for_a_page_that_does_not_read_do_not_pile_up():
    async def test():
        async with serve() as client:
            await client.page()
            link = client.server.call._link
            assert link is not None
            for number in range(10_000):
                client.session.on_event("notice", f"line {number}")
            assert len(link._events) == 64 and link._events[-1]["line"] == "line 9999"

    run(test())


# --- two pages --------------------------------------------------------------------------------------------------------


def test_the_newest_page_takes_over_and_the_older_one_is_told():
    async def test():
        async with serve() as client:
            first = await client.page()
            await first.send_json({"type": "host", "server": "http://rooms"})
            await event(first, "hand-over")
            second = await client.socket()
            await second.send_json({"type": "hello", "token": client.server.token})
            welcome = await event(second, "welcome")
            assert welcome["state"] == "waiting" and welcome["hand_over"]["text"] == INVITATION
            await event(first, "replaced")
            await first.send_json({"type": "hang-up"})
            assert "expected the page in charge" in (await event(first, "error"))["line"]
            await first.send_bytes(camera_message(5))
            client.session.go("connected")
            assert (await event(second, "state"))["state"] == "connected"
            assert client.session.state == "connected" and client.session.frames == []
            await first.close()
            await second.send_bytes(camera_message(6))
            await picture(second)
            assert [frame.number for frame in client.session.frames] == [6]

    run(test())


# --- a call -----------------------------------------------------------------------------------------------------------


def test_a_call_goes_from_invitation_to_hanging_up_and_the_next_can_begin():
    async def test():
        async with serve(fps=20.0) as client:
            socket = await client.page()
            session = client.session
            await socket.send_json({"type": "host", "server": "https://rooms.example.org"})
            assert (await event(socket, "state"))["state"] == "waiting"
            assert await event(socket, "hand-over") == {"type": "hand-over", "kind": "invitation", "text": INVITATION}
            session.go("connecting")
            session.go("connected")
            await event(socket, "stats")
            await socket.send_bytes(camera_message(3, value=77))
            data = await picture(socket)
            assert struct.unpack_from("<BIdBHH", data) == (4, 3, 1_790_000_000_000.0, 0, 128, 128)
            assert data[18:22] == bytes((77, 77, 77, 255))
            stats = await event(socket, "stats")
            assert stats["kbps_received"]["total"] > 0 and stats["plain_video_kbps"] == 500
            await socket.send_json({"type": "hang-up"})
            assert (await event(socket, "state"))["state"] == "ended"
            assert (await event(socket, "state"))["state"] == "ready"
            assert session.state == "closed" and client.session is not session
            session.go("connected")  # a session that was given up is no longer heard
            await socket.send_json({"type": "join", "invitation": INVITATION})
            assert (await event(socket, "state"))["state"] == "connecting"

    run(test())


def test_the_other_side_hangs_up():
    async def test():
        async with serve() as client:
            socket = await client.page()
            client.session.go("connected")
            client.session.on_event("notice", "the other side hung up")
            client.session.go("ended")
            assert (await event(socket, "notice"))["line"] == "the other side hung up"
            assert [(await event(socket, "state"))["state"] for _ in range(2)] == ["ended", "ready"]

    run(test())


def test_by_hand():
    async def test():
        async with serve() as client:
            socket = await client.page()
            await socket.send_json({"type": "make-offer"})
            assert (await event(socket, "hand-over"))["text"] == "kinecast1:offer"
            await socket.send_json({"type": "accept-answer", "text": "kinecast1:off"})
            assert "copy all of it" in (await event(socket, "error"))["line"]
            await socket.send_json({"type": "accept-answer", "text": "kinecast1:answer"})  # the offer still stands
            assert (await event(socket, "state"))["state"] == "connected"
        async with serve() as client:
            socket = await client.page()
            await socket.send_json({"type": "accept-offer", "text": "kinecast1:offer"})
            assert (await event(socket, "hand-over"))["kind"] == "answer"

    run(test())


def test_what_cannot_be_done_is_one_line_and_the_next_attempt_works():
    async def test():
        async with serve() as client:
            socket = await client.page()
            await socket.send_json({"type": "join", "invitation": "used"})
            assert "found one that was used" in (await event(socket, "error"))["line"]
            assert (await event(socket, "state"))["state"] == "ready"
            await socket.send_json({"type": "join", "invitation": INVITATION})
            assert (await event(socket, "state"))["state"] == "connecting"
            await socket.send_json({"type": "host", "server": "http://x"})
            assert "hang up, or wait" in (await event(socket, "error"))["line"]

    run(test())


def test_a_fault_inside_is_said_and_logged(monkeypatch, caplog):
    async def broken(self, server):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(FakeSession, "host_room", broken)

    async def test():
        async with serve() as client:
            socket = await client.page()
            await socket.send_json({"type": "host", "server": "http://x"})
            line = (await event(socket, "error"))["line"]
            assert line == "internal error (ZeroDivisionError): see its terminal"

    run(test())
    assert "secret detail" in caplog.text


def test_a_model_that_does_not_load_is_said(monkeypatch):
    async def missing(self):
        await asyncio.sleep(0.1)
        raise KinecastError("model: expected a file, found nothing there: check the path")

    monkeypatch.setattr(FakeSession, "open", missing)

    async def test():
        async with serve() as client:
            socket = await client.socket()
            await socket.send_json({"type": "hello", "token": client.server.token})
            assert (await event(socket, "state"))["state"] == "failed"
            assert "check the path" in (await event(socket, "error"))["line"]
            await socket.send_json({"type": "host", "server": "http://x"})
            assert "found it failed" in (await event(socket, "error"))["line"]

    run(test())


def test_muting_and_the_avatar_reach_the_session_and_outlive_a_call():
    async def test():
        async with serve() as client:
            socket = await client.page()
            first = client.session
            assert first.avatar is None
            await socket.send_json({"type": "mute", "video": True, "audio": True})
            await socket.send_bytes(camera_message())  # muted: not taken
            await socket.send_bytes(b"\x02" + camera_message(value=9)[1:])
            await socket.send_json({"type": "join", "invitation": INVITATION})
            assert (await event(socket, "state"))["state"] == "connecting"
            await socket.send_json({"type": "hang-up"})
            assert [(await event(socket, "state"))["state"] for _ in range(2)] == ["ended", "ready"]
            assert first.frames == [] and ("muted", True, True) in first.calls
            assert client.session.calls[0] == ("muted", True, True)
            assert client.session.avatar.shape == (256, 256, 3) and (client.session.avatar == 9).all()
            await socket.send_json({"type": "avatar-off"})
            await socket.send_json({"type": "mute", "video": False, "audio": False})
            await socket.send_bytes(camera_message(8))
            await socket.send_json({"type": "hang-up"})  # there is no call: nothing happens
            await socket.send_json({"type": "host", "server": "http://x"})
            await event(socket, "hand-over")
            assert client.session.avatar is None and [frame.number for frame in client.session.frames] == [8]

    run(test())


def test_the_avatar_of_the_command_line_is_left_in_place(tmp_path):
    async def test():
        async with serve(avatar=tmp_path / "avatar.png") as client:
            socket = await client.socket()
            await socket.send_json({"type": "hello", "token": client.server.token})
            assert (await event(socket, "welcome"))["avatar"] is True
            await asyncio.sleep(0.05)
            assert client.session.avatar == "unset"

    run(test())


def test_each_call_has_its_own_recording_and_all_share_the_models(tmp_path):
    async def test():
        async with serve(record=tmp_path / "seen.mp4") as client:
            socket = await client.page()
            names = []
            for seconds in (0.0, 8.0, 5.0, 2.0):  # the first never came about
                client.session.figures = {"seconds": seconds}
                await socket.send_json({"type": "join", "invitation": INVITATION})
                await event(socket, "state")
                names.append(str(client.session.config.record))
                await socket.send_json({"type": "hang-up"})
                await event(socket, "state")
                await event(socket, "state")
            expected = ("seen.mp4", "seen.mp4", "seen-2.mp4", "seen-3.mp4")
            assert names == [str(tmp_path / name) for name in expected]
            assert {session.models.name for session in FakeSession.made} == {"models of mesh"}

    run(test())


def test_what_a_session_says_while_it_closes_is_passed_on_and_its_states_are_not(monkeypatch):
    async def close(self):
        self.on_event("error", "seen.mp4: expected room on the disk, found none: make some")
        self.on_event("state", "ended")

    monkeypatch.setattr(FakeSession, "close", close)

    async def test():
        async with serve() as client:
            socket = await client.page()
            client.session.go("connected")
            await socket.send_json({"type": "hang-up"})
            assert "room on the disk" in (await event(socket, "error"))["line"]
            assert (await event(socket, "state"))["state"] == "ready"
            assert len(FakeSession.made) == 2

    run(test())


def test_stopping_closes_session_and_sockets():
    async def test():
        async with serve() as client:
            socket = await client.page()
            await client.server.stop()
            message = await socket.receive(timeout=5)
            assert message.type == aiohttp.WSMsgType.CLOSE and message.data == 1001
            assert client.session.state == "closed"

    run(test())
