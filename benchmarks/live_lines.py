"""A call through lines of 3, 10 and 30 kbps, with and without loss, between two network namespaces, as root.

Each end's device sends so many kilobits of IP packets per second (the kernel's token bucket, a queue of 6000 bytes);
the program that passes packets on loses its share. The line is limited from the first frames on, once connected. The
camera of one end changes its scene every few seconds: two clips in turn. What counts is what the other end sees.

    python benchmarks/live_lines.py CLIP CLIP --sheet out/lines.png --output benchmarks/results/live_lines.json

kbps are of IP packets, by the device's own count. Latency is from capture to show. A frame is frozen where nothing came
for a second. A scene is repaired when what is shown is nearer to the new scene's frame than to the old one's.
"""

import argparse
import base64
import json
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from live import Call, End, Process, figures, run
from network import Network, missing
from PIL import Image

from kinecast.apps.call.config import CameraFrame, LinkFaults, ShownFrame
from kinecast.media.video import VideoWriter, read_frames, to_tensor
from machine import describe, table, write_results

SIDE, THUMB = 256, 24  # pixels of the cameras, and of what is compared
CUT = 0.12  # mean change of a thumbnail between two frames that is another scene
SHOTS = 8  # of what was seen, in a row of the sheet
SCENE_S = 8.0


