"""The page of the camera: who may use it, what it shows, its keys and buttons in a real Chromium."""

import asyncio
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
import numpy as np
import pytest
from PIL import Image

from apps.call.browser import drive, start_chromium
from apps.camera.stage_parts import GREY, Kept, avatars, bring, moving, performer
from kinecast.apps.camera.page import FRAME_HEADER, CameraPage
from kinecast.apps.camera.show import Show
from kinecast.apps.local.site import TOKEN_HEADER


def run(test, seconds=90.0):
    asyncio.run(asyncio.wait_for(test, seconds))


@asynccontextmanager
async def served(pictures, pause=0.05):
    """Run a show and its page on frames that repeat; yields both and a session."""
    show = Show(performer(), Kept())
    page = CameraPage(show)
    await page.start()

    async def feed(newest):
        while True:
            await bring(newest, pictures, pause)

    running = asyncio.ensure_future(show.run(feed))
    try:
        async with aiohttp.ClientSession() as http:
            yield show, page, http
    finally:
        show.end()
        await running
        await page.stop()


async def ask(page, http, method, path, token=None):
    headers = {TOKEN_HEADER: page.site.token if token is None else token}
    async with http.request(method, page.site.own + path, headers=headers) as answer:
        return answer.status, answer.headers, await answer.read()


def test_frames_state_and_orders():
    async def test():
        async with served(list(moving())) as (show, page, http):
            status, headers, body = await ask(page, http, "GET", "/frame?after=0")
            first = int(headers[FRAME_HEADER])
            assert status == 200 and first >= 1 and Image.open(BytesIO(body)).size == (160, 128)
            later = await ask(page, http, "GET", f"/frame?after={first}")
            assert int(later[1][FRAME_HEADER]) > first
            assert (await ask(page, http, "POST", "/avatar/1"))[0] == 204
            assert (await ask(page, http, "POST", "/calibrate"))[0] == 204
            while show.performer.current != 1:
                await asyncio.sleep(0.02)
            async with http.get(page.site.own + "/state", headers={TOKEN_HEADER: page.site.token}) as answer:
                state = await answer.json()
            assert state["avatars"] == ["astronaut", "mirrored"] and state["current"] == 1 and state["seen"]
            assert state["fps"] > 0 and state["camera"] == "kept"
            thumbnail = np.array(Image.open(BytesIO((await ask(page, http, "GET", "/avatar/1"))[2])))
            assert np.abs(thumbnail.astype(float) - avatars()[1].stage.picture).mean() < 6
            for path in ("/avatar/2", "/avatar/-1", "/avatar/x", "/avatar/²", "/avatar/" + "9" * 40):
                for method in ("GET", "POST"):
                    assert (await ask(page, http, method, path))[0] == 404
            for after in ("x", "-1", "1" * 30, "²"):
                assert (await ask(page, http, "GET", f"/frame?after={after}"))[0] == 422

    run(test())


def test_without_the_token_nothing_is_told():
    async def test():
        async with served([GREY]) as (show, page, http):
            for method, path in (("GET", "/state"), ("GET", "/frame"), ("GET", "/avatar/0"), ("POST", "/avatar/1")):
                for token in ("", "wrong", page.site.token[:-1]):
                    assert (await ask(page, http, method, path, token))[0] == 401
            assert (await ask(page, http, "POST", "/calibrate", ""))[0] == 401
            await asyncio.sleep(0.2)
            assert show.performer.current == 0

    run(test())


def test_only_so_many_wait_at_once():
    async def test():
        async with served([GREY], pause=5) as (_, page, http):
            await ask(page, http, "GET", "/frame?after=0")
            statuses = [
                status
                for status, *_ in await asyncio.gather(
                    *(ask(page, http, "GET", "/frame?after=99999") for _ in range(12))
                )
            ]
            assert sorted(set(statuses)) == [200, 429] and statuses.count(200) == 4

    run(test())


@pytest.fixture(scope="module")
def port():
    with start_chromium() as number:
        yield number


READY = "document.body.dataset.state === 'ready'"


def test_the_page_shows_and_steers(port, tmp_path):
    async def test():
        async with served(list(moving())) as (show, page, _), drive(port) as chromium:
            tab = await chromium.tab()
            await tab.resize(1280, 800)
            await tab.goto(page.site.address)
            await tab.wait_for(READY, 30)
            await tab.wait_for("document.getElementById('preview').dataset.count > 3", 30)
            assert await tab.evaluate("location.hash") == ""
            assert "kept" in await tab.evaluate("document.getElementById('meeting-text').innerText")
            assert "per second" in await tab.evaluate("document.getElementById('figures').innerText")
            await tab.press("2", 50)
            await wait(lambda: show.performer.current == 1)
            await tab.click(".avatar:first-of-type input")
            await wait(lambda: show.performer.current == 0)
            calibrated = []
            show.calibrate = lambda: calibrated.append(True)
            await tab.press("c", 67)
            await wait(lambda: len(calibrated) == 1)
            await tab.click("#calibrate")
            await wait(lambda: len(calibrated) == 2)
            show.choose(1)  # by a key of the terminal
            await tab.evaluate("document.activeElement.blur()")
            await tab.wait_for("document.getElementById('avatar-1').checked")
            await tab.screenshot(tmp_path / "wide.png")
            assert tab.problems == []

    run(test())


def test_it_fits_a_phone_says_that_no_face_is_seen_and_when_it_has_ended(port):
    async def test():
        async with drive(port) as chromium:
            tab = await chromium.tab()
            await tab.resize(360, 740, True)
            async with served([GREY]) as (_, page, _http):
                await tab.goto(page.site.address)
                await tab.wait_for("document.getElementById('state').innerText.includes('No face found')", 30)
                assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
                unnamed = await tab.evaluate(
                    "[...document.querySelectorAll('input, button, img')].filter((e) => e.checkVisibility() && "
                    "!(e.labels?.[0]?.innerText || e.innerText || e.alt || e.closest('label'))).length"
                )
                assert unnamed == 0
            await tab.wait_for("document.getElementById('state').innerText === 'Stopped'", 30)
            assert "start it again" in await tab.evaluate("document.getElementById('error').innerText")

    run(test())


async def wait(true):
    while not true():
        await asyncio.sleep(0.02)
