"""GRU-NF sampled in one batch against loops over samples, and what the refinement of GRU-SNF adds.

100 samples of 24 steps for 16 windows of D = 60, released size (3 x 512 GRU, 5 blocks of 512), random weights: time
does not depend on their values. Rows of the table:

    one batch                    what `forecast` does: 1600 rows a step
    loop over samples            `forecast` of 16 windows, 100 times: the fair loop
    loop over samples, windows   `forecast` of 1 window, 1600 times, as the released code effectively samples
    bfloat16 products            under torch.set_float32_matmul_precision("medium"), a user's choice: not exact

Seconds are of the processor, on one thread: other work moves them less than the wall clock, which is in the JSON.
Loops are timed on a few of their turns, which are equal, and scaled; `turns` in the JSON says how many. Memory is the
growth of the process's peak resident memory over its resident memory before, each case in a process of its own.

    python benchmarks/sampling.py --output benchmarks/results/sampling.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import describe, table, write_results

from kinecast.forecasting import Forecaster, build_forecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF

SAMPLES, STEPS, WINDOWS, OBSERVED, DIM = 100, 24, 16, 12, 60
BATCH, SAMPLE_LOOP, WINDOW_LOOP = "GRU-NF, one batch", "GRU-NF, loop over samples", "GRU-NF, loop over samples, windows"
MEDIUM = ", bfloat16 products"
REFINEMENTS: dict[str, dict[str, Any]] = {
    "GRU-SNF, paper, mean=head": {"mean": "head"},
    "GRU-SNF, paper, mean=flow": {"mean": "flow"},
}


def build(name: str) -> Forecaster:
    torch.manual_seed(0)
    model = build_forecaster("gru-nf", DIM, "released").eval()
    assert isinstance(model, GRUNF)
    if name not in REFINEMENTS:
        return model
    refined = GRUSNF.from_gru_nf(model, **REFINEMENTS[name])
    refined.head_fitted.fill_(1.0)
    return refined


def turn(name: str) -> tuple[Callable[[], object], int]:
    """Return one turn of a case, and how many of them make all samples."""
    model = build(name)
    observed = torch.randn(WINDOWS, OBSERVED, DIM, generator=torch.Generator().manual_seed(0))
    if name == SAMPLE_LOOP:
        return lambda: model.forecast(observed, STEPS, 1), SAMPLES
    if name == WINDOW_LOOP:
        return lambda: model.forecast(observed[:1], STEPS, 1), SAMPLES * WINDOWS
    return lambda: model.forecast(observed, STEPS, SAMPLES), 1


def measure(name: str, repeats: int) -> dict[str, float]:
    """Return seconds of all samples (the median of the repeats, and the least), and the growth of the peak in MiB."""
    torch.set_num_threads(1)
    if name.endswith(MEDIUM):
        torch.set_float32_matmul_precision("medium")
    run, turns = turn(name.removesuffix(MEDIUM))
    model_memory = _resident()
    run()
    grown = _peak() - model_memory
    timed = repeats if turns == 1 else 4 * repeats
    seconds, wall = [], []
    for _ in range(timed):
        started, began = time.process_time(), time.perf_counter()
        run()
        seconds.append((time.process_time() - started) * turns)
        wall.append((time.perf_counter() - began) * turns)
    return {
        "seconds": statistics.median(seconds),
        "least": min(seconds),
        "wall": statistics.median(wall),
        "peak_mib": grown,
        "turns": timed,
    }


def _resident() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("expected VmRSS in /proc/self/status: this benchmark runs on Linux")


def _peak() -> float:
    """MiB; not of getrusage, which a child begins with its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("expected VmHWM in /proc/self/status: this benchmark runs on Linux")


def main() -> int:
    """Measure each case in its own process, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="of a batch; loops: 4 times as many turns (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case, args.repeats)))
        return 0
    machine, cases = describe(), {}
    for name in (BATCH, SAMPLE_LOOP, WINDOW_LOOP, BATCH + MEDIUM, SAMPLE_LOOP + MEDIUM, *REFINEMENTS):
        command = [sys.executable, __file__, "--case", name, "--repeats", str(args.repeats)]
        cases[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"{name}: {cases[name]}", file=sys.stderr)
    batch = cases[BATCH]["least"]
    rows = [
        [
            name,
            f"{case['seconds']:.2f}",
            f"{case['least']:.2f}",
            f"{case['least'] / batch:.2f}",
            f"{case['peak_mib']:.0f}",
        ]
        for name, case in cases.items()
    ]
    print(table(["case", "s, median", "s, least", "least against one batch", "peak, MiB more"], rows))
    results = {
        "machine": machine | {"threads": 1},
        "size": {"samples": SAMPLES, "steps": STEPS, "windows": WINDOWS, "observed": OBSERVED, "motion_dim": DIM}
        | build(BATCH).config.to_dict(),
        "cases": cases,
        "faster_than_loop_over_samples": cases[SAMPLE_LOOP]["least"] / batch,
        "faster_than_loop_over_samples_and_windows": cases[WINDOW_LOOP]["least"] / batch,
        "refinement_adds": {name: cases[name]["least"] / batch - 1 for name in REFINEMENTS},
    }
    write_results(args.output, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
