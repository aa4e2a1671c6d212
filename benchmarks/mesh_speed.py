"""Frames per second of `mesh` from clip to pictures: face landmarks, motion and rendering of every frame.

The clip is the one that `kinecast demo` uses, the source its first frame; reading and writing files are left out. Each
round runs every precision in turn, so that other work on the machine falls on all of them. The median round counts.

    python benchmarks/mesh_speed.py --output benchmarks/results/mesh_speed.json
"""

import argparse
import statistics
import time
from pathlib import Path

import torch

from kinecast import load_backbone
from kinecast.cli.demo import shipped_clip
from kinecast.media.video import read_batches
from kinecast.models.base import Backbone
from machine import describe, table, write_results

BATCH = 8


def seconds(backbone: Backbone, batches: list[torch.Tensor]) -> float:
    """Return the time that it takes to detect and to animate all frames, from a source encoded once."""
    own = backbone.detect(batches[0][:1])
    state = backbone.encode_source(batches[0][:1])
    started = time.perf_counter()
    detect = backbone.follow()
    for frames in batches:
        backbone.animate(state, own, detect(frames))
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mesh", help="name or file (%(default)s)")
    parser.add_argument("--size", type=int, default=256, help="side of the frames in pixels (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    torch.set_num_threads(args.threads)
    batches = list(read_batches(shipped_clip(), args.size, "face", BATCH))
    count = sum(map(len, batches))
    backbones = {each: load_backbone(args.model, "cpu", "fast", each) for each in ("exact", "bf16")}
    for backbone in backbones.values():
        seconds(backbone, batches[:1])
    rounds = [{name: seconds(each, batches) for name, each in backbones.items()} for _ in range(args.rounds)]
    rows = []
    for name, backbone in backbones.items():
        rates = [count / each[name] for each in rounds]
        figures = {"fps": statistics.median(rates), "least": min(rates), "most": max(rates)}
        rows.append({"precision": f"{backbone.engine} {backbone.precision}", **figures})
    results = {"machine": machine, "model": args.model, "size": args.size, "threads": args.threads, "rows": rows}
    header = ["precision", "fps", "least", "most"]
    print(table(header, [[row[c] if c == "precision" else f"{row[c]:.1f}" for c in header] for row in rows]))
    if args.output:
        write_results(args.output, results)


if __name__ == "__main__":
    main()
