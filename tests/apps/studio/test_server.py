"""The studio's server: portrait, clip, previews, videos, and that pages have nothing of each other."""

import asyncio
import json
import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from apps.studio.studio_server import LIMIT, Client, order, portrait, run, seen, serve
from faces_in_motion import face_frames
from helpers import write_clip
from kinecast.apps.studio.server import MAX_SIDE
from kinecast.media.pictures import to_uint8
from kinecast.media.video import probe, read_frames


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """Ten frames at 25 a second in which a head leans."""
    return write_clip(tmp_path_factory.mktemp("driving") / "lean.mp4", to_uint8(face_frames(10, 128)))


def pixels(data):
    return np.array(Image.open(BytesIO(data)).convert("RGB")).astype(int)


def test_a_portrait_is_found_and_sliders_change_its_preview():
    async def test():
        async with serve() as page:
            await page.open()
            status, line = await page.ask("POST", "/preview", json=seen())
            assert (status, line) == (422, b"kinecast: portrait: expected one, found none yet: choose a picture\n")
            found = await page.json("PUT", "/portrait", data=portrait())
            assert (found["width"], found["height"], found["face"], len(found["faces"])) == (256, 256, 1, 1)
            pictures = [
                pixels((await page.ask("POST", "/preview", json=seen(view=view, **look)))[1])
                for view in ("square", "whole")
                for look in ({}, {"turn": 20}, {})
            ]
            for usual, turned, again in (pictures[:3], pictures[3:]):
                assert np.abs(usual - turned).mean() > 1 and (usual == again).all()
            assert pictures[3].shape == (256, 256, 3)
            status, saved = await page.ask("POST", "/picture", json=seen())
            assert status == 200 and saved.startswith(b"\x89PNG")
            assert (await page.ask("GET", "/portrait"))[1].startswith(b"\xff\xd8\xff")

    run(test())


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif"])
def test_a_video_is_made_with_progress_and_can_be_fetched(lean, kind, tmp_path):
    async def test():
        async with serve() as page:
            await page.ready(lean)
            frames = [pixels((await page.ask("POST", "/preview", json=seen(frame=i)))[1]) for i in (0, 9)]
            assert np.abs(frames[0] - frames[1]).mean() > 1
            assert (await page.ask("GET", "/video"))[0] == 422
            assert (await page.ask("POST", "/video", json=order(kind)))[0] == 202
            state = await page.until("video", "done", "failed")
            assert state["video"] == {
                **{"state": "done", "done": 10, "total": 10, "left": None, "error": "", "kind": kind}
            }
            status, data = await page.ask("GET", "/video")
            assert status == 200
            (tmp_path / f"made.{kind}").write_bytes(data)
            info = probe(tmp_path / f"made.{kind}")
            assert (info.width, info.height) == (512, 512)
            assert sum(1 for _ in read_frames(tmp_path / f"made.{kind}")) == 10
            status, part = await page.ask("GET", "/video", headers={"Range": "bytes=0-99"})
            assert (status, part) == (206, data[:100])

    run(test())


def test_a_video_of_a_3d_head_needs_no_portrait(tmp_path):
    async def test():
        async with serve() as page:
            await page.open()
            short = write_clip(tmp_path / "lean.mp4", to_uint8(face_frames(4, 128)))
            await page.json("PUT", "/clip", data=short.read_bytes())
            await page.until("looking", "done")
            status, line = await page.ask("POST", "/video", json=order() | {"view": "3d"})
            assert status == 422 and b"3-D head: expected one" in line
            await page.json("POST", "/head")
            made = []
            for turn in (0.0, 20.0):
                assert (await page.ask("POST", "/video", json=order(turn=turn) | {"view": "3d"}))[0] == 202
                assert (await page.until("video", "done", "failed"))["video"]["done"] == 4
                (tmp_path / "head.mp4").write_bytes((await page.ask("GET", "/video"))[1])
                made.append(np.stack(list(read_frames(tmp_path / "head.mp4"))).astype(int))
            assert made[0].shape == (4, 512, 512, 3)
            assert np.abs(made[0][0] - made[0][3]).mean() > 0.5  # it leans
            assert np.abs(made[0][0] - made[1][0]).mean() > 1  # and turns

    run(test())


