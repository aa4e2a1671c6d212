"""The other side as a 3-D head, drawn by a real Chromium without a graphics card."""

from contextlib import asynccontextmanager

import numpy as np
import pytest

from apps.call.browser import drive, start_chromium
from apps.call.page_server import run, serve, until
from kinecast.apps.call.page_call import Choices

READY = "document.body?.dataset.state === 'ready'"
# The head's canvas in 32 x 32 grey levels.
SEEN = (
    "(() => { const c = document.createElement('canvas').getContext('2d', { willReadFrequently: true });"
    "c.drawImage(document.getElementById('theirs-head'), 0, 0, 32, 32);"
    "return [...c.getImageData(0, 0, 32, 32).data].filter((_, i) => i % 4 === 1); })()"
)


@pytest.fixture(scope="module")
def port():
    with start_chromium() as port:
        yield port


@asynccontextmanager
async def in_a_call(port, before=""):
    """Yield (client, tab) in a call with somebody who is seen as a 3-D head; `before` is run before the page's own."""
    async with serve(Choices("https://rooms.example.org")) as client, drive(port) as chromium:
        tab = await chromium.tab()
        await tab.resize(900, 560)  # small: it is drawn by the processor
        if before:
            await tab.send("Page.addScriptToEvaluateOnNewDocument", source=before)
        await tab.goto(f"{client.base}/#{client.server.token}")
        await tab.wait_for(READY, 60)
        await tab.click("#host-form button")
        await tab.wait_for("!document.getElementById('hand-over').hidden")
        client.session.echoes = False
        client.session.go("connected")
        client.session.show_head(1)
        yield client, tab


async def drawn(client, tab, number, rotation=(0, 0, 0), **shapes):
    """Show a head and return its canvas (32, 32)."""
    await tab.evaluate("window.heads = 0")
    await tab.evaluate("document.addEventListener('kinecast:shown', ({ detail }) => (window.heads = detail.number))")
    client.session.show_head(number, rotation, **shapes)
    await tab.wait_for(f"window.heads === {number}", 60)
    return np.array(await tab.evaluate(SEEN), float).reshape(32, 32)


def test_shapes_and_turns_move_the_head(port):
    async def test():
        async with in_a_call(port) as (client, tab):
            await until(lambda: not client.session.draws, 60)  # the page has said that it draws
            rest = await drawn(client, tab, 2)
            assert await tab.evaluate("document.getElementById('theirs-head').checkVisibility()")
            assert not await tab.evaluate("document.getElementById('theirs').checkVisibility()")
            assert (rest > 60).mean() > 0.15  # a lit face on the stage
            opened = await drawn(client, tab, 3, jawOpen=0.9)
            changed = np.abs(opened - rest).sum(axis=1)
            assert changed[16:].sum() > 5 * changed[:14].sum() > -1 and changed[16:].max() > 60  # the mouth
            assert np.abs(await drawn(client, tab, 4) - rest).max() < 3  # and shut again
            left = await drawn(client, tab, 5, (0, -0.6, 0))
            right = await drawn(client, tab, 6, (0, 0.6, 0))
            assert np.abs(left - right).mean() > 3
            assert np.abs(left[:, ::-1] - right).mean() < np.abs(left - right).mean()  # they mirror each other
            label = await tab.evaluate("document.getElementById('theirs-head').ariaLabel")
            assert label == "The other person's animated picture"
            assert not tab.problems

    run(test(), 240)


def test_without_webgl_the_head_comes_as_a_picture(port):
    before = "HTMLCanvasElement.prototype.getContext = (get => function (kind, ...rest) {"
    before += "return kind.startsWith('webgl') ? null : get.call(this, kind, ...rest) })"
    before += "(HTMLCanvasElement.prototype.getContext);"

    async def test():
        async with in_a_call(port, before) as (client, tab):
            await tab.wait_for("document.getElementById('notice').innerText.includes('cannot draw in 3-D')", 60)
            client.session.show_head(2)
            await tab.wait_for("document.getElementById('theirs').checkVisibility()", 60)
            assert client.session.draws
            pixel = "[...document.getElementById('theirs').getContext('2d').getImageData(3,3,1,1).data]"
            await tab.wait_for(f"({pixel})[0] === 90", 60)

    run(test(), 240)


def test_a_person_chooses_to_be_a_head(port):
    async def test():
        async with in_a_call(port) as (client, tab):
            await tab.evaluate("document.querySelector('[name=seen][value=head]').scrollIntoView()")
            await tab.click("[name=seen][value=head]")
            await until(lambda: isinstance(client.session.avatar, str) and client.session.avatar == "head", 60)
            assert await tab.evaluate("document.getElementById('seen-as').innerText.includes('3-D head')")
            assert await tab.evaluate("document.getElementById('avatar-row').hidden")
            await tab.send("Page.reload")
            await tab.wait_for("document.querySelector('[name=seen]:checked')?.value === 'head'", 60)
            await tab.click("[name=seen][value=me]")
            await until(lambda: client.session.avatar is None, 60)

    run(test(), 240)
