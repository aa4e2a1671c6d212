"""A call between two people on this machine: `kinecast serve`, two `kinecast call`, two headless Chromium with clips as
cameras. What each page shows a second, glass to glass latency by frame numbers, bytes, memory, and screenshots.

Latency is from the moment at which one page had a camera frame to the moment at which the other drew what was made of
it; both read the same machine's clock. Frames are matched by their time of capture, which travels to half a frame
period. The camera's and the display's own time are left out.

    python benchmarks/live_browser.py --clips ../shared/data/portraits/portrait_0.mp4 \
        ../shared/data/portraits/woman_pink.mp4 --seconds 120 --pictures out/live --output benchmarks/results/live.json
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
from machine import describe, table, write_results

from kinecast.video import probe, read_frames

sys.path.append(str(Path(__file__).parents[1] / "tests" / "live"))
from browser import Tab, drive, start_chromium  # noqa: E402

SIZE = 480  # pixels a side of the fake camera
START_SECONDS = 60.0  # loading the model, while another process does too
LISTEN = """(() => { window.seen = { taken: [], shown: [], stats: [] };
  for (const name of ['taken', 'shown', 'stats'])
    document.addEventListener(`kinecast:${name}`, ({ detail }) => window.seen[name].push(detail)); })()"""


def write_camera(clip: Path, path: Path, frames: int = 150) -> Path:
    """Write a clip, forwards then backwards, as the Y4M file that Chromium plays in a loop: no cut, and no decoding."""
    rate, written = probe(clip).fps, list[bytes]()
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{SIZE} H{SIZE} F{round(rate * 1000)}:1000 Ip A1:1 C420jpeg\n".encode())
        for frame in read_frames(clip, SIZE, "center", frames):
            planes: Any = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
            rows = [np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size) for plane in planes.planes]
            bare = [row[:, : plane.width].tobytes() for row, plane in zip(rows, planes.planes, strict=True)]
            written.append(b"FRAME\n" + b"".join(bare))
        file.writelines([*written, *written[-2:0:-1]])
    return path


class Program:
    """A `kinecast` process whose lines on stderr are kept."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process, self.lines = process, list[str]()
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip())

    async def says(self, what: str) -> str:
        """Wait for a line with `what` in it."""
        async with asyncio.timeout(START_SECONDS):
            while not (found := [line for line in self.lines if what in line]):
                if self.process.returncode is not None:
                    sys.exit("\n".join(self.lines))
                await asyncio.sleep(0.05)
        return found[0]

    @property
    def memory(self) -> float:
        """Resident size in MiB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    @property
    def seconds(self) -> float:
        """Processor time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


@asynccontextmanager
async def program(*arguments: str) -> AsyncIterator[Program]:
    """Run `kinecast` with arguments until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kinecast", *arguments, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


async def open_page(tab: Tab, address: str) -> None:
    """Open a call's page and wait until its model is loaded and its camera is on."""
    await tab.resize(1280, 860)
    await tab.goto(address)
    await tab.evaluate(LISTEN)
    await tab.wait_for("document.body.dataset.state === 'ready'", START_SECONDS)
    await tab.wait_for("document.getElementById('mine').videoWidth > 0")


async def connect(host: Tab, guest: Tab) -> float:
    """Invite and join; returns the seconds from joining to the first picture on both pages."""
    await host.click("#host-form button")
    await host.wait_for("document.getElementById('hand-over-text').value && document.body.dataset.state === 'waiting'")
    await guest.type("#invitation", await host.evaluate("document.getElementById('hand-over-text').value"))
    started = asyncio.get_running_loop().time()
    await guest.click("#join-form button")
    for tab in (host, guest):
        await tab.wait_for("window.seen.shown.length > 0", 30)
    return asyncio.get_running_loop().time() - started


async def figures_of(tab: Tab) -> dict[str, Any]:
    """Take the frames that were taken and shown, and the figures that were reported, since the last time."""
    return await tab.evaluate(
        "(() => { const seen = window.seen; window.seen = { taken: [], shown: [], stats: [] }; return seen; })()"
    )