def test_a_video_can_be_cancelled_and_nothing_of_it_stays(lean):
    async def test():
        async with serve() as page:
            await page.ready(lean)
            assert (await page.ask("POST", "/video", json=order()))[0] == 202
            status, line = await page.ask("POST", "/video", json=order())
            assert status == 429 and b"one at a time" in line
            assert (await page.ask("DELETE", "/video"))[0] == 204
            state = await page.json("GET", "/state")
            assert state["video"]["state"] == "cancelled" and state["video"]["done"] < 10
            assert (await page.ask("GET", "/video"))[0] == 422
            left = [path.name for path in page.server.sessions.folder.rglob("*") if path.is_file()]
            assert left == ["clip-2"]

    run(test())


def test_two_pages_have_nothing_of_each_other(lean):
    async def test():
        async with serve() as one:
            await one.ready(lean)
            two = await Client(one.server, one.http).open()
            assert two.session != one.session
            state = await two.json("GET", "/state")
            assert state == {"portrait": None, "clip": None, "looking": None, "video": None}
            other = np.ascontiguousarray(astronaut()[:256, 96:352][:, ::-1])
            file = BytesIO()
            Image.fromarray(other).save(file, "JPEG")
            await two.json("PUT", "/portrait", data=file.getvalue())
            await two.json("PUT", "/clip", data=lean.read_bytes())
            await two.until("looking", "done")
            made = await asyncio.gather(*(page.ask("POST", "/video", json=order()) for page in (one, two)))
            assert [status for status, _ in made] == [202, 202]
            for page in (one, two):
                await page.until("video", "done")
            first, second = [(await page.ask("GET", "/video"))[1] for page in (one, two)]
            assert first != second
            folder = one.server.sessions.folder
            assert len(list(folder.iterdir())) == 2
            assert (await two.ask("DELETE", "/session"))[0] == 204
            assert len(list(folder.iterdir())) == 1
            assert (await two.ask("GET", "/state"))[0] == 410 and (await one.ask("GET", "/state"))[0] == 200

    run(test())


def test_pages_of_which_nothing_is_heard_make_room():
    async def test():
        async with serve() as page:
            for _ in range(8):
                await page.open()
            status, line = await page.ask("POST", "/session")
            assert status == 429 and b"at most 8 pages" in line
            await page.server.sessions.expire(0.0)
            assert not list(page.server.sessions.folder.iterdir())
            await page.open()

    run(test())


def test_the_camera_moves_the_portrait_and_no_face_is_said():
    async def test():
        async with serve() as page:
            await page.open()
            await page.json("PUT", "/portrait", data=portrait())
            frames = to_uint8(face_frames(4))

            def message(frame, anew=0):
                rgba = np.full((*frame.shape[:2], 4), 255, np.uint8)
                rgba[..., :3] = frame
                return struct.pack("<BHH", anew, frame.shape[1], frame.shape[0]) + rgba.tobytes()

            nobody = message(np.zeros((64, 64, 3), np.uint8), 1)
            async with page.http.post(page.server.site.own + "/live", data=nobody, headers=page.headers) as answer:
                assert answer.status == 200 and answer.headers["X-Kinecast-Face"] == "none"
            shown = [
                pixels((await page.ask("POST", "/live", data=message(f, i == 0)))[1]) for i, f in enumerate(frames)
            ]
            assert np.abs(shown[0] - shown[3]).mean() > 1
            again = pixels((await page.ask("POST", "/live", data=message(frames[3], 1)))[1])
            assert np.abs(again - shown[0]).mean() < 1  # changes count from this pose now
            still = pixels((await page.ask("POST", "/preview", json=seen()))[1])
            assert np.abs(still - shown[0]).mean() < 1
            looked = {name: value for name, value in seen(turn=20).items() if name != "frame"}
            assert (await page.ask("POST", "/look", json=looked))[0] == 204
            turned = pixels((await page.ask("POST", "/live", data=message(frames[3], 1)))[1])
            assert np.abs(again - turned).mean() > 1
            for bad in (b"", b"\0" * 5, message(frames[0])[:-1], struct.pack("<BHH", 0, MAX_SIDE + 1, 16) + b"\0" * 99):
                assert (await page.ask("POST", "/live", data=bad))[0] == 422

    run(test())


