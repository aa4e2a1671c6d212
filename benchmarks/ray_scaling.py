"""Evaluation of many samples on Ray: 1 and 2 workers of this machine, a worker killed, and what a cluster would take.

One diverse evaluation is done in this process, by 1 Ray worker, by 2, and by 2 of which one is killed (SIGKILL) in
the middle. Each run starts from the same detected motion and trained models, so that the time is of units alone: S
sampled trajectories of one window, all animated and measured. The sha256 is of all unit files.

The estimate is of the published evaluation, 44 clips x 100 samples x 4 settings (6-6 and 12-12, reconstruction and
transfer), for each forecaster: its units, one a window, with the cost a picture that was measured here with every core
busy, are given in turn to the first free worker of 1, 8 and 64 machines like this one. It leaves out the network, a
shared disk's limits, machines that fail, and the training of forecasters, and adds once what a worker took to start.

    python benchmarks/ray_scaling.py CLIPS --validate id10291 --output ray.json --report docs/results/scale.md
"""

import argparse
import hashlib
import heapq
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kinecast.apps.extract_many import ExtractSettings
from kinecast.data.windows import parse_horizon
from kinecast.files import atomic_path
from kinecast.jobs.cluster import RayCluster
from kinecast.jobs.tasks import Worker
from kinecast.research.run import RunResult, evaluate
from kinecast.research.study import RunConfig, Study
from machine import describe, table, write_results

CLIPS, SAMPLES, HORIZONS, MODES, MACHINES = 44, 100, ("6-6", "12-12"), 2, (1, 8, 64)


@dataclass
class Run:
    """One way to do the same units."""

    name: str
    workers: int
    start_seconds: float  # Ray itself
    seconds: float  # all units, the workers' first import and loading of models included
    first_seconds: float  # until the first unit was done
    tasks: int
    units: int
    sha256: str
    killed: int

    @property
    def steady_seconds(self) -> float:
        """What all tasks take at the pace of those after every worker's first, which waits for imports and models."""
        first = min(max(self.workers, 1), self.tasks - 1)
        return (self.seconds - self.first_seconds) * self.tasks / (self.tasks - first)


def run_once(name: str, config: RunConfig, prepared: Path, folder: Path, workers: int, kill: bool) -> Run:
    """Do the units of a run anew; 0 workers is this process."""
    output = folder / name.replace(" ", "-")
    for part in ("cache", "models"):
        shutil.copytree(prepared / part, output / part)
    started = time.perf_counter()
    session = RayCluster(Worker(_SETTINGS), "local", workers) if workers else None
    start_seconds = time.perf_counter() - started
    times: list[float] = []
    killed = [0]

    def progress(stage: str, count: int) -> None:
        times.append(time.perf_counter())
        if kill and not killed[0]:
            killed[0] += kill_a_busy_worker()

    began = [0.0]
    try:
        evaluate(
            config,
            output,
            log=lambda line: began.__setitem__(0, time.perf_counter()),  # the last line is said before the units
            progress=progress,
            ray="local" if workers else None,
        )
    finally:
        if session is not None:
            session.close(failed=False)
    files = sorted((output / "units").iterdir())
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()
    spent = times[-1] - began[0]
    made = Run(name, workers, start_seconds, spent, times[0] - began[0], len(times), len(files), digest, killed[0])
    print(f"{name}: {made.seconds:.1f} s, {made.units} unit files, sha256 {digest[:16]}", file=sys.stderr, flush=True)
    return made


_SETTINGS = ExtractSettings("", "", "cpu", "eager", "exact", "center", None, None)  # of no task: opens the session


def kill_a_busy_worker() -> int:
    for child in psutil.Process().children(recursive=True):
        try:
            if child.cmdline()[0].startswith("ray::_do"):
                os.kill(child.pid, signal.SIGKILL)
                return 1
        except (psutil.Error, IndexError, ProcessLookupError):
            continue
    return 0


def pictures(result: RunResult) -> int:
    """Return the pictures that were animated and measured: of every sample, and of the true keypoints."""
    done = 0
    for data in result.tables:
        observed, ahead = data.horizon
        done += len(data.windows) * (observed + ahead)
        done += sum(measured["mae"].size * ahead for measured in data.measured)  # (V, S) of a row
    return done


def makespan(costs: list[float], workers: int) -> float:
    """Return when the last of the units is done that go, longest first, to the first free worker."""
    free = [0.0] * min(workers, len(costs))
    heapq.heapify(free)
    for cost in sorted(costs, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + cost)
    return max(free)