def kbps(stats: list[dict[str, Any]], name: str) -> dict[str, float]:
    """Return the rate of each channel between the first and the last report: bytes counted on the channels."""
    first, last = stats[0], stats[-1]
    seconds = last["seconds"] - first["seconds"]
    return {key: (last[name][key] - first[name][key]) * 8 / 1000 / seconds for key in last[name]}


def summarise(taken: list[dict[str, Any]], shown: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Return what one page showed of the other's camera: `taken` there, `shown` here."""
    times = {frame["number"]: frame["time"] for frame in taken}
    states = [frame["state"] for frame in shown]
    # A page numbers its camera's frames; the session sends on the time of capture, by which frames are found again.
    captured = np.array([frame["captured"] for frame in taken])
    numbers = [frame["number"] for frame in taken]
    latency = []
    for frame in shown:
        if frame["state"] == "received" and frame["captured"] and len(captured):
            nearest = int(np.abs(captured - frame["captured"]).argmin())
            if abs(captured[nearest] - frame["captured"]) < 40:
                latency.append(frame["time"] - times[numbers[nearest]])
    return {
        "shown_fps": len(shown) / seconds,
        "camera_fps": len(taken) / seconds,
        "states": {state: states.count(state) / max(len(states), 1) for state in sorted(set(states))},
        "latency_ms_p50": float(np.percentile(latency, 50)) if latency else None,
        "latency_ms_p95": float(np.percentile(latency, 95)) if latency else None,
        "latency_frames": len(latency),
        "longest_gap_ms": float(np.diff([frame["time"] for frame in shown]).max()) if len(shown) > 1 else None,
    }


def reported(stats: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the session itself counted while it was measured."""
    last = stats[-1]
    return {
        "kbps_sent": kbps(stats, "bytes_sent"),
        "kbps_received": kbps(stats, "bytes_received"),
        "loss": float(np.mean([entry["loss"] for entry in stats])),
        "dropped_camera": last["dropped_camera"] - stats[0]["dropped_camera"],
        "dropped_late": last["dropped_late"] - stats[0]["dropped_late"],
        "pictures_sent": last["pictures_sent"] - stats[0]["pictures_sent"],
        "session_latency_ms_p50": last["latency_ms_p50"],
        "longest_queues": {key: max(entry["queues"][key] for entry in stats) for key in last["queues"]},
    }


async def measure(tabs: list[Tab], programs: list[Program], seconds: float) -> dict[str, Any]:
    """Let the call run, asking each second for memory; the pages are left alone meanwhile."""
    before = [program.seconds for program in programs]
    for tab in tabs:
        await figures_of(tab)
    loop = asyncio.get_running_loop()
    started, memory = loop.time(), list[list[float]]()
    while loop.time() - started < seconds:
        await asyncio.sleep(1)
        memory.append([round(loop.time() - started, 1), *(round(program.memory, 1) for program in programs)])
    found = [await figures_of(tab) for tab in tabs]
    took = loop.time() - started
    ends = [summarise(found[1 - i]["taken"], found[i]["shown"], took) | reported(found[i]["stats"]) for i in (0, 1)]
    return {
        "seconds": took,
        "ends": ends,
        "cpu_share": [(program.seconds - b) / took for program, b in zip(programs, before, strict=True)],
        "memory_mib": memory,
    }


async def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the call."""
    cameras = [write_camera(clip, folder / f"{i}.y4m") for i, clip in enumerate(args.clips)]
    pictures: Path = args.pictures
    pictures.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(program("serve", "--port", str(args.port)))
        address = f"http://127.0.0.1:{args.port}"
        await server.says("listening")
        calls = [
            await stack.enter_async_context(program("call", "--no-browser", "--server", address, *args.options))
            for _ in range(2)
        ]
        tabs = []
        for call, camera in zip(calls, cameras, strict=True):
            line = await call.says("http://127.0.0.1")
            browser = await stack.enter_async_context(drive(stack.enter_context(start_chromium(camera))))
            tabs.append(await browser.tab())
            await open_page(tabs[-1], line.split()[-1])
        await tabs[0].screenshot(pictures / "before.png")
        connected = await connect(*tabs)
        await asyncio.sleep(3)
        await tabs[0].screenshot(pictures / "during.png")
        results: dict[str, Any] = {"connected_s": connected}
        results["call"] = await measure(tabs, calls, args.seconds)
        await tabs[0].screenshot(pictures / "after-a-while.png")
        results["outage"] = await outage(tabs, calls, pictures)
        await narrow_and_dark(tabs, pictures)
        await tabs[0].click("#hang-up")
        for tab, name in zip(tabs, ("hung-up", "other-hung-up"), strict=True):
            await tab.wait_for("document.body.dataset.view === 'lobby'")
            await asyncio.sleep(0.5)
            await tab.screenshot(pictures / f"{name}.png")
        results["problems"] = [tab.problems for tab in tabs]
    return results


async def outage(tabs: list[Tab], calls: list[Program], pictures: Path) -> dict[str, Any]:
    """Stop the guest's process for five seconds, as a sleeping machine does, and see how long the host takes after."""
    loop = asyncio.get_running_loop()
    stopped = psutil.Process(calls[1].process.pid)
    stopped.suspend()
    await asyncio.sleep(0.7)
    await tabs[0].screenshot(pictures / "loss.png")
    await asyncio.sleep(4.3)
    await tabs[0].screenshot(pictures / "reconnecting.png")
    stopped.resume()
    started = loop.time()
    await figures_of(tabs[0])
    await tabs[0].wait_for("window.seen.shown.some(({ state }) => state === 'received')", 30)
    recovered = loop.time() - started
    await asyncio.sleep(2)
    await tabs[0].screenshot(pictures / "recovered.png")
    return {"outage_s": 5.0, "recovered_s": recovered}


async def narrow_and_dark(tabs: list[Tab], pictures: Path) -> None:
    """Take pictures of the other looks."""
    await tabs[0].media(prefers_color_scheme="dark")
    await asyncio.sleep(0.5)
    await tabs[0].screenshot(pictures / "dark.png")
    await tabs[0].resize(360, 740, mobile=True)
    await asyncio.sleep(0.5)
    await tabs[0].screenshot(pictures / "narrow-dark.png")
    await tabs[0].media(prefers_color_scheme="light")
    await asyncio.sleep(0.5)
    await tabs[0].screenshot(pictures / "narrow.png")
    await tabs[0].resize(1280, 860)


def main() -> int:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs=2, required=True, metavar="CLIP", help="each end's camera")
    parser.add_argument("--seconds", type=float, default=120, help="(%(default)s)")
    parser.add_argument("--port", type=int, default=8719, help="of the room server (%(default)s)")
    parser.add_argument("--pictures", type=Path, default=Path("out/live"), help="folder of screenshots (%(default)s)")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of `kinecast call`, the last argument")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as name:
        found = asyncio.run(run(args, Path(name)))
    rows = []
    for end, clip in zip(found["call"]["ends"], reversed(args.clips), strict=True):
        p50, p95 = (f"{end[key]:.0f}" if end[key] is not None else "-" for key in ("latency_ms_p50", "latency_ms_p95"))
        received = f"{end['kbps_received']['total']:.1f}"
        rows.append([f"sees {clip.stem}", f"{end['shown_fps']:.1f}", p50, p95, received, f"{end['loss']:.1%}"])
    print(table(["page", "fps shown", "latency ms p50", "p95", "kbps received", "loss"], rows))
    memory = np.array(found["call"]["memory_mib"])
    print(
        f"connected in {found['connected_s']:.1f} s, recovered {found['outage']['recovered_s']:.1f} s after an outage"
    )
    print(f"memory of the two processes, MiB: {memory[0, 1:]} at first, {memory[-1, 1:]} at last")
    write_results(args.output, {"machine": machine, "clips": [clip.name for clip in args.clips], **found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
