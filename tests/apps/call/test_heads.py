"""Seen as a 3-D head: what travels, what the other side is shown, and who draws it."""

import asyncio

import numpy as np
import pytest
from typer.testing import CliRunner

from apps.call.ends import config, models
from apps.call.page_server import event, picture, run, serve
from apps.call.test_halves import Wire
from apps.heads.heads_of_tests import glb, triangle_head
from faces_in_motion import face_frames, tiny_mesh
from kinecast.apps.call.heads import AS_HEAD, Heads, heads_of
from kinecast.apps.call.messages import Use, UseHead
from kinecast.apps.call.models import Models
from kinecast.apps.call.page_wire import HEAD, PICTURE
from kinecast.apps.call.session import CallSession
from kinecast.apps.heads.expression import SHAPES
from kinecast.apps.heads.glb import own_head
from kinecast.apps.local.site import TOKEN_HEADER
from kinecast.cli import app
from kinecast.codec import stream_identity
from kinecast.codec.filling import damped
from kinecast.errors import KinecastError
from kinecast.media.pictures import to_uint8


@pytest.fixture(scope="module")
def loaded() -> Models:
    backbone = tiny_mesh()
    return Models(backbone, stream_identity(backbone), damped, None, None, heads_of(backbone, None))


@pytest.fixture(scope="module")
def camera() -> np.ndarray:
    return to_uint8(face_frames(6))


def test_nothing_but_motion_travels(loaded, camera):
    wire = Wire(AS_HEAD, loaded)
    shown = [frame for frame in map(wire.film, camera) if frame is not None]
    assert not wire.pictures() and UseHead in map(type, wire.events) and Use not in map(type, wire.events)
    assert len(shown) >= 5 and {frame.state for frame in shown} == {"received"}
    assert all(len(data) < 150 for channel, data in wire.messages if channel == "motion")
    first, last = shown[0].head, shown[-1].head
    assert np.abs(first.rotation).max() < 0.02  # the first frame is rest, whoever sends
    assert np.abs(last.rotation - first.rotation).max() > 0.05  # the astronaut leans
    assert first.shapes.shape == (len(SHAPES),) and shown[-1].picture.shape == (256, 256, 3)
    assert (shown[0].picture != shown[-1].picture).any()


def test_a_page_that_draws_is_sent_no_picture(loaded, camera):
    wire = Wire(AS_HEAD, loaded)
    loaded.heads.drawn = False
    try:
        shown = [frame for frame in map(wire.film, camera) if frame is not None][-1]
    finally:
        loaded.heads.drawn = True
    assert shown.head is not None and not shown.picture.size


def test_from_me_to_a_head_and_back(loaded, camera):
    wire = Wire(None, loaded)
    kinds = []
    for avatar in (None, AS_HEAD, np.ascontiguousarray(camera[0]), AS_HEAD, None):
        wire.sender.avatar = avatar
        for frame in camera[:4]:
            shown = wire.film(frame)
        kinds.append(shown.head is not None)
    assert kinds == [False, True, False, True, False]


def test_a_face_is_told_where_blendshapes_are_recorded(loaded, camera, tmp_path):
    wire = Wire(None, loaded, blendshapes=tmp_path / "seen.csv")
    shown = [frame for frame in map(wire.film, camera[:4]) if frame is not None][-1]
    assert shown.face.blendshapes.shape == (52,) and shown.face.pose.shape == (4, 4)


def test_a_head_needs_the_model_mesh(tmp_path):
    wire = Wire()
    assert wire.receiver._heads is None
    with pytest.raises(KinecastError, match="needs the model mesh"):
        wire.receiver.take_use(UseHead(0))
    assert heads_of(models().backbone, None) is None
    with pytest.raises(KinecastError, match="expected the model mesh"):
        Heads(models().backbone)

    async def test():
        session = CallSession(config(), lambda frame: None, lambda kind, line: None, models())
        await session.open()
        with pytest.raises(KinecastError, match="expected the model mesh"):
            session.set_avatar("head")
        await session.close()

    run(test())


def test_the_page_is_told_what_a_head_does():
    async def test():
        async with serve() as client:
            socket = await client.page()
            await socket.send_json({"type": "host", "server": "https://rooms.example.org"})
            await event(socket, "hand-over")
            client.session.go("connected")
            client.session.show_head(1)
            assert (await picture(socket))[0] == PICTURE  # until the page says that it draws
            await socket.send_json({"type": "heads", "drawn": True})
            await asyncio.sleep(0.1)
            assert client.session.draws is False
            client.session.show_head(2, (0, 0.5, 0), jawOpen=0.75)
            message = await picture(socket)
            values = np.frombuffer(message, "<f4", offset=14)
            assert message[0] == HEAD and len(values) == len(SHAPES) + 6
            assert values[SHAPES.index("jawOpen")] == 0.75 and values[-6:].tolist() == [0, 0.5, 0, 0, 0, 1]
            await socket.send_json({"type": "avatar-head"})
            await asyncio.sleep(0.1)
            assert client.session.avatar == "head"
            # another page must say so itself
            other = await client.socket()
            await other.send_json({"type": "hello", "token": client.server.token})
            welcome = await event(other, "welcome")
            assert welcome["as_head"] and welcome["shapes"] == list(SHAPES) and client.session.draws is True

    run(test())


def test_the_head_needs_the_token():
    async def test():
        async with serve() as client:
            await client.page()
            address = f"{client.base}/head.glb"
            async with client.http.get(address) as answer:
                assert answer.status == 401
            async with client.http.get(address, headers={TOKEN_HEADER: client.server.token}) as answer:
                assert answer.status == 200 and await answer.read() == own_head().data
                assert "unsafe" not in answer.headers["Content-Security-Policy"]
            for path in ("/three.js", "/head.js"):
                async with client.http.get(client.base + path) as answer:
                    assert answer.status == 200 and answer.content_type == "text/javascript"

    run(test())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--head", "{bad}"], "expected a 3-D head as GLB"),
        (["--head", "{far}"], "expected everything inside the file"),
        (["--head", "{plain}"], "expected morph targets"),
        (["--head", "{none}"], "expected a 3-D head"),
        (["--avatar", "{good}"], "--avatar head"),
    ],
)
def test_bad_heads_get_one_line_before_the_call(options, line, tmp_path):
    description, binary = triangle_head()
    files = {
        "bad": b"not a head",
        "far": glb({**description, "images": [{"uri": "https://a.example/b.png"}]}, binary),
        "plain": glb(*triangle_head(("smile",))),
        "good": glb(description, binary),
    }
    for name, data in files.items():
        (tmp_path / f"{name}.glb").write_bytes(data)
    given = [option.format(**{name: tmp_path / f"{name}.glb" for name in (*files, "none")}) for option in options]
    found = CliRunner().invoke(app, ["call", "--no-browser", *given])
    said = (found.output + str(found.exception)).replace("\n", " ")
    assert found.exit_code == 1 and line in " ".join(said.split())