class Watcher(End):
    """An end that also says what its camera's scenes are, and what it sees."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cuts: list[dict[str, Any]] = []
        self._views: list[dict[str, Any]] = []
        self._before: np.ndarray | None = None
        self._shot = 0.0

    async def _camera(self) -> None:
        submit = self._session.submit

        def watched(frame: CameraFrame) -> None:
            small = thumbnail(frame.picture)
            if self._before is not None and np.abs(small - self._before).mean() > CUT:
                self._cuts.append({"at": time.time(), "old": text(self._before), "new": text(small)})
            self._before = small
            submit(frame)

        self._session.submit = watched  # type: ignore[method-assign]
        await super()._camera()

    def _shown(self, frame: ShownFrame) -> None:
        super()._shown(frame)
        seen: dict[str, Any] = {"at": time.time(), "state": frame.state, "small": text(thumbnail(frame.picture))}
        if time.time() - self._shot > 2.0:
            self._shot = time.time()
            seen["shot"] = base64.b85encode(np.ascontiguousarray(frame.picture[::2, ::2]).tobytes()).decode()
        self._views.append(seen)

    def extra(self) -> dict[str, Any]:
        """Return what was seen since the last second."""
        found = {"cuts": self._cuts, "seen": self._views}
        self._cuts, self._views = [], []
        return found


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Return (24, 24) in [0, 1]."""
    small = Image.fromarray(picture).convert("L").resize((THUMB, THUMB), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / 255


def text(small: np.ndarray) -> str:
    """Return a thumbnail as text."""
    return base64.b85encode((255 * small).astype(np.uint8).tobytes()).decode()


def distance(one: str, other: str) -> float:
    """Return the mean difference of two thumbnails, in grey levels."""
    both = [np.frombuffer(base64.b85decode(each), np.uint8).astype(np.float32) for each in (one, other)]
    return float(np.abs(both[0] - both[1]).mean())


def film(clips: list[Path], folder: Path, fps: int) -> Path:
    """Write the scenes of both clips in turn, 256x256."""
    path, frames = folder / "film.mp4", int(SCENE_S * fps)
    with VideoWriter(path, Fraction(fps), quality=12) as writer:
        for clip in clips:
            pictures = list(read_frames(clip, SIDE, "center", 100))
            pictures += pictures[-2:0:-1]
            for n in range(frames):
                writer.write(to_tensor(pictures[n * 25 // fps % len(pictures)][None]))
    return path


def repairs(sender: Process, watcher: Process, since: float) -> list[float | None]:
    """Return how long after each change of scene the new one was seen; None if not before the next."""
    cuts = [cut for second in sender.seconds for cut in second["cuts"] if cut["at"] > since]
    seen = [one for second in watcher.seconds for one in second["seen"]]
    found: list[float | None] = []
    for cut, end in zip(cuts, [*(cut["at"] for cut in cuts[1:]), float("inf")], strict=True):
        new = (
            one["at"]
            for one in seen
            if cut["at"] < one["at"] < end and distance(one["small"], cut["new"]) < distance(one["small"], cut["old"])
        )
        first = next(new, None)
        found.append(None if first is None else round(first - cut["at"], 2))
    return found[:-1] if found and found[-1] is None else found  # the last may have had no time


def frozen(watcher: Process, since: float) -> float:
    """Return the share of time without a frame of motion, received or forecast."""
    times = [one["at"] for second in watcher.seconds for one in second["seen"] if one["state"] != "frozen"]
    gaps = np.diff([since, *(at for at in times if at > since)])
    return float(gaps[gaps > 0.5].sum() / max(times[-1] - since, 1e-3)) if len(gaps) else 1.0


def one_call(args: argparse.Namespace, kbps: float, loss: float, budget: float | None) -> tuple[dict[str, Any], Any]:
    """Make a call; returns its figures, of what the guest sees, and shots of that."""
    with tempfile.TemporaryDirectory() as name, Network() as network:
        scenes = film(args.clips, Path(name), int(args.fps))
        settings = {"clip": str(scenes)}, {"clip": str(args.clips[-1])}
        call = Call(args, Path(name), args.seconds, None, network, settings, kbps=budget)
        since, before = time.time(), [network.sent(0), network.sent(1)]
        network.limit(kbps)
        network.set(LinkFaults(loss=loss))
        time.sleep(args.seconds - 6)
        seconds = time.time() - since
        sent = [8 * (network.sent(end) - at) / 1000 / seconds for end, at in enumerate(before)]
        host, guest = call.finish(20)
        found = figures(guest)
        states = [one["state"] for second in guest.seconds for one in second["seen"] if one["at"] > since]
        found |= {
            "line_kbps": kbps,
            "line_loss": loss,
            "budget_kbps": budget,
            "ip_kbps": sent,
            "received": states.count("received") / seconds,
            "frozen": frozen(guest, since),
            "repairs_s": repairs(host, guest, since),
            "rate_found_kbps": host.seconds[-1]["stats"]["line_kbps"],
            "load": describe()["load_before"],
        }
        shots = [
            one["shot"] for second in guest.seconds for one in second["seen"] if "shot" in one and one["at"] > since
        ]
        return found, shots[:SHOTS]


def sheet(rows: list[list[str]], path: Path) -> None:
    """Write what was seen, a row for each call."""
    side = SIDE // 2
    canvas = np.zeros((side * len(rows), side * SHOTS, 3), np.uint8)
    for y, row in enumerate(rows):
        for x, shot in enumerate(row):
            pixels = np.frombuffer(base64.b85decode(shot), np.uint8)
            found = Image.fromarray(pixels.reshape(round((len(pixels) / 3) ** 0.5), -1, 3)).resize((side, side))
            canvas[y * side : (y + 1) * side, x * side : (x + 1) * side] = found
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(canvas).save(path)


def main() -> None:
    """Make all calls, print the table, write figures and sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs=2, type=Path, help="the scenes of one end's camera; the other's is the second")
    parser.add_argument("--model", default="face-128", help="name or file (%(default)s)")
    parser.add_argument("--engine", default="fast")
    parser.add_argument("--precision", default="exact")
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--jitter-ms", type=float, default=60.0)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--lines", type=float, nargs="+", default=[3.0, 10.0, 30.0], help="kbps")
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--estimate", action="store_true", help="give no budget: the rate is found")
    parser.add_argument("--sheet", type=Path, help="PNG of what was seen")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    Process.script = __file__
    calls, rows = [], []
    for kbps in args.lines:
        for loss in args.losses:
            found, shots = one_call(args, kbps, loss, None if args.estimate else 0.9 * kbps)
            calls.append(found)
            rows.append(shots)
            print(json.dumps({key: value for key, value in found.items() if key != "rss_mib"}), flush=True)
    head = [
        "line",
        "loss",
        "IP kbps sent",
        "back",
        "frames received / s",
        "p50 ms",
        "p95 ms",
        "lost",
        "frozen",
        "repairs, s",
    ]
    lines = [
        [
            f"{call['line_kbps']:g} kbps",
            f"{100 * call['line_loss']:.0f} %",
            *(f"{one:.1f}" for one in call["ip_kbps"]),
            f"{call['received']:.1f}",
            *(f"{call[key]:.0f}" for key in ("latency_ms_p50", "latency_ms_p95")),
            *(f"{100 * call[key]:.0f} %" for key in ("loss", "frozen")),
            ", ".join("-" if one is None else f"{one:.1f}" for one in call["repairs_s"]),
        ]
        for call in calls
    ]
    print(table(head, lines))
    if args.sheet is not None:
        sheet(rows, args.sheet)
    write_results(args.output, {"machine": describe(), "model": args.model, "fps": args.fps, "calls": calls})


if __name__ == "__main__":
    run(main, Watcher)
