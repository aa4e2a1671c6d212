"""Peak memory of `kinecast extract` and `kinecast animate` on a short and a long clip: it must not grow with the clip.

Each command runs as its own process; its peak resident memory is what the system says of it when it has ended. Exit
code 1 if the long clip needs more than 1.1 times the memory of the short one.

    python benchmarks/memory.py --output benchmarks/results/memory.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from machine import describe, table, write_results

BUNDLED = "face-128"
LIMIT = 1.1

# A small process between: a child of this one could inherit its peak, which numpy and av have raised.
MEASURE = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"code": code, "bytes": peak * (1 if sys.platform == "darwin" else 1024)}))
"""

# Random weights of the bundled model's sizes: memory does not depend on their values.
STAND_IN = """
import sys
from kinecast.models.checkpoints import save_backbone
from kinecast.models.fomm import FOMM
from kinecast.training.backbone import compact_recipe
save_backbone(FOMM(compact_recipe(data=("none",)).model), sys.argv[1], {})
"""


def draw_clip(path: Path, frames: int, size: int = 128) -> Path:
    """Write an mp4 of a moving pattern, 25 fps."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for t in range(frames):
            phase = 2 * np.pi * t / 50
            channels = [np.sin(6 * x + phase), np.cos(5 * y - phase), np.sin(4 * (x + y) + 2 * phase)]
            picture = np.rint(127.5 + 127.5 * np.stack(channels, axis=-1)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def run(arguments: list[str]) -> dict[str, float]:
    """Run `kinecast` with arguments; return its peak in MiB and its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "kinecast", *arguments]
    said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    if said["code"]:
        sys.exit(f"kinecast {' '.join(arguments)}: exit code {said['code']}")
    return {"peak_mib": said["bytes"] / 2**20, "seconds": time.perf_counter() - started}


def usable_model(name: str, folder: Path) -> tuple[str, str]:
    """Return the model to pass on and what its weights are."""
    if name == BUNDLED:
        listed = subprocess.run([sys.executable, "-m", "kinecast", "zoo", "list"], capture_output=True, text=True)
        if BUNDLED not in listed.stdout:
            print(f"{BUNDLED} is not bundled yet; random weights of its sizes instead", file=sys.stderr)
            path = folder / "stand-in.safetensors"
            subprocess.run([sys.executable, "-c", STAND_IN, str(path)], check=True)
            return str(path), "random"
    return name, "trained"


def main() -> int:
    """Measure, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUNDLED, help="name or file (%(default)s)")
    parser.add_argument("--frames", type=int, nargs=2, default=(300, 6000), metavar=("SHORT", "LONG"))
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    short, long = args.frames
    machine = describe()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, weights = usable_model(args.model, folder)
        clips = {frames: draw_clip(folder / f"{frames}.mp4", frames) for frames in (short, long)}
        for command in ("extract", "animate"):
            figures[command] = {}
            for frames, clip in clips.items():
                inputs = [str(clip), "-o", str(folder / "motion.npz")]
                if command == "animate":
                    inputs = ["--driving", str(clip), "-o", str(folder / "out.mp4")]
                figures[command][str(frames)] = run([command, *inputs, "--model", model, "--device", "cpu"])
            peaks = [figures[command][str(frames)]["peak_mib"] for frames in (short, long)]
            figures[command]["ratio"] = peaks[1] / peaks[0]
    rows = [
        [
            f"kinecast {command}",
            *(f"{figure[str(frames)]['peak_mib']:.0f}" for frames in (short, long)),
            f"{figure['ratio']:.3f}",
            f"{figure[str(long)]['seconds']:.0f}",
        ]
        for command, figure in figures.items()
    ]
    print(table(["command", f"MiB, {short} frames", f"MiB, {long} frames", "ratio", "s, the long one"], rows))
    results = {"machine": machine, "model": args.model, "weights": weights, "limit": LIMIT, "commands": figures}
    write_results(args.output, results)
    worst = max(figure["ratio"] for figure in figures.values())
    if worst > LIMIT:
        print(f"expected a ratio of at most {LIMIT}, found {worst:.3f}", file=sys.stderr)
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
