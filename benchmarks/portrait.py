"""Memory and time of `kinecast animate` with a portrait: the square alone, and put back into pictures of 1 to 12 MP.

The portrait is scikit-image's astronaut, enlarged, and driven by herself, leaning. Each case runs as its own process on
a short and a long clip: memory must not grow with the clip, and stay below 1.5 GB. Seconds are of processor time for
one more frame, so that other work on the machine counts little; load is the machine's mean of fifteen minutes. Exit
code 1 if memory is above either bound. With
--output, what is measured is kept after each case, and a run that was interrupted goes on. Both clips are longer than
what the encoder looks ahead (some fifty frames), whose pictures would pass for growth.

    python benchmarks/portrait.py --output benchmarks/results/portrait.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage.data import astronaut

from kinecast.media.pictures import write_image
from kinecast.media.writer import VideoWriter
from machine import describe, table, write_results

GROWTH, MOST_MIB = 1.15, 1536
FPS = 25

# A small process between: a child of this one could inherit its peak.
MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
scale = 1 if sys.platform == "darwin" else 1024
print(json.dumps({"code": code, "mib": used.ru_maxrss * scale / 2**20, "cpu": used.ru_utime + used.ru_stime}))
"""


def pictures(folder: Path) -> dict[str, Path]:
    """Write the portrait at 1 and 12 megapixels, and in a picture of 3840x2160."""
    paths = {}
    for name, side, width in (("1 MP", 1024, 1024), ("4K", 2160, 3840), ("12 MP", 3464, 3464)):
        paths[name] = folder / f"{side}.jpg"
        head = np.array(Image.fromarray(astronaut()).resize((side, side), Image.Resampling.LANCZOS))
        write_image(paths[name], np.pad(head, ((0, 0), ((width - side) // 2,) * 2, (0, 0)), mode="reflect"))
    return paths


def draw_clip(path: Path, frames: int) -> Path:
    """Write a clip at 256x256 in which the astronaut's head leans to and fro, 25 fps."""
    head = Image.fromarray(np.ascontiguousarray(astronaut()[:300, 74:374]))
    with VideoWriter(path, FPS) as writer:
        for t in range(frames):
            turned = head.rotate(10 * np.sin(t / 6), Image.Resampling.BILINEAR).crop((22, 22, 278, 278))
            writer.write(np.array(turned))
    return path


def run(options: list[str]) -> dict[str, float]:
    """Run `kinecast animate` with options; return its peak in MiB and its seconds of processor time."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "kinecast", "animate", *options]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if said.pop("code"):
        sys.exit(f"kinecast animate {' '.join(options)}: it failed")
    return dict(said)


def kept(path: Path | None, results: dict[str, Any]) -> dict[str, Any]:
    """Return the cases that an earlier run of the same options has measured."""
    if path is None or not path.exists():
        return {}
    before = json.loads(path.read_text())
    same = all(before.get(name) == results[name] for name in ("frames", "engine"))
    return dict(before["cases"]) if same else {}


def main() -> int:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs=2, default=(80, 240), metavar=("SHORT", "LONG"))
    parser.add_argument("--engine", default="fast", help="of the backbone (%(default)s)")
    parser.add_argument("--cases", nargs="+", help="measure only these, by their names in the table")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    results: dict[str, Any] = {"machine": describe(), "frames": list(args.frames), "engine": args.engine}
    results |= {"growth": GROWTH, "most_mib": MOST_MIB}
    figures = kept(args.output, results)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = pictures(folder)
        clips = [draw_clip(folder / f"{frames}.mp4", frames) for frames in args.frames]
        cases = {
            "square of 256": ("1 MP", ["--size", "256"]),
            "square of 512": ("1 MP", ["--size", "512"]),
            "square of 1024": ("12 MP", ["--size", "1024"]),
            "whole, 1 MP": ("1 MP", []),
            "whole, 4K": ("4K", []),
            "whole, 12 MP": ("12 MP", []),
        }
        for case, (picture, options) in cases.items():
            if case in figures or (args.cases and case not in args.cases):
                continue
            common = ["--source", str(sources[picture]), "--model", "mesh", "--engine", args.engine, *options]
            short, long = (
                run([*common, "--driving", str(clip), "-o", str(folder / "out.mp4"), "--device", "cpu"])
                for clip in clips
            )
            figures[case] = {
                "mib": [short["mib"], long["mib"]],
                "growth": long["mib"] / short["mib"],
                "cpu_seconds_a_frame": (long["cpu"] - short["cpu"]) / (args.frames[1] - args.frames[0]),
                "load": round(os.getloadavg()[2], 1),
            }
            write_results(args.output, {**results, "cases": figures})
    rows = []
    for case, f in figures.items():
        seconds = f["cpu_seconds_a_frame"]
        mib = [f"{mib:.0f}" for mib in f["mib"]]
        rows.append(
            [case, *mib, f"{f['growth']:.3f}", f"{1000 * seconds:.0f}", f"{FPS * seconds:.1f}", f"{f['load']:.0f}"]
        )
    heads = ["output", *(f"MiB, {frames} frames" for frames in args.frames), "growth", "CPU ms per frame"]
    print(table([*heads, f"CPU s per second at {FPS} fps", "load"], rows))
    bad = [case for case, f in figures.items() if f["growth"] > GROWTH or max(f["mib"]) > MOST_MIB]
    if bad:
        print(
            f"expected at most {MOST_MIB} MiB and a growth of {GROWTH}, found more: {', '.join(bad)}", file=sys.stderr
        )
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
