"""Frames per second of `mesh` from clip to pictures: face landmarks, motion and rendering of every frame.

The clip is the one that `kinecast demo` uses, the source its first frame; reading and writing files are left out. Each
round runs every engine in turn, so that other work on the machine falls on all of them. The median round counts, and
beside it the least time of the processors that a frame took, which other work changes little. Differences are from the
pictures of plain torch in [0, 1]. int8 is calibrated on every second batch of frames and measured on the others.

    python benchmarks/mesh_speed.py --output benchmarks/results/mesh_speed.json
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from kinecast import load_backbone
from kinecast.cli.demo import shipped_clip
from kinecast.errors import KinecastError
from kinecast.media.video import read_batches
from kinecast.models.base import Backbone
from kinecast.runtime import TOLERANCES, accelerate
from kinecast.runtime.calibration import calibrate
from machine import describe, table, write_results

BATCH = 8


PAIRS = (("fast", "exact"), ("fast", "bf16"), ("openvino", "exact"), ("openvino", "bf16"), ("openvino", "int8"))


class Run:
    """One engine, and what its rounds took."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.name = f"{backbone.engine} {backbone.precision}"
        self.seconds: list[float] = []
        self.cpu: list[float] = []

    def __call__(self, batches: list[torch.Tensor]) -> torch.Tensor:
        """Detect and animate all frames, from a source encoded once; return the pictures."""
        own = self.backbone.detect(batches[0][:1])
        state = self.backbone.encode_source(batches[0][:1])
        started, busy = time.perf_counter(), time.process_time()
        detect = self.backbone.follow()
        shown = [self.backbone.animate(state, own, detect(frames)) for frames in batches]
        self.seconds.append(time.perf_counter() - started)
        self.cpu.append(time.process_time() - busy)
        return torch.cat(shown)


def runs(model: str, frames: list[torch.Tensor], names: list[str]) -> list[Run]:
    """Return every engine of these names that can be had here; those that cannot are said."""
    plain, found = load_backbone(model, "cpu", "eager"), []
    for engine, precision in PAIRS:
        if engine not in names:
            continue
        try:
            if precision == "int8":
                calibrate(plain, frames, 100)
            found.append(Run(accelerate(plain, engine, precision)))
        except KinecastError as error:
            print(f"{engine} {precision}: {error}", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mesh", help="name or file (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of the frames in pixels (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (%(default)s)")
    parser.add_argument("--engines", nargs="+", default=["fast", "openvino"], help="those that are measured (both)")
    parser.add_argument("--batches", type=int, help="of 8 frames, of the clip (default: all)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    torch.set_num_threads(args.threads)
    batches = list(read_batches(shipped_clip(), args.size, "face", BATCH))[: args.batches]
    measured = batches[1::2]
    count = sum(map(len, measured))
    engines = runs(args.model, batches[::2], args.engines)
    expected = Run(load_backbone(args.model, "cpu", "eager"))(measured)
    differences = {run.name: (run(measured) - expected).abs() for run in engines}
    for run in engines:
        run.seconds, run.cpu = [], []
    for _ in range(args.rounds):
        for run in engines:
            run(measured)
    rows = []
    for run in engines:
        rates, difference = [count / each for each in run.seconds], differences[run.name]
        row = {"engine": run.name, "fps": statistics.median(rates), "least": min(rates), "most": max(rates)}
        row |= {"CPU ms per frame": 1000 * min(run.cpu) / count}
        row |= {"largest": float(difference.max()), "mean": float(difference.mean())}
        row["inside its tolerance"] = row["mean"] <= TOLERANCES[run.backbone.precision].mean
        rows.append(row)
    results = {"machine": machine, "model": args.model, "size": args.size, "threads": args.threads, "rows": rows}
    header = list(rows[0])
    print(table(header, [[_shown(row[c]) for c in header] for row in rows]))
    if args.output:
        write_results(args.output, results)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.1e}" if value < 0.5 else f"{value:.1f}"


if __name__ == "__main__":
    main()
