"""The studio in a real Chromium: a portrait and a clip chosen, previews, sliders, a video made, cancelled and saved."""

import asyncio
import hashlib

import pytest

from apps.call.browser import drive, start_chromium
from apps.heads.heads_of_tests import glb, triangle_head
from apps.studio.studio_server import model, portrait, run, serve
from faces_in_motion import face_frames
from helpers import write_clip
from kinecast.media.pictures import to_uint8
from kinecast.media.video import probe, read_frames

READY = "document.body?.dataset.state === 'ready'"


@pytest.fixture(scope="module")
def port():
    with start_chromium() as port:
        yield port


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A portrait and a clip of ten frames."""
    model()
    folder = tmp_path_factory.mktemp("files")
    (folder / "portrait.png").write_bytes(portrait())
    return folder / "portrait.png", write_clip(folder / "lean.mp4", to_uint8(face_frames(10, 128)))


def shown(identity):
    return f"document.getElementById('{identity}').checkVisibility()"


def text(identity):
    return f"document.getElementById('{identity}').innerText"


async def settled(tab):
    """Wait until nothing more is drawn; returns a digest of the preview's pixels."""
    count = -1
    while (now := await tab.evaluate("Number(document.getElementById('preview').dataset.count ?? 0)")) != count:
        count = now
        await asyncio.sleep(0.6)
    pixels = await tab.evaluate(
        "(async () => { const i = document.getElementById('preview'); await i.decode();"
        "const c = new OffscreenCanvas(64, 64).getContext('2d'); c.drawImage(i, 0, 0, 64, 64);"
        "return [...c.getImageData(0, 0, 64, 64).data].join(); })()"
    )
    return hashlib.sha256(pixels.encode()).hexdigest()


