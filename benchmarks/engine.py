"""Engines and precisions against the plain published forward, in one interleaved run; what each costs and changes.

The published forward looks for the driving frame's keypoints and runs the whole generator, source encoder included, one
frame at a time. Each engine detects and animates the same frames from a source encoded once. Everything is timed in
turn, round after round, so that other work on the machine falls on all; medians and ratios of medians are reported,
and beside them the least time that the process itself took of the processors, which other work changes little.
FOMM-256 has the published sizes; its weights are those of the reference's golden vectors if --reference names that
folder, and random otherwise. int8 is calibrated on --clips, of which the last is kept back to measure quality.

    python benchmarks/engine.py --reference FOLDER --clips CLIP... --output benchmarks/results/engine.json
"""

import argparse
import copy
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed import measure, random_fomm

from kinecast import load_backbone
from kinecast.errors import KinecastError
from kinecast.media.video import read_batches
from kinecast.metrics.pixel import mae, ssim
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM, FOMMConfig
from kinecast.research.cost import count_macs
from kinecast.runtime import SUPPORTED, accelerate, folded
from kinecast.runtime.calibration import calibrate
from kinecast.zoo import load_forecaster
from machine import describe, table, write_results

PAIRS = (
    ("eager", "exact"),
    ("fast", "exact"),
    ("fast", "bf16"),
    ("openvino", "exact"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
SHOWN = 4  # frames that take turns
REFERENCE_GMACS = {"detect": 1.31, "dense motion": 4.13, "generate": 49.64, "source only": 10.31}

# Seconds and peak of a new process from its start to the first frame.
FIRST_FRAME = """
import json, pathlib, re, resource, sys, time
started = float(sys.argv[1])
begun = time.time()
import torch
torch_there = time.time()
from kinecast import load_backbone
there = time.time()
backbone = load_backbone(sys.argv[2], "cpu", engine=sys.argv[3], precision=sys.argv[4])
loaded = time.time()
frame = torch.rand(1, 3, *backbone.frame_size)
state, motion = backbone.encode_source(frame), backbone.detect(frame)
backbone.animate(state, motion, motion)
done = time.time()
for _ in range(20):
    backbone.animate(state, motion, backbone.detect(frame))
status = pathlib.Path("/proc/self/status")  # getrusage would give the peak of the process that forked this one
if status.exists():
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({"python": begun - started, "import torch": torch_there - begun,
    "import kinecast": there - torch_there, "load": loaded - there, "first frame": done - loaded,
    "total": done - started, "peak_mib": peak}))
"""


def fomm_256(reference: Path | None) -> FOMM:
    """Return the published sizes with the golden weights, or random ones."""
    if reference is None:
        return random_fomm(FOMMConfig())
    spec = spec_from_file_location("fill", reference / "fill.py")
    assert spec is not None and spec.loader is not None
    fill = module_from_spec(spec)
    spec.loader.exec_module(fill)
    keys = json.loads((reference / "fomm_vox-256.keys.json").read_text())
    model = FOMM(FOMMConfig())
    state = model.state_dict()
    for part in ("generator", "kp_detector"):
        for name, values in fill.fill("fomm", part, keys[part]).items():
            if values is not None:
                state[f"{part}.{name}"] = torch.from_numpy(values)
    model.load_state_dict(state)
    return model.eval()


def frames_of(clips: list[Path], model: Backbone, limit: int) -> torch.Tensor:
    """Return up to `limit` frames of clips, or smooth noise where there are none."""
    if not clips:
        coarse = torch.rand(min(limit, 16), 3, 9, 9, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.interpolate(coarse, size=model.frame_size, mode="bicubic").clamp(0, 1)
    share = -(-limit // len(clips))
    batches = [batch for clip in clips for batch in read_batches(clip, model.frame_size, "center", 8, share)]
    return torch.cat(batches)[:limit]


def engines_of(model: FOMM, names: Sequence[str] = tuple(SUPPORTED)) -> dict[str, Backbone]:
    """Return every engine that can be had here; those that cannot are said."""
    found: dict[str, Backbone] = {}
    for engine, precision in PAIRS:
        if engine not in names:
            continue
        try:
            found[f"{engine} {precision}"] = accelerate(model, engine, precision)
        except KinecastError as error:
            print(f"{engine} {precision}: {error}", file=sys.stderr)
    return found


def others_of(model: FOMM, names: Sequence[str]) -> dict[str, Backbone]:
    """Return what the engine `fast` is to be compared with: torch.compile, and itself without Winograd's algorithm."""
    found: dict[str, Backbone] = {}
    if "torch.compile" in names:
        torch._inductor.config.freezing = True  # type: ignore[attr-defined]
        compiled = copy.deepcopy(model)
        compiled.find, compiled.draw = torch.compile(model.find), torch.compile(model.draw)  # type: ignore[method-assign]
        found["torch.compile exact"] = compiled
    if "direct" in names:
        width, folded._WINOGRAD_CHANNELS = folded._WINOGRAD_CHANNELS, sys.maxsize
        found["fast exact, direct"] = accelerate(model, "fast")
        folded._WINOGRAD_CHANNELS = width
    return found


def compare(
    model: FOMM, test: torch.Tensor, rounds: int, names: Sequence[str], others: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Time every engine's stages in turn with the published forward; measure its differences and its quality."""
    source, driving = test[:1], test[1 : SHOWN + 1].split(1)
    with torch.inference_mode():
        kp_source = model.kp_detector(source)

    @torch.inference_mode()
    def published(i: int) -> torch.Tensor:
        return model.generator(source, model.kp_detector(driving[i]), kp_source)[0]

    def stages(backbone: Backbone) -> dict[str, Callable[[int], Any]]:
        state, anchor = backbone.encode_source(source), backbone.detect(source)
        motions = [backbone.detect(frame) for frame in driving]
        return {
            "detect": lambda i: backbone.detect(driving[i]),
            "animate": lambda i: backbone.animate(state, anchor, motions[i]),
            "both": lambda i: backbone.animate(state, anchor, backbone.detect(driving[i])),
        }

    engines = engines_of(model, names) | others_of(model, others)
    timed: dict[tuple[str, str], Callable[[int], Any]] = {("published", "both"): published}
    for name, backbone in engines.items():
        timed |= {(name, stage): function for stage, function in stages(backbone).items()}
    samples = measure(timed, rounds)
    base, busy = float(np.median(samples["published", "both"])), min(samples.cpu["published", "both"])
    results: dict[str, dict[str, Any]] = {"published": {"both_ms": base, "cpu_ms": busy}}
    motion = model.detect(test)
    reference = model.animate(model.encode_source(source), motion[:1], motion)
    for name, backbone in engines.items():
        own = backbone.detect(test)
        frames = backbone.animate(backbone.encode_source(source), own[:1], own)
        difference = (frames - reference).abs()
        medians = {f"{stage}_ms": float(np.median(samples[name, stage])) for stage in ("detect", "animate", "both")}
        results[name] = {
            **medians,
            "ratio": base / medians["both_ms"],
            "cpu_ms": min(samples.cpu[name, "both"]),
            "cpu_ratio": busy / min(samples.cpu[name, "both"]),
            "largest_difference": float(difference.max()),
            "mean_difference": float(difference.mean()),
            "mae": float(mae(frames, test).mean()),
            "ssim": float(ssim(frames, test).mean()),
        }
    return results


def receivers(backbone: Backbone, test: torch.Tensor, count: int, frames: int = 30) -> float:
    """Return frames per second, in sum, of several receivers that animate at once, a thread each."""
    motion = backbone.detect(test[:2])
    states = [backbone.encode_source(test[i % len(test)][None]) for i in range(count)]

    def receive(state: Any) -> None:
        for _ in range(frames):
            backbone.animate(state, motion[:1], motion[1])

    threads = [threading.Thread(target=receive, args=(state,)) for state in states]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count * frames / (time.perf_counter() - started)


def live_latency(backbone: Backbone, forecaster: Any, test: torch.Tensor, windows: int) -> dict[str, float]:
    """Return p50 and p95 milliseconds a frame, end to end: each frame detected and animated, 12-12 blocks forecast."""
    state, anchor = backbone.encode_source(test[:1]), backbone.detect(test[:1])
    times, blocks, window = [], [], []
    for t in range(24 * windows):
        started = time.perf_counter()
        motion = backbone.detect(test[t % len(test)][None])
        window.append(backbone.flatten(motion))
        if len(window) == 12:  # the block that would stand in if nothing came
            begun = time.perf_counter()
            forecaster.forecast(torch.cat(window)[None], 12, 1, 0)
            blocks.append(1000 * (time.perf_counter() - begun))
            window = []
        backbone.animate(state, anchor, motion)
        times.append(1000 * (time.perf_counter() - started))
    times = times[12:]
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "frames_per_second": 1000 / float(np.mean(times)),
        "forecast_block_ms": float(np.median(blocks)),
    }


def first_frame(name: str, engine: str, precision: str, repeats: int) -> dict[str, float]:
    """Return the median start-up of new processes, step by step, and their peak memory."""
    command = [sys.executable, "-c", FIRST_FRAME]
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [*command, str(time.time()), name, engine, precision], stdout=subprocess.PIPE, check=True, text=True
        )
        runs.append(json.loads(done.stdout))
    return {key: float(np.median([run[key] for run in runs])) for key in runs[0]}


def check_macs(model: Backbone) -> dict[str, dict[str, float]]:
    """Return counted and reference GMAC by stage."""
    counted = {stage: count / 1e9 for stage, count in count_macs(model).items()}
    return {
        stage: {"counted": counted[stage], "reference": known, "ratio": counted[stage] / known}
        for stage, known in REFERENCE_GMACS.items()
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="face-128", help="name or file, beside FOMM-256 (%(default)s)")
    parser.add_argument("--fomm", action=argparse.BooleanOptionalAction, default=True, help="measure FOMM-256 too")
    parser.add_argument(
        "--compare",
        nargs="+",
        choices=["torch.compile", "direct"],
        default=[],
        help="measure these too: torch.compile, which needs a C++ compiler, and fast without Winograd's algorithm",
    )
    parser.add_argument("--live", action=argparse.BooleanOptionalAction, default=True, help="measure it end to end too")
    parser.add_argument("--reference", type=Path, help="folder with fill.py and the published names")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="calibrate on these, test on the last")
    parser.add_argument(
        "--calibration", type=int, default=200, help="frames to calibrate int8 on, 0: none (%(default)s)"
    )
    parser.add_argument("--engines", nargs="+", default=list(SUPPORTED), help="those that are measured (all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1], help="threads of torch (2 1)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds (%(default)s)")
    parser.add_argument("--frames", type=int, help="frames to measure differences on (16 and 64)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args()


def shown(found: dict[str, dict[str, Any]]) -> str:
    """Return the table of what `compare` found."""
    rows = [
        [
            engine,
            *(f"{r[k]:.1f}" if k in r else "" for k in ("detect_ms", "animate_ms", "both_ms")),
            f"{r.get('ratio', 1):.2f}x",
            f"{r['cpu_ms']:.1f}",
            f"{r.get('cpu_ratio', 1):.2f}x",
            *(f"{r[k]:.1e}" if k in r else "" for k in ("largest_difference", "mean_difference")),
            *(f"{r[k]:.4f}" if k in r else "" for k in ("mae", "ssim")),
        ]
        for engine, r in found.items()
    ]
    times = ["detect ms", "animate ms", "both ms", "ratio", "CPU ms", "ratio"]
    return table(["engine", *times, "largest", "mean diff.", "MAE", "SSIM"], rows)


def end_to_end(args: argparse.Namespace, bundled: Backbone, results: dict[str, Any]) -> None:
    """Measure the bundled model as it is used, into `results`, and print the table."""
    test = frames_of(args.clips[-1:], bundled, 64)
    forecaster = load_forecaster("gru", "cpu")
    results["live"], results["receivers"], results["start"] = {}, {}, {}
    for engine, backbone in engines_of(bundled).items():
        results["live"][engine] = live_latency(backbone, forecaster, test, 5)
        results["receivers"][engine] = {str(count): receivers(backbone, test, count) for count in (1, 2, 4)}
        results["start"][engine] = first_frame(args.model, *engine.split(), repeats=3)
    rows = [
        [
            engine,
            *(f"{results['live'][engine][key]:.1f}" for key in ("p50_ms", "p95_ms", "frames_per_second")),
            *(f"{fps:.1f}" for fps in results["receivers"][engine].values()),
            *(f"{results['start'][engine][key]:.2f}" for key in ("import torch", "load", "first frame", "total")),
            f"{results['start'][engine]['peak_mib']:.0f}",
        ]
        for engine in results["live"]
    ]
    print(
        f"\n{args.model} end to end (detect, forecast 12-12 with gru, animate, every frame); receivers; a new process"
    )
    head = ["engine", "p50 ms", "p95 ms", "fps", "1 rec.", "2 rec.", "4 rec.", "torch s", "load s", "frame s", "all s"]
    print(table([*head, "peak MiB"], rows))


def main() -> None:
    """Measure, print the tables, and write the JSON."""
    args = arguments()
    results: dict[str, Any] = {"machine": describe(), "rounds": args.rounds, "models": {}}
    torch.manual_seed(0)
    bundled = load_backbone(args.model, "cpu", "eager")
    models: dict[str, Backbone] = {"FOMM-256": fomm_256(args.reference)} if args.fomm else {}
    models[Path(args.model).stem] = bundled
    for name, model in models.items():
        assert isinstance(model, FOMM)
        results["models"][name] = {}
        if args.calibration:
            calibrate(model, frames_of(args.clips[:-1], model, args.calibration).split(8), limit=args.calibration)
        test = frames_of(args.clips[-1:], model, args.frames or (16 if name == "FOMM-256" else 64))
        for threads in args.threads:
            torch.set_num_threads(threads)
            found = compare(model, test, args.rounds, args.engines, args.compare)
            results["models"][name][f"{threads} threads"] = found
            print(f"\n{name}, {threads} threads, {args.rounds} rounds")
            print(shown(found))
    torch.set_num_threads(max(args.threads))
    if args.fomm:
        results["macs"] = check_macs(models["FOMM-256"])
        for stage, each in results["macs"].items():
            print(f"{stage}: {each['counted']:.3f} GMAC counted, {each['reference']} in the reference")
    if args.live:
        end_to_end(args, bundled, results)
    write_results(args.output, results)


if __name__ == "__main__":
    try:
        main()
    except KinecastError as error:
        sys.exit(str(error))
