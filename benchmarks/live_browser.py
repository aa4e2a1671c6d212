"""A call between two people on this machine: `kinecast serve`, two `kinecast call`, two headless Chromium with clips as
cameras. What each page shows a second, glass to glass latency by frame numbers, bytes, processor time, memory of every
process once a second, and screenshots.

Latency is from the moment at which one page had a camera frame to the moment at which the other drew what was made of
it; both read the same machine's clock. Frames are matched by their time of capture, which travels to half a frame
period. The camera's and the display's own time are left out.

With --alone only the first end has a page and a model that runs; the second is `live_peer.py`, which sends the motion
of its clip as detected beforehand and draws nothing: what one end reaches that has the machine to itself.

    python benchmarks/live_browser.py --clips ../shared/data/portraits/portrait_0.mp4 \
        ../shared/data/portraits/woman_pink.mp4 --seconds 120 --pictures out/live --output benchmarks/results/live.json
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from kinecast.media.video import probe, read_frames
from machine import describe, table, write_results

sys.path.append(str(Path(__file__).parents[1] / "tests" / "apps" / "call"))
from browser import Tab, drive, start_chromium  # noqa: E402

PEER = Path(__file__).with_name("live_peer.py")
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


class Meter:
    """Memory and processor time of a process with those that it had started when the meter was made."""

    def __init__(self, name: str, process: psutil.Process) -> None:
        self.name = name
        self._processes = [process, *process.children(recursive=True)]

    def _sum(self, read: Callable[[psutil.Process], float]) -> float:
        total = 0.0
        for process in self._processes:
            with suppress(psutil.NoSuchProcess):  # browsers end helpers that they no longer need
                total += read(process)
        return total

    def memory(self) -> float:
        """Resident size in MiB; what processes share counts in each."""
        return self._sum(lambda process: process.memory_info().rss) / 2**20

    def seconds(self) -> float:
        """Processor time so far."""
        return self._sum(lambda process: sum(process.cpu_times()[:2]))


def program_meter(name: str, program: Program) -> Meter:
    """Return the meter of a `kinecast` process."""
    return Meter(name, psutil.Process(program.process.pid))


def page_meter(name: str, camera: Path) -> Meter:
    """Return the meter of the Chromium that has this camera: browser, renderer and helpers."""
    mine = psutil.Process().children()
    return Meter(name, next(process for process in mine if any(str(camera) in word for word in process.cmdline())))


@asynccontextmanager
async def program(*arguments: str, script: Path | None = None) -> AsyncIterator[Program]:
    """Run `kinecast`, or a script, with arguments until the block ends."""
    what = [str(script)] if script else ["-m", "kinecast"]
    process = await asyncio.create_subprocess_exec(sys.executable, *what, *arguments, stderr=asyncio.subprocess.PIPE)
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


async def invite(host: Tab) -> str:
    """Return an invitation."""
    await host.click("#host-form button")
    await host.wait_for("document.getElementById('hand-over-text').value && document.body.dataset.state === 'waiting'")
    return await host.evaluate("document.getElementById('hand-over-text').value")


async def connect(host: Tab, guest: Tab) -> float:
    """Invite and join; returns the seconds from joining to the first picture on both pages."""
    await guest.type("#invitation", await invite(host))
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


async def watch(tabs: list[Tab], meters: list[Meter], seconds: float) -> dict[str, Any]:
    """Let the call run; returns what each page saw, and memory each second and processor time of each process."""
    loop = asyncio.get_running_loop()
    for tab in tabs:
        await figures_of(tab)
    before, started = [meter.seconds() for meter in meters], loop.time()
    times, memory = list[float](), list[list[float]]()
    seen: list[dict[str, list[Any]]] = [{"taken": [], "shown": [], "stats": []} for _ in tabs]
    while loop.time() - started < seconds:
        await asyncio.sleep(1)
        times.append(loop.time() - started)
        memory.append([meter.memory() for meter in meters])
        if len(times) % 10 == 0 or times[-1] >= seconds:  # not kept in the page, whose memory is measured
            for one, tab in zip(seen, tabs, strict=True):
                for name, details in (await figures_of(tab)).items():
                    one[name] += details
    took = loop.time() - started
    used = [meter.seconds() - start for meter, start in zip(meters, before, strict=True)]
    return {
        "seconds": took,
        "seen": seen,
        "cpu_share": {meter.name: u / took for meter, u in zip(meters, used, strict=True)},
        "memory_mib": {
            meter.name: flatness(np.array(times), np.array(column))
            for meter, column in zip(meters, zip(*memory, strict=True), strict=True)
        },
    }


def flatness(times: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """Return how a size changed over time: extremes, first and last minute, and the slope by least squares."""
    return {
        "min": float(sizes.min()),
        "max": float(sizes.max()),
        "first_minute": float(sizes[times <= times[0] + 60].mean()),
        "last_minute": float(sizes[times >= times[-1] - 60].mean()),
        "per_minute": float(60 * np.polyfit(times, sizes, 1)[0]) if len(sizes) > 1 else 0.0,
        "samples": [round(float(size), 1) for size in sizes],
    }


async def measure(tabs: list[Tab], meters: list[Meter], seconds: float) -> dict[str, Any]:
    """Measure a call between two pages."""
    found = await watch(tabs, meters, seconds)
    seen, took = found.pop("seen"), found["seconds"]
    ends = [summarise(seen[1 - i]["taken"], seen[i]["shown"], took) | reported(seen[i]["stats"]) for i in (0, 1)]
    return {**found, "ends": ends}


async def measure_alone(tab: Tab, meters: list[Meter], seconds: float) -> dict[str, Any]:
    """Measure a call between one page and `live_peer.py`, whose camera has no page that could say when."""
    found = await watch([tab], meters, seconds)
    (seen,), took = found.pop("seen"), found["seconds"]
    taken = [{"number": i, "captured": f["captured"], "time": f["captured"]} for i, f in enumerate(seen["shown"])]
    end = summarise(taken, seen["shown"], took) | reported(seen["stats"])
    return {**found, "ends": [end | {"camera_fps": len(seen["taken"]) / took}]}


async def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Make the call."""
    cameras = [write_camera(clip, folder / f"{i}.y4m") for i, clip in enumerate(args.clips)]
    args.pictures.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(program("serve", "--port", str(args.port)))
        address = f"http://127.0.0.1:{args.port}"
        await server.says("listening")
        tabs, calls, meters = [], [], []
        for who, camera in zip(("host", "guest")[: 1 if args.alone else 2], cameras, strict=False):
            options = ("--no-browser", "--server", address, "--model", args.model, *args.options)
            calls.append(await stack.enter_async_context(program("call", *options)))
            line = await calls[-1].says("http://127.0.0.1")
            browser = await stack.enter_async_context(drive(stack.enter_context(start_chromium(camera))))
            tabs.append(await browser.tab())
            await open_page(tabs[-1], line.split()[-1])
            meters += [program_meter(who, calls[-1]), page_meter(f"{who}'s page", camera)]
        await tabs[0].screenshot(args.pictures / "before.png")
        if args.alone:
            return await run_alone(args, stack, tabs[0], meters)
        return await run_both(args, tabs, calls, meters)


