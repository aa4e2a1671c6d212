"""Frames a second of detecting and animating, one frame at a time, against the published forward.

The published forward looks for the driving frame's keypoints and then runs the whole generator, source encoder
included; the source's keypoints are found once, as the published animation script does. Ours finds the keypoints and
animates a source that was encoded once. All stages of all models are timed in turn, round after round, so that other
work on the machine falls on all of them; medians are reported. The time does not depend on the values of the weights:
FOMM-256 has the published sizes and random weights.

    python benchmarks/speed.py --output benchmarks/results/speed.json
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast import load_backbone
from kinecast.errors import KinecastError
from kinecast.models.fomm import FOMM, FOMMConfig
from kinecast.training.backbone import compact_recipe
from machine import describe, table, write_results

BUNDLED = "face-128"
FRAMES = 4  # frames that take turns


def random_fomm(config: FOMMConfig) -> FOMM:
    """Return a model with random weights whose keypoints move: a new model's heatmaps are flat."""
    model = FOMM(config).eval()
    with torch.no_grad():
        model.kp_detector.kp.weight.mul_(50)
    return model


def models(name: str) -> dict[str, tuple[FOMM, str]]:
    """Return the models to time with what their weights are."""
    chosen = {"FOMM-256": (random_fomm(FOMMConfig()), "random")}
    try:
        model, weights = load_backbone(name, device="cpu", engine="eager"), "trained"
    except KinecastError as error:
        if name != BUNDLED:
            raise
        print(f"{error}; random weights of its sizes instead", file=sys.stderr)
        model, weights = random_fomm(compact_recipe(data=("none",)).model), "random"
    if not isinstance(model, FOMM):
        raise KinecastError(
            f"{name}: expected a FOMM, whose published forward is timed here, found {type(model).__name__}"
        )
    return chosen | {Path(name).stem: (model, weights)}


def stages(model: FOMM) -> tuple[dict[str, Callable[[int], Any]], float]:
    """Return what is timed, as functions of a frame's number, and the largest difference between both ways."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(FRAMES + 1, 3, 9, 9, generator=random)
    frames = torch.nn.functional.interpolate(coarse, size=model.frame_size, mode="bicubic").clamp(0, 1)
    source, driving = frames[:1], frames[1:].split(1)
    state, source_motion = model.encode_source(source), model.detect(source)
    motions = [model.detect(frame) for frame in driving]
    with torch.inference_mode():
        kp_source = model.kp_detector(source)

    @torch.inference_mode()
    def published(i: int) -> torch.Tensor:
        return model.generator(source, model.kp_detector(driving[i]), kp_source)[0]

    def animate(i: int) -> torch.Tensor:
        return model.animate(state, source_motion, motions[i])

    timed = {
        "published forward": published,
        "detect": lambda i: model.detect(driving[i]),
        "animate": animate,
        "encode source (once)": lambda i: model.encode_source(source),
    }
    return timed, max((published(i) - animate(i)).abs().max().item() for i in range(FRAMES))


class Samples(dict[tuple[str, str], list[float]]):
    """Milliseconds of each call by the clock on the wall, and `cpu`, those of the process: other work adds little."""

    def __init__(self, keys: Iterable[tuple[str, str]]) -> None:
        super().__init__({key: [] for key in keys})
        self.cpu: dict[tuple[str, str], list[float]] = {key: [] for key in self}


def measure(timed: dict[tuple[str, str], Callable[[int], Any]], repeats: int) -> Samples:
    """Return milliseconds a call: every stage once a round, after one round that is not counted."""
    samples = Samples(timed)
    keys = list(timed)
    for turn in range(-1, repeats):
        for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
            started, busy = time.perf_counter(), time.process_time()
            timed[key](turn % FRAMES)
            if turn >= 0:
                samples[key].append(1000 * (time.perf_counter() - started))
                samples.cpu[key].append(1000 * (time.process_time() - busy))
    return samples


def main() -> None:
    """Time the models, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=BUNDLED, help="name or file, beside FOMM-256 (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=20, help="rounds (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    machine = describe()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    chosen = models(args.model)
    timed: dict[tuple[str, str], Callable[[int], Any]] = {}
    differences = {}
    for name, (model, _) in chosen.items():
        functions, differences[name] = stages(model)
        timed |= {(name, stage): function for stage, function in functions.items()}
    samples = measure(timed, args.repeats)

    results: dict[str, Any] = {"machine": machine, "threads": args.threads, "repeats": args.repeats, "models": {}}
    rows = []
    for name, (model, weights) in chosen.items():
        figures = {}
        for stage in (stage for owner, stage in timed if owner == name):
            low, median, high = np.percentile(samples[name, stage], [25, 50, 75])
            figures[stage] = {"median_ms": median, "quartiles_ms": [low, high], "frames_per_second": 1000 / median}
        ours = figures["detect"]["median_ms"] + figures["animate"]["median_ms"]
        figures["detect + animate"] = {"median_ms": ours, "frames_per_second": 1000 / ours}
        ratio = figures["published forward"]["median_ms"] / ours
        results["models"][name] = {
            "weights": weights,
            "frame_size": model.frame_size,
            "parameters": sum(p.numel() for p in model.parameters()),
            "stages": figures,
            "ratio": ratio,
            "max_abs_difference": differences[name],
        }
        for stage, figure in figures.items():
            spread = "{:.1f}-{:.1f}".format(*figure["quartiles_ms"]) if "quartiles_ms" in figure else ""
            gain = f"{ratio:.2f}x" if stage == "detect + animate" else ""
            rate = f"{figure['frames_per_second']:.1f}"
            rows.append([f"{name} ({weights} weights): {stage}", f"{figure['median_ms']:.1f}", spread, rate, gain])
    print(table(["model: stage", "ms a frame", "quartiles", "frames/s", "against published"], rows))
    for name, difference in differences.items():
        print(f"{name}: largest difference from the published forward {difference:.1e}")
    write_results(args.output, results)


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