def test_a_file_that_is_too_large_is_refused_in_one_line():
    async def test():
        async with serve() as page:
            await page.open()
            # 2 GB by its Content-Length: refused before it is sent.
            reader, writer = await asyncio.open_connection("127.0.0.1", page.server.site.port)
            lines = [f"{name}: {value}" for name, value in page.headers.items()]
            host = f"Host: 127.0.0.1:{page.server.site.port}"
            writer.write("\r\n".join(["PUT /clip HTTP/1.1", host, *lines, f"Content-Length: {2**31}", "", ""]).encode())
            answer = (await asyncio.wait_for(reader.read(4096), 5)).decode()
            assert answer.startswith("HTTP/1.1 413 ") and answer.endswith("--upload-mb\n")
            assert "at most 5 MB, found 2147 MB" in answer and answer.split("\r\n\r\n")[1].count("\n") == 1
            writer.close()

            async def endless():  # says nothing of its length
                for _ in range(LIMIT // 100_000 + 2):
                    yield b"\xff\xd8\xff" + b"\0" * 99_997

            status, line = await page.ask("PUT", "/portrait", data=endless())
            assert status == 413 and b"at most 5 MB, found more" in line
            assert not [path for path in page.server.sessions.folder.rglob("*") if path.is_file()]

    run(test())


@pytest.mark.parametrize("path", ["/portrait", "/clip"])
@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\xff\xd8\xff\xe0nothing",
        b"\x89PNG\r\n\x1a\n",
        b"\0\0\0\x20ftypisom" + b"\0" * 64,
        b"#EXTM3U\n/etc/hosts",
    ],
)
def test_a_file_that_is_none_is_refused_without_naming_a_folder(path, data):
    async def test():
        async with serve() as page:
            await page.open()
            status, line = await page.ask("PUT", path, data=data)
            assert status == 422 and line.count(b"\n") == 1 and b"expected" in line
            assert str(page.server.sessions.folder).encode() not in line and b"/tmp" not in line
            assert not [path for path in page.server.sessions.folder.rglob("*") if path.is_file()]

    run(test())


def test_a_picture_without_a_face_and_a_clip_that_is_a_picture_are_said():
    async def test():
        async with serve() as page:
            await page.open()
            file = BytesIO()
            Image.new("RGB", (64, 48), "grey").save(file, "PNG")
            status, line = await page.ask("PUT", "/portrait", data=file.getvalue())
            assert status == 422 and b"expected a face in the 64x48 pixels, found none" in line
            status, line = await page.ask("PUT", "/clip", data=file.getvalue())
            assert status == 422 and b"found one picture" in line

    run(test())


def test_every_route_needs_the_token_and_only_the_pages_files_do_not():
    async def test():
        async with serve() as page:
            await page.open()
            runner = page.server.site._runner
            assert runner is not None
            routes = [
                (route.method, route.resource.canonical)
                for route in runner.app.router.routes()
                if route.method != "HEAD" and route.resource is not None
            ]
            static = {path for path in page.server.site._static}
            assert len(routes) - len(static) == 19
            for method, path in routes:
                async with page.http.request(method, page.server.site.own + path) as answer:
                    assert answer.status == (200 if path in static else 401), path
                    assert page.server.site.token not in await answer.text()
                    policy = answer.headers["Content-Security-Policy"]
                    assert "unsafe" not in policy and "*" not in policy and "data:" not in policy
                for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
                    status, _ = await page.ask(method, path, headers=headers)
                    assert status in (403, 421)
                wrong = {"X-Kinecast-Token": page.server.site.token[:-1] + "x"}
                assert (await page.ask(method, path, headers=wrong))[0] == (200 if path in static else 401)
            assert (await page.ask("GET", "/state"))[0] == 200

    run(test())


@pytest.mark.parametrize(
    "values",
    [
        [],
        {},
        None,
        {**seen(), "more": 1},
        {**seen(), "view": "other"},
        {**seen(), "view": ["square"]},
        {**seen(), "face": 2},
        {**seen(), "face": True},
        {**seen(), "face": 10**400},
        {**seen(), "frame": -1},
        {**seen(), "frame": 1.5},
        {**seen(), "look": {"turn": float("nan")}},
        {**seen(), "look": {"turn": 90}},
        {**seen(), "look": {"__class__": 1}},
        {**seen(), "look": "x" * 5000},
    ],
    ids=lambda values: str(values)[:40],
)
def test_requests_that_are_none_are_refused(values):
    async def test():
        async with serve() as page:
            await page.open()
            await page.json("PUT", "/portrait", data=portrait())
            status, line = await page.ask("POST", "/preview", data=json.dumps(values))
            assert status == 422 and b"expected" in line and line.count(b"\n") == 1

    run(test())