async def slide(tab, identity, value):
    """Move a slider as a person does, by its event."""
    await tab.evaluate(
        f"(() => {{ const s = document.getElementById('{identity}'); s.value = {value};"
        "s.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )


def test_from_a_portrait_and_a_clip_to_a_saved_video(port, files, tmp_path):
    async def test():
        async with serve() as page, drive(port) as chromium:
            tab = await chromium.tab()
            await tab.resize(1280, 860)
            await tab.goto(page.server.site.address)
            await tab.wait_for(READY, 30)
            assert await tab.evaluate("location.hash") == ""  # the token has left the address bar
            assert await tab.evaluate("document.getElementById('make').disabled")

            await tab.choose_file(".portrait-file", files[0])
            await tab.wait_for(shown("preview"), 20)
            assert await tab.evaluate("document.querySelectorAll('.face').length") == 1
            assert "One face found" in await tab.evaluate(text("faces-hint"))
            usual = await settled(tab)
            await slide(tab, "slider-turn", 20)
            assert await settled(tab) != usual
            assert await tab.evaluate("document.getElementById('slider-turn').ariaValueText") == "20° right"
            await tab.click("#reset")
            assert await settled(tab) == usual

            await tab.choose_file("#clip-file", files[1])
            await tab.wait_for("!document.getElementById('make').disabled", 30)
            assert "10 frames, 0.4 s" in await tab.evaluate(text("clip-text"))
            first = await settled(tab)
            await slide(tab, "frame", 9)
            assert await settled(tab) != first

            await tab.send("Page.reload")
            await tab.wait_for(f"{READY} && {shown('preview')} && !document.getElementById('make').disabled", 30)

            await tab.click("#make")
            await tab.wait_for(shown("job"))
            await tab.click("#cancel")
            await tab.wait_for(f"!{shown('job')}")
            assert not await tab.evaluate(shown("result"))
            assert (await page.ask("GET", "/video"))[0] != 200

            await tab.evaluate(
                "(() => { const p = document.getElementById('job-progress'); window.seen = [];"
                "new MutationObserver(() => seen.push(p.value)).observe(p, { attributes: true }); })()"
            )
            await tab.click("#make")
            await tab.wait_for(shown("result"), 60)
            seen = await tab.evaluate("window.seen")
            assert seen == sorted(seen) and len(set(seen)) >= 2 and 0 < max(seen) <= 10
            assert await tab.evaluate("document.activeElement.id") == "download"
            await tab.send("Page.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
            await tab.click("#download")
            made = tmp_path / "kinecast.mp4"
            async with asyncio.timeout(10):
                while not made.exists():
                    await asyncio.sleep(0.05)
            assert probe(made).frames == 10 and sum(1 for _ in read_frames(made)) == 10
            assert tab.problems == []

    run(test(), 150)


def test_a_phone_sized_page_is_no_wider_than_its_window_and_all_is_labelled(port, files):
    async def test():
        async with serve() as page, drive(port) as chromium:
            tab = await chromium.tab()
            await tab.resize(360, 740, True)
            await tab.goto(page.server.site.address)
            await tab.wait_for(READY, 30)
            await tab.choose_file(".portrait-file", files[0])
            await tab.choose_file("#clip-file", files[0])  # while the portrait is looked at: one thing at a time
            await tab.wait_for(shown("preview"), 20)
            assert await tab.evaluate("document.documentElement.scrollWidth") <= 360
            unnamed = await tab.evaluate(
                "[...document.querySelectorAll('input, button, progress, img, video')].filter((e) => "
                "e.checkVisibility() && !(e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || e.alt || "
                "e.ariaHidden || e.getAttribute('aria-labelledby'))).map((e) => e.outerHTML)"
            )
            assert unnamed == []
            # Everything that can be pressed is reached by Tab, in the order in which it is seen.
            reached = []
            for _ in range(30):
                await tab.press("Tab", 9)
                reached.append(await tab.evaluate("document.activeElement.id || document.activeElement.className"))
            order = [
                reached.index(name) for name in ("original", "portrait-file", "clip-file", "slider-turn", "picture")
            ]
            assert order == sorted(order)
            await tab.click("#camera-on")
            await tab.wait_for(text("camera-text") + ".includes('No face found')", 20)
            await tab.click("#camera-off")
            assert not await tab.evaluate(shown("camera-box"))
            assert tab.problems == []

    run(test(), 90)


def test_a_file_that_is_too_large_is_refused_in_one_line(port, files, tmp_path):
    async def test():
        (tmp_path / "big.mp4").touch()
        with (tmp_path / "big.mp4").open("r+b") as file:
            file.truncate(2 << 30)
        async with serve() as page, drive(port) as chromium:
            tab = await chromium.tab()
            await tab.goto(page.server.site.address)
            await tab.wait_for(READY, 30)
            await tab.choose_file("#clip-file", tmp_path / "big.mp4")
            await tab.wait_for(shown("error"))
            assert "2147.5 MB; the studio accepts 5.0 MB at most" in await tab.evaluate(text("error"))
            assert tab.problems == []

    run(test(), 60)


def test_a_file_that_is_gone_does_not_end_the_page(port, files, tmp_path):
    async def test():
        async with serve() as page, drive(port) as chromium:
            tab = await chromium.tab()
            await tab.goto(page.server.site.address)
            await tab.wait_for(READY, 30)
            await tab.choose_file(".portrait-file", tmp_path / "gone.png")
            await tab.wait_for(text("error") + ".includes('could not be sent: choose it again')")
            assert await tab.evaluate(READY)
            await tab.choose_file(".portrait-file", files[0])
            await tab.wait_for(shown("preview"), 20)

    run(test(), 60)


def test_a_3d_head_follows_sliders_and_files_are_checked(port, files, tmp_path):
    canvas = (
        "(() => { const c = new OffscreenCanvas(48, 48).getContext('2d');"
        "c.drawImage(document.getElementById('head'), 0, 0, 48, 48);"
        "return c.getImageData(0, 0, 48, 48).data.join(); })()"
    )
    count = "Number(document.getElementById('head').dataset.count ?? 0)"

    async def test():
        async with serve() as page, drive(port) as chromium:
            tab = await chromium.tab()
            await tab.resize(900, 560)
            await tab.goto(page.server.site.address)
            await tab.wait_for(READY, 60)
            await tab.click("#head-on")  # no portrait is needed
            await tab.wait_for(shown("head"), 60)
            await tab.wait_for(f"{count} >= 1", 60)
            rest = await tab.evaluate(canvas)
            before = await tab.evaluate(count)
            await slide(tab, "slider-turn", 25)
            await tab.wait_for(f"{count} > {before}", 60)
            assert await tab.evaluate(canvas) != rest
            assert await tab.evaluate("document.getElementById('make').disabled")
            assert not await tab.evaluate("document.getElementById('picture').disabled")
            await tab.choose_file("#clip-file", files[1])
            await tab.wait_for("!document.getElementById('make').disabled", 60)
            await tab.click("#make")
            await tab.wait_for(shown("job"), 60)
            await tab.click("#cancel")
            await tab.wait_for("!" + shown("job"), 60)

            bad = tmp_path / "head.glb"
            bad.write_bytes(glb(triangle_head()[0] | {"images": [{"uri": "https://a.example/b.png"}]}, b"\0" * 52))
            await tab.choose_file("#head-file", bad)
            await tab.wait_for(text("error") + ".includes('everything inside the file')", 60)
            assert await tab.evaluate(shown("head"))  # what was there stays

            good = tmp_path / "triangle.glb"
            good.write_bytes(glb(*triangle_head()))
            await tab.choose_file("#head-file", good)
            await tab.wait_for(text("head-hint") + ".includes('triangle.glb: 51 shapes')", 60)

            await tab.choose_file(".portrait-file", files[0])
            await tab.wait_for("!document.querySelector('[name=view][value=square]').disabled", 60)
            await tab.click("label:has([name=view][value=square])")
            await tab.wait_for(shown("preview"), 60)
            assert not await tab.evaluate(shown("head"))
            problems = [line for line in tab.problems if "422" not in line]
            assert not problems

    run(test(), 240)
