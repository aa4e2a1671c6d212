"""A real Chromium without a window, driven by the DevTools protocol over aiohttp: what tests of the page need of it."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest

_START_SECONDS = 20.0
_CALL_SECONDS = 15.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers run as root
    "--disable-gpu",
    "--use-angle=swiftshader",  # WebGL by the processor
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream",
)


def find_chromium() -> str:
    """Return the program; without one the test is skipped, but in CI that is a failure."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    message = "chromium is not installed"
    pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    raise AssertionError


class Tab:
    """One page: `evaluate` and `wait_for` JavaScript, `screenshot`, sizes and media; `problems` are what it logged."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reader = asyncio.ensure_future(self._read())
        self.problems: list[str] = []

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = len(self._answers) + 1
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(self._answers[number], _CALL_SECONDS)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def _read(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._answers[event["id"]].set_result(event)
            elif event["method"] == "Runtime.exceptionThrown":
                details = event["params"]["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                self.problems.append(event["params"]["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] == "error":
                self.problems.append(str(event["params"]["args"]))

    async def goto(self, address: str) -> None:
        """Load a page; the fragment alone does not load it again."""
        for domain in ("Page", "Runtime", "Log"):
            await self.send(f"{domain}.enable")
        await self.send("Page.navigate", url=address)
        await self.wait_for("document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or of the promise that it gives, as pressed by a person."""
        result = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def wait_for(self, expression: str, seconds: float = 10.0) -> Any:
        """Wait until an expression is true."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while not (value := await self.evaluate(expression)):
            if loop.time() > end:
                text = await self.evaluate("document.body.innerText")
                raise TimeoutError(f"{expression} did not become true in {seconds} s; the page says:\n{text}")
            await asyncio.sleep(0.05)
        return value

    async def click(self, selector: str) -> None:
        """Press an element with the mouse, once it stands still; one that cannot be seen or reached is an error."""
        found = await self.evaluate(
            f"(async () => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'});"
            "let b, was; do { was = b; await new Promise(done => setTimeout(done, 20)); b = e.getBoundingClientRect();"
            "} while (!was || was.x !== b.x || was.y !== b.y);"
            "const x = b.x + b.width / 2, y = b.y + b.height / 2, top = document.elementFromPoint(x, y);"
            "return [x, y, e === top || e.contains(top) || top?.contains(e)]; })()"
        )
        assert found[2], f"{selector} is covered or outside the window"
        for kind in ("mousePressed", "mouseReleased"):
            await self.send("Input.dispatchMouseEvent", type=kind, x=found[0], y=found[1], button="left", clickCount=1)

    async def type(self, selector: str, text: str) -> None:
        """Write into a field."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, code: int, modifiers: int = 0) -> None:
        """Press a key by its name and Windows code; modifiers: 8 is Shift."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=modifiers, **extra
            )

    async def choose_file(self, selector: str, path: Path) -> None:
        """Choose a file in a file field."""
        document = await self.send("DOM.getDocument")
        node = await self.send("DOM.querySelector", nodeId=document["root"]["nodeId"], selector=selector)
        await self.send("DOM.setFileInputFiles", nodeId=node["nodeId"], files=[str(path)])

    async def resize(self, width: int, height: int, mobile: bool = False) -> None:
        """Set the window's size in CSS pixels."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )

    async def media(self, **features: str) -> None:
        """Emulate media features: prefers_color_scheme="dark"."""
        pairs = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        await self.send("Emulation.setEmulatedMedia", features=pairs)

    async def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        image = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(image["data"]))

    async def close(self) -> None:
        """Let go of the tab."""
        await self._socket.close()
        await asyncio.gather(self._reader, return_exceptions=True)


class Browser:
    """A running Chromium as one test uses it: its tabs share nothing with those of other tests."""

    def __init__(self, http: aiohttp.ClientSession, port: int) -> None:
        self._http, self._port = http, port
        self._tabs: list[Tab] = []
        self._context = ""

    async def __aenter__(self) -> Self:
        async with self._http.get(f"http://127.0.0.1:{self._port}/json/version") as answer:
            address = (await answer.json())["webSocketDebuggerUrl"]
        self._root = Tab(await self._http.ws_connect(address, max_msg_size=0))
        self._context = (await self._root.send("Target.createBrowserContext"))["browserContextId"]
        return self

    async def __aexit__(self, *error: object) -> None:
        for tab in self._tabs:
            await tab.close()
        await self._root.send("Target.disposeBrowserContext", browserContextId=self._context)
        await self._root.close()

    async def tab(self) -> Tab:
        """Open an empty tab, in front of the others."""
        made = await self._root.send("Target.createTarget", url="about:blank", browserContextId=self._context)
        address = f"ws://127.0.0.1:{self._port}/devtools/page/{made['targetId']}"
        tab = Tab(await self._http.ws_connect(address, max_msg_size=0))
        self._tabs.append(tab)
        return tab


@contextmanager
def start_chromium(camera: Path | None = None, allow: bool = True) -> Iterator[int]:
    """Run Chromium with a fake camera (a .y4m or .mjpeg file, or its own pattern); yields the port to drive it by.

    `allow` is what it answers pages that ask for camera or microphone.
    """
    folder = Path(tempfile.mkdtemp(prefix="kinecast-chromium-"))
    answer = "--use-fake-ui-for-media-stream" if allow else "--deny-permission-prompts"
    own = [f"--user-data-dir={folder}", answer, *([f"--use-file-for-fake-video-capture={camera}"] if camera else [])]
    process = subprocess.Popen(
        [find_chromium(), *_FLAGS, *own, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield _port(folder / "DevToolsActivePort", process)
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"chromium ended with code {process.returncode}")
        lines = path.read_text().splitlines() if path.exists() else []
        if lines and lines[0].isdigit():
            return int(lines[0])
        time.sleep(0.02)
    raise TimeoutError(f"chromium did not start in {_START_SECONDS} s")


@asynccontextmanager
async def drive(port: int) -> AsyncIterator[Browser]:
    """Connect to a Chromium that runs."""
    async with aiohttp.ClientSession() as http, Browser(http, port) as browser:
        yield browser
