"""Milliseconds of a 12-12 block for one call: one trajectory, by every forecaster of the registry.

D = 60, the smallest preset, weights not trained: time does not depend on their values. A call is what it costs, the
check of the input and the seeding of the generator included. Each case runs in a process of its own, on 1 and on 2
threads; `cpu` is the least time of the processors, which other work on the machine moves less than the wall clock.

    python benchmarks/forecast_block.py --output benchmarks/results/forecast_block.json
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import describe, table, write_results

from kinecast.forecasting import FORECASTERS, Forecaster, build_forecaster

OBSERVED, HORIZON, DIM, WINDOWS = 12, 12, 60, 64
THREADS = (1, 2)
TARGETS_MS = {"vrnn": 5.0, "gru-nf": 5.0}
WARM_UP = 20


def build(name: str) -> tuple[Forecaster, torch.Tensor]:
    """Return a fitted forecaster and one window's observed frames."""
    torch.manual_seed(0)
    windows = 0.02 * torch.randn(WINDOWS, OBSERVED + HORIZON, DIM).cumsum(dim=1)
    model = build_forecaster(name, DIM)
    model.fit(windows, OBSERVED)
    return model.eval(), windows[:1, :OBSERVED]


def measure(name: str, threads: int, repeats: int) -> dict[str, float]:
    """Return median and least milliseconds of a call, and the least of the processor's."""
    torch.set_num_threads(threads)
    model, observed = build(name)
    wall, cpu = [], []
    for call in range(WARM_UP + repeats):
        started, began = time.perf_counter(), time.process_time()
        model.forecast(observed, HORIZON, samples=1, seed=call)
        wall.append(1000 * (time.perf_counter() - started))
        cpu.append(1000 * (time.process_time() - began))
    wall, cpu = wall[WARM_UP:], cpu[WARM_UP:]
    return {"median_ms": statistics.median(wall), "best_ms": min(wall), "best_cpu_ms": min(cpu)}


def main() -> int:
    """Measure each case in its own process, print the table, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200, help="calls that are timed (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        print(json.dumps(measure(args.case[0], int(args.case[1]), args.repeats)))
        return 0
    machine = describe()
    cases: dict[str, dict[str, dict[str, float]]] = {}
    for name in FORECASTERS:
        cases[name] = {}
        for threads in THREADS:
            command = [sys.executable, __file__, "--repeats", str(args.repeats), "--case", name, str(threads)]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            cases[name][str(threads)] = json.loads(out)
        print(f"{name}: {cases[name]}", file=sys.stderr)
    figures = ("median_ms", "best_ms", "best_cpu_ms")
    rows = [
        [name, *(f"{by_threads[str(threads)][figure]:.2f}" for threads in THREADS for figure in figures)]
        for name, by_threads in cases.items()
    ]
    header = [
        f"{figure.removesuffix('_ms').replace('_', ' ')}, {threads} thr." for threads in THREADS for figure in figures
    ]
    print(table(["ms of a 12-12 block", *header], rows))
    met = {
        name: min(cases[name][str(threads)]["median_ms"] for threads in THREADS) < limit
        for name, limit in TARGETS_MS.items()
    }
    for name, limit in TARGETS_MS.items():
        print(f"{name}: {'under' if met[name] else 'NOT under'} {limit:g} ms")
    size = {"observed": OBSERVED, "horizon": HORIZON, "motion_dim": DIM, "windows": 1, "samples": 1}
    write_results(args.output, {"machine": machine, "size": size, "cases": cases, "targets_ms": TARGETS_MS, "met": met})
    return 0


if __name__ == "__main__":
    sys.exit(main())