def estimate(cost: float, start: float, frames: int, cores: int) -> list[dict[str, Any]]:
    """Return rows of the published evaluation, of one forecaster, with clips of so many frames."""
    costs: list[float] = []
    for horizon in map(parse_horizon, HORIZONS):
        windows = MODES * CLIPS * (frames // horizon.frames)
        costs += [cost * (SAMPLES * horizon.forecast + horizon.frames)] * windows
    rows = []
    for machines in MACHINES:
        hours = (makespan(costs, machines * cores) + start) / 3600
        rows.append({"machines": machines, "workers": machines * cores, "units": len(costs), "hours": hours})
    return rows


def report(results: dict[str, Any]) -> str:
    runs = [
        [r["name"], str(r["workers"] or 1), f"{r['seconds']:.1f}", f"{r['start_seconds']:.1f}", str(r["killed"]),
         r["sha256"][:12]]
        for r in results["runs"]
    ]  # fmt: skip
    rows = [
        [str(r["machines"]), str(r["workers"]), str(r["units"]), f"{r['hours']:.2f}", f"{r['speedup']:.1f}"]
        for r in results["estimate"]
    ]
    machine = results["machine"]
    equal = "are equal bit for bit" if results["equal"] else "DIFFER"
    return "\n".join(
        [
            "# Beyond one machine: evaluation on Ray",
            "",
            f"{machine['processor']}, {machine['cores']} cores, torch {machine['torch']}, {machine['date'][:10]}; load "
            f"before: {machine['load_before']}. Made by `{machine['command']}`.",
            "",
            table(["run", "workers", "seconds", "Ray's start, s", "killed", "sha256 of units"], runs),
            "",
            f"Results {equal}. Wall clock of 1 Ray worker to 2: {results['ratio']:.2f}, without the workers' start "
            f"{results['steady_ratio']:.2f}. {results['pictures']} pictures animated and measured, "
            f"{1000 * results['seconds_per_picture']:.1f} ms each on one core while every core is busy.",
            "",
            f"Estimate: {CLIPS} clips of {results['clip_frames']} frames, {SAMPLES} samples, 4 settings "
            f"({' and '.join(HORIZONS)}, reconstruction and transfer), one forecaster, backbone {results['backbone']}, "
            f"machines like this one, {results['start_seconds']:.0f} s to start.",
            "",
            table(["machines", "workers", "units", "hours", "times faster"], rows),
            "",
            "It leaves out the network, a shared disk's limits, machines that fail, and training.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--validate", required=True, help="persons tested on")
    parser.add_argument("--backbone", default="face-128")
    parser.add_argument("--engine", default="fast", help="eager or fast")
    parser.add_argument("--model", default="vrnn", help="forecaster")
    parser.add_argument("--horizon", default="12-12")
    parser.add_argument("--windows-per-clip", type=int, default=2)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50, help="training steps: how good it is does not matter here")
    parser.add_argument("--clip-frames", type=int, default=250, help="of the published data set's clips: 10 s")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    machine = describe()
    study = Study(
        "diverse", "reconstruction", (parse_horizon(options.horizon),), (options.model,),
        options.windows_per_clip, options.samples, max(1, options.samples // 5),
    )  # fmt: skip
    config = RunConfig(
        options.clips, "clips", (study,), validate=options.validate, backbone=options.backbone,
        engine=options.engine, device="cpu", training={"steps": options.steps},
    )  # fmt: skip
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="kinecast-scaling-") as temporary:
        folder = Path(temporary)
        result = evaluate(config, folder / "prepared", log=_say)
        runs = [
            run_once(name, config, folder / "prepared", folder, workers, kill)
            for name, workers, kill in (
                ("this process", 0, False),
                ("Ray 1", 1, False),
                ("Ray 2", 2, False),
                ("Ray 2, one killed", 2, True),
            )
        ]
    done = pictures(result)
    two = runs[2]
    cost = two.workers * two.steady_seconds / done
    start = two.start_seconds + two.first_seconds
    rows = estimate(cost, start, options.clip_frames, cores)
    results = {
        "machine": machine,
        "backbone": options.backbone,
        "runs": [vars(run) for run in runs],
        "equal": len({run.sha256 for run in runs}) == 1,
        "ratio": runs[1].seconds / two.seconds,
        "steady_ratio": runs[1].steady_seconds / two.steady_seconds,
        "pictures": done,
        "seconds_per_picture": cost,
        "start_seconds": start,
        "clip_frames": options.clip_frames,
        "estimate": [row | {"speedup": rows[0]["hours"] / row["hours"]} for row in rows],
    }
    print(json.dumps(results, indent=2))
    text = report(results)
    print(text)
    write_results(options.output, results)
    if options.report:
        with atomic_path(options.report) as path:
            path.write_text(text)
    if not results["equal"] or not runs[3].killed:
        sys.exit("results differ, or no worker was killed: see above")


_say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731

if __name__ == "__main__":
    main()