async def run_alone(args: argparse.Namespace, stack: AsyncExitStack, tab: Tab, meters: list[Meter]) -> dict[str, Any]:
    """Call a peer that detects and draws nothing."""
    invitation = await invite(tab)
    peer = await stack.enter_async_context(program(str(args.clips[1]), invitation, args.model, script=PEER))
    await tab.wait_for("window.seen.shown.length > 0", START_SECONDS)
    await asyncio.sleep(3)
    found = {"call": await measure_alone(tab, [*meters, program_meter("the light peer", peer)], args.seconds)}
    await tab.screenshot(args.pictures / "alone.png")
    return found | {"problems": [tab.problems]}


async def run_both(
    args: argparse.Namespace, tabs: list[Tab], calls: list[Program], meters: list[Meter]
) -> dict[str, Any]:
    """Let two pages call each other, then break the link, and look at the page in other lights and widths."""
    pictures: Path = args.pictures
    connected = await connect(*tabs)
    await asyncio.sleep(3)
    await tabs[0].screenshot(pictures / "during.png")
    results: dict[str, Any] = {"connected_s": connected}
    results["call"] = await measure(tabs, meters, args.seconds)
    await tabs[0].screenshot(pictures / "after-a-while.png")
    results["outage"] = await outage(tabs, calls, pictures)
    await narrow_and_dark(tabs, pictures)
    await tabs[0].click("#hang-up")
    for tab, name in zip(tabs, ("hung-up", "other-hung-up"), strict=True):
        await tab.wait_for("document.body.dataset.view === 'lobby'")
        await asyncio.sleep(0.5)
        await tab.screenshot(pictures / f"{name}.png")
    return results | {"problems": [tab.problems for tab in tabs]}


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
    parser.add_argument("--model", default="face-128", help="name or file (%(default)s)")
    parser.add_argument("--alone", action="store_true", help="one end and its page, with a peer that does no work")
    parser.add_argument("--seconds", type=float, default=120, help="(%(default)s)")
    parser.add_argument("--port", type=int, default=8719, help="of the room server (%(default)s)")
    parser.add_argument("--pictures", type=Path, default=Path("out/live"), help="folder of screenshots (%(default)s)")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of `kinecast call`, the last argument")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    with tempfile.TemporaryDirectory() as name:
        found = asyncio.run(run(args, Path(name)))
    print_tables(args, found)
    clips = [clip.name for clip in args.clips]
    write_results(args.output, {"machine": machine, "model": args.model, "alone": args.alone, "clips": clips, **found})
    return 0


def print_tables(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """Print what is in docs/results/live.md."""
    call, alone = found["call"], args.alone
    rows = []
    for end, clip in zip(call["ends"], reversed(args.clips), strict=False):
        p50, p95 = (f"{end[key]:.0f}" if end[key] is not None else "-" for key in ("latency_ms_p50", "latency_ms_p95"))
        received = f"{end['kbps_received']['total']:.1f}"
        who = f"{args.model} alone, sees {clip.stem}" if alone else f"{args.model}, sees {clip.stem}"
        rows.append([who, f"{end['shown_fps']:.1f}", p50, p95, received, f"{end['loss']:.1%}"])
    print(table(["page", "fps shown", "latency ms p50", "p95", "kbps received", "loss"], rows), "\n")
    rows = []
    for i, (name, memory) in enumerate(call["memory_mib"].items()):
        end = call["ends"][min(i // 2, len(call["ends"]) - 1)]
        sizes = [f"{memory[key]:.0f}" for key in ("min", "max", "first_minute", "last_minute")]
        share = call["cpu_share"][name]
        per_frame = f"{1000 * share / end['shown_fps']:.1f}" if end["shown_fps"] else "-"
        rows.append([name, f"{share:.2f}", per_frame, *sizes, f"{memory['per_minute']:+.2f}"])
    head = ["process", "cores", "ms a shown frame", "MiB, least", "most", "first minute", "last minute", "MiB a minute"]
    print(table(head, rows))
    if not alone:
        after = f"{found['outage']['recovered_s']:.1f} s after an outage"
        print(f"\nconnected in {found['connected_s']:.1f} s, frames again {after}")


if __name__ == "__main__":
    sys.exit(main())
