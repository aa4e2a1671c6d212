"""The page in a real Chromium, on a fake session: what a person sees, presses and is told."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from PIL import Image

from apps.call.browser import drive, start_chromium
from apps.call.fake_session import INVITATION
from apps.call.page_server import run, serve, until
from helpers import draw_frames, write_clip
from kinecast.apps.call.page_call import Choices

READY = "document.body?.dataset.state === 'ready'"
SERVER = Choices("https://rooms.example.org")


@pytest.fixture(scope="module")
def port():
    with start_chromium() as port:
        yield port


@asynccontextmanager
async def opened(port, choices=SERVER, clip=None, size=(1280, 860)):
    """Yield (client, tab) with the page open and ready."""
    async with serve(choices, clip) as client, drive(port) as chromium:
        tab = await chromium.tab()
        await tab.resize(*size)
        await tab.goto(f"{client.base}/#{client.server.token}")
        await tab.wait_for(READY)
        yield client, tab


async def invite(client, tab):
    """Go from the lobby into a call."""
    await tab.click("#host-form button")
    await tab.wait_for("!document.getElementById('hand-over').hidden")
    client.session.go("connecting")
    client.session.go("connected")


def shown(selector):
    return f"document.querySelector('{selector}').checkVisibility()"


def text(selector):
    return f"document.querySelector('{selector}').innerText"


def test_a_call_from_camera_to_hanging_up(port):
    async def test():
        async with opened(port) as (client, tab):
            # The token has left the address bar, and a reload still finds it.
            assert await tab.evaluate("location.href") == f"{client.base}/"
            await tab.send("Page.reload")
            await tab.wait_for(READY)
            await tab.wait_for("document.getElementById('mine').videoWidth > 0")
            client.session.frames.clear()  # the page before the reload may have sent some, and counted for itself
            await invite(client, tab)
            assert await tab.evaluate("document.activeElement.id") == "copy"
            await tab.wait_for("document.querySelector('#theirs-figure').dataset.seen === ''")
            await tab.wait_for("parseFloat(document.getElementById('f-received').innerText) > 0")  # figures came
            # What is drawn is what was sent: the fake camera's green, not black.
            pixel = await tab.evaluate(
                "[...document.getElementById('theirs').getContext('2d').getImageData(3,3,1,1).data]"
            )
            assert pixel[3] == 255 and max(pixel[:3]) > 60
            await tab.wait_for(text("#mark") + ".includes('Some frames are forecast')")
            place = "Object.values(document.getElementById('hang-up').getBoundingClientRect().toJSON())"
            before = await tab.evaluate(place)
            client.session.mark = "idle"
            client.session.go("interrupted")
            await tab.wait_for(text("#mark") + ".includes('not the person')")
            assert await tab.evaluate(text("#state")) == "Connection interrupted, retrying"
            assert await tab.evaluate(shown("#reconnect"))
            assert await tab.evaluate(place) == before  # no button slips away from under a finger
            client.session.mark = "received"
            client.session.go("connected")
            await tab.wait_for(f"!{shown('#reconnect')}")
            assert await tab.evaluate(place) == before
            assert "53" not in await tab.evaluate(text("#f-loss"))
            frames = client.session.frames
            assert frames[0].picture.shape == (128, 128, 3)  # what the model takes
            gaps = np.diff([frame.captured for frame in frames])
            assert (gaps > 0).all() and [f.number for f in frames] == sorted({f.number for f in frames})
            await tab.click("#hang-up")
            await tab.wait_for(READY)
            await tab.wait_for(text("#summary-line") + ".includes('2 min 14 s. Sent 94 kB, received 122 kB')")
            assert not await tab.evaluate(shown("#theirs-figure"))
            assert tab.problems == []

    run(test())


def test_muting_the_picture_stops_the_camera(port):
    async def test():
        async with opened(port) as (client, tab):
            await tab.wait_for("document.getElementById('mine').videoWidth > 0")
            await invite(client, tab)
            await tab.wait_for("document.querySelector('#theirs-figure').dataset.seen === ''")
            await tab.click("#mute-video")
            await tab.wait_for("document.getElementById('mine').srcObject === null")
            assert await tab.evaluate("document.getElementById('mute-video').ariaPressed") == "true"
            assert await tab.evaluate("document.getElementById('mute-video').ariaLabel") == "Picture off, mute"
            assert await tab.evaluate(text("#no-camera-line")) == "Your picture is off."
            await until(lambda: client.session.calls[-1] == ("muted", True, True))
            before = len(client.session.frames)
            await asyncio.sleep(0.3)
            assert len(client.session.frames) == before
            await tab.click("#mute-video")
            await until(lambda: len(client.session.frames) > before)
            assert client.session.calls[-1] == ("muted", False, True) and tab.problems == []

    run(test())


def test_a_clip_plays_as_the_camera_and_its_end_is_told(port, tmp_path):
    clip = write_clip(tmp_path / "blob.webm", draw_frames(30, (96, 128)))

    async def test():
        async with opened(port, Choices("https://x", clip=clip.name), clip) as (client, tab):
            await tab.wait_for(text("#notice") + ".includes('The clip has ended.')")
            await until(lambda: len(client.session.frames) > 3)
            assert client.session.frames[-1].picture.shape == (96, 96, 3)
            await tab.wait_for("document.getElementById('camera').selectedOptions[0]?.text === 'Clip: blob.webm'")
            await tab.click("#clip-again")
            await tab.wait_for("!document.getElementById('mine').paused")
            # A file that is no clip is refused in one line, and another can be chosen.
            await tab.choose_file("#clip-file", tmp_path / "blob.webm")
            bad = tmp_path / "bad.mp4"
            bad.write_bytes(b"no clip at all" * 100)
            await tab.choose_file("#clip-file", bad)
            await tab.wait_for(text("#error") + ".includes('cannot play the clip')")
            assert tab.problems == []

    run(test())


def test_an_avatar_is_sent_and_taken_back(port, tmp_path):
    Image.fromarray(np.full((300, 200, 3), (200, 30, 90), np.uint8)).save(tmp_path / "avatar.png")

    async def test():
        async with opened(port) as (client, tab):
            await tab.click("[value=avatar]")
            await tab.choose_file("#avatar-file", tmp_path / "avatar.png")
            await tab.wait_for(shown("#seen-as"))
            await until(lambda: client.session.avatar is not None)
            avatar = client.session.avatar
            assert avatar.shape == (200, 200, 3) and (avatar == (200, 30, 90)).all()
            await tab.click("[value=me]")
            await tab.wait_for("!" + shown("#seen-as"))
            await until(lambda: client.session.avatar is None)
            (tmp_path / "bad.png").write_bytes(b"no picture")
            await tab.click("[value=avatar]")
            await tab.choose_file("#avatar-file", tmp_path / "bad.png")
            await tab.wait_for(text("#error") + ".includes('cannot read that picture')")
            assert tab.problems == []

    run(test())


def test_a_camera_that_is_refused_or_unplugged_is_said_and_the_call_goes_on(port):
    async def test(refusing):
        async with opened(refusing) as (client, tab):
            await tab.click("#camera-on")
            await tab.wait_for(text("#error") + ".includes('Camera access is blocked')")
            await tab.click("#mute-audio")
            await tab.wait_for(text("#error") + ".includes('Microphone access is blocked')")
            await tab.click("#error [data-dismiss]")
            assert not await tab.evaluate(shown("#error"))
            await invite(client, tab)
            await tab.wait_for(text("#state") + " === 'Connected'")
            assert tab.problems == []
        async with opened(port) as (client, tab):
            await tab.wait_for("document.getElementById('mine').videoWidth > 0")
            await tab.evaluate(
                "document.getElementById('mine').srcObject.getTracks()[0].dispatchEvent(new Event('ended'))"
            )
            await tab.wait_for(text("#no-camera-line") + ".includes('was unplugged')")
            assert await tab.evaluate(shown("#camera-on")) and tab.problems == []

    with start_chromium(allow=False) as refusing:
        run(test(refusing))


def test_two_people_by_hand_in_two_tabs_of_their_own(port):
    async def test():
        async with serve() as one, serve() as two, drive(port) as chromium:
            tabs = []
            for client in (one, two):
                tab = await chromium.tab()
                await tab.goto(f"{client.base}/#{client.server.token}")
                await tab.wait_for(READY)
                await tab.evaluate("document.getElementById('by-hand').open = true")
                tabs.append(tab)
            await tabs[0].click("#offer-form button")
            await tabs[0].wait_for(shown("#answer-form"))
            offer = await tabs[0].evaluate("document.getElementById('hand-over-text').value")
            await tabs[1].type("#their-offer", offer)
            await tabs[1].click("#accept-form button")
            await tabs[1].wait_for(shown("#hand-over"))
            await tabs[0].type(
                "#their-answer", await tabs[1].evaluate("document.getElementById('hand-over-text').value")
            )
            await tabs[0].click("#answer-form button")
            await tabs[0].wait_for(text("#state") + " === 'Connected'")
            assert tabs[0].problems == [] == tabs[1].problems

    run(test())


def test_errors_are_lines_and_two_windows_of_one_call_take_turns(port):
    async def test():
        async with serve(SERVER) as client, drive(port) as chromium:
            first, second = await chromium.tab(), await chromium.tab()
            await first.goto(f"{client.base}/#{client.server.token}")
            await first.wait_for(READY)
            await first.type("#invitation", "used")
            await first.click("#join-form button")
            await first.wait_for(text("#error") + ".includes('ask for another')")
            await first.wait_for(READY)
            await first.evaluate("document.getElementById('invitation').value = ''")
            await first.type("#invitation", INVITATION)
            await first.press("Enter", 13)
            await first.wait_for(text("#state") + " === 'Connecting'")
            await second.goto(f"{client.base}/#{client.server.token}")
            await second.wait_for(text("#state") + " === 'Connecting'")
            await first.wait_for("document.getElementById('gone').open")
            await first.click("#gone-action")
            await second.wait_for("document.getElementById('gone').open")
            await client.server.stop()
            await first.wait_for(text("#error") + ".includes('has lost contact with kinecast')")
            assert all("ERR_CONNECTION_REFUSED" in line for line in first.problems) and second.problems == []

    run(test())


def test_without_the_token_the_page_says_so(port):
    async def test():
        async with serve() as client, drive(port) as chromium:
            tab = await chromium.tab()
            await tab.goto(f"{client.base}/")
            await tab.wait_for("document.getElementById('gone').open")
            assert "kinecast call printed" in await tab.evaluate(text("#gone-line"))
            assert client.server.call._link is None and tab.problems == []

    run(test())


def test_a_phone_sized_window_needs_no_sideways_scrolling_and_controls_stay_in_reach(port):
    async def test():
        async with opened(port, size=(360, 740)) as (client, tab):
            widths = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert await tab.evaluate(widths)
            await tab.evaluate("document.getElementById('by-hand').open = true")
            assert await tab.evaluate(widths)
            await invite(client, tab)
            await tab.wait_for("parseFloat(document.getElementById('f-received').innerText) > 0")  # figures came
            assert await tab.evaluate(widths)
            bottom = await tab.evaluate("document.getElementById('hang-up').getBoundingClientRect().bottom")
            assert 600 < bottom <= 740
            small = await tab.evaluate(
                "[...document.querySelectorAll('button, select, input:not([type=radio], [type=file]), .choice')]"
                ".filter(e => e.checkVisibility() && !e.closest('.mine') && e.getBoundingClientRect().height < 40)"
                ".map(e => e.outerHTML)"
            )
            assert small == [] and tab.problems == []

    run(test())


def test_everything_is_reached_by_keyboard_named_and_visibly_focused(port):
    async def test():
        async with opened(port) as (client, tab):
            await tab.wait_for("document.getElementById('mine').videoWidth > 0")
            reached: list[list] = []
            await tab.evaluate("document.body.focus()")
            for _ in range(24):
                await tab.press("Tab", 9)
                found = await tab.evaluate(
                    "(() => { const e = document.activeElement, s = getComputedStyle(e.closest('.choice, .file') ?? e);"
                    "return [e.id || e.value || e.innerText, s.outlineStyle, parseFloat(s.outlineWidth)]; })()"
                )
                if found[0] in {name for name, *_ in reached}:
                    break
                reached.append(found)
            names = {name for name, *_ in reached}
            assert {"mute-video", "mute-audio", "invitation", "Join", "server", "Invite", "camera", "me"} <= names
            assert all(style == "solid" and width >= 2 for _, style, width in reached[:-1]), reached
            await tab.send("Accessibility.enable")
            tree = (await tab.send("Accessibility.getFullAXTree"))["nodes"]
            roles = {"button", "textbox", "combobox", "radio", "link"}
            controls = [node for node in tree if node.get("role", {}).get("value") in roles and not node["ignored"]]
            assert len(controls) >= 8 and all(node["name"].get("value") for node in controls)
            live = "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map(e => e.id)"
            figures = await tab.evaluate(
                f"{live}.filter(id => document.getElementById('figures').querySelector('#' + id))"
            )
            assert figures == []  # states are spoken, not figures each second

    run(test())


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(port, scheme):
    """WCAG AA: 4.5 to 1 for every text colour on the ground that it stands on."""
    script = """(() => {
      const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
      const linear = (v) => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
      const lum = (c) => { const [r, g, b] = c.map(linear); return .2126 * r + .7152 * g + .0722 * b; };
      const ground = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
        if (c.length < 4 || c[3] > .6) return c.slice(0, 3); } return [255, 255, 255]; };
      const out = [];
      for (const e of document.querySelectorAll('body *')) {
        if (!e.checkVisibility() || e.matches(':disabled, option, svg *')) continue;
        if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
        const a = lum(rgb(getComputedStyle(e).color)), b = lum(ground(e));
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        if (ratio < 4.5) out.push([e.id || e.className || e.tagName, e.innerText.slice(0, 30), ratio]);
      }
      return out; })()"""

    async def test():
        async with opened(port) as (client, tab):
            await tab.media(prefers_color_scheme=scheme)
            await tab.evaluate("document.getElementById('by-hand').open = true")
            await asyncio.sleep(0.3)
            assert await tab.evaluate(script) == []
            await invite(client, tab)
            client.session.on_event("error", "link: expected a model, found another: choose it")
            await tab.wait_for("parseFloat(document.getElementById('f-received').innerText) > 0")  # figures came
            for state in ("received", "idle", "frozen"):
                client.session.mark = state
                await asyncio.sleep(0.2)
                assert await tab.evaluate(script) == []

    run(test())


def test_sound_goes_to_the_call_and_comes_back(port):
    """The microphone's Opus arrives as a track; what the session plays is heard by the page. Chromium's fake beeps."""

    async def test():
        async with opened(port) as (client, tab):
            await tab.click("#mute-audio")
            await tab.wait_for("document.getElementById('mute-audio').ariaPressed === 'false'")
            await tab.click("#host-form button")
            await tab.wait_for("!document.getElementById('hand-over').hidden")
            session = client.session
            await until(lambda: session.track is not None)
            loudest = 0
            async with asyncio.timeout(15):
                while loudest < 500:
                    frame = await session.track.recv()
                    loudest = max(loudest, int(np.abs(frame.to_ndarray().astype(int)).max()))
            session.go("connected")  # plays the track back
            await tab.wait_for("document.getElementById('sound').currentTime > 0.3", 10)
            assert ("muted", False, False) in session.calls
            await tab.click("#mute-audio")
            await until(lambda: session.calls[-1] == ("muted", False, True))
            assert tab.problems == []

    run(test())
