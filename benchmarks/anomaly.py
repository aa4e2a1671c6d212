"""Anomaly detection on robot arms with injected faults and on actions: AUROC, false alarms, frames to the alarm.

    python benchmarks/anomaly.py -o out/anomaly --seeds 3 [--actions ../shared/data/actions]

Arms: joints of simulated arms, `kinecast research arms` of a seed each. Of the clips without a fault (240 by default)
120 fit the scorers, half of the others set thresholds, half count false alarms; 25 clips of each fault are found or
not. Wear announces its failure: its alarms have a lead time.
Actions: 57 clips of nine people (64x64). One action is normal, the others are anomalies; four people fit, three set
thresholds (one clip each: a rate of 0.25 needs three), two people are tested. A person's clips are two views, often one
the mirror of the other, so that people, not clips, are split. What is scored is the dark figure's share of each cell of
a 4 x 4 grid about where it stood in the first frame, over its share of that frame: 16 numbers per frame, no model in
between.

Everything is drawn anew for each seed: episodes, split, training. Simulated clips stay in the output folder.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.apps.anomaly import Detector, Rates, ScorerConfig, train_scorer
from kinecast.apps.anomaly.baselines import BASELINES
from kinecast.apps.anomaly.detector import Scorer
from kinecast.apps.anomaly.timeline import draw_timeline
from kinecast.data.keypoint_store import load_series
from kinecast.data.windows import Series
from kinecast.media.video import read_frames
from kinecast.research.anomaly import Anomalies, cells, draw_table, intervals, measure, onsets_of, plain
from kinecast.research.data.arm_files import ArmDataConfig, write_arms
from kinecast.research.data.robot_arms import FAULTS
from kinecast.research.tables import markdown, write_report

FITTED = 120  # clips of arms
ARM_RATES = Rates(frame=0.05, clip=0.1)
ACTION_RATES = Rates(frame=0.25, clip=0.25)
# By eye; numbers are the files' names. People in order, w two arms wave, o one arm, j jumping jack, b bend.
ACTIONS = {
    0: "0w 1w 3o 5j 6b",
    1: "9w 11o 14b",
    2: "16w 17w 19o 20j 21j 22b 23b",
    3: "24w 25w 26o 27o 29j 30b",
    4: "32w 33w 34o 36j 37j 38b 39b",
    5: "40w 41w 42o 43o 44j 45j 46b 47b",
    6: "48w 49w 50o 51o 52j 53j 54b 55b",
    7: "56w 57w 58o 61j 62b 63b",
    8: "65w 66o 67o 68j 69j 70b 71b",
}
NAMES = {"w": "two arms", "o": "one arm", "j": "jumping jack", "b": "bend"}
FIGURES = {
    "auroc_clips": "AUROC of clips",
    "auroc_frames": "AUROC of frames",
    "found": "share found",
    "delay": "frames from onset to alarm (median of those found)",
    "lead": "frames from alarm to failure (median of those found)",
    "warned": "share of clips with an alarm before the failure",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/anomaly"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="training steps of a forecaster")
    parser.add_argument("--clips", type=int, default=240, help="arms without a fault; 120 fit the scorers")
    parser.add_argument("--actions", type=Path, help="folder of the 57 clips; without it arms alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    arms = [arm_run(options.output, seed, options.steps, options.clips) for seed in range(options.seeds)]
    tables = {"arms": intervals(arms)}
    if options.actions:
        series = {name: grid_series(options.actions / f"{name}.mp4") for name in action_names()}
        for action in ("w", "b"):
            runs = [action_run(series, action, seed, options.steps) for seed in range(options.seeds)]
            tables[f"normal: {NAMES[action]}"] = intervals(runs)
    write(options, tables, time.monotonic() - started)


def arm_run(folder: Path, seed: int, steps: int, clips: int) -> dict[str, Any]:
    data = folder / f"arms-seed{seed}"
    share = 1 - FITTED / clips
    write_arms(data, ArmDataConfig(clips=clips, faults=25, test_share=share, pictures=False, seed=seed))
    fit, test = load_series(data / "train/joints"), load_series(data / "test/joints")
    names = sorted(test)
    calibration, normal = ({name: test[name] for name in names[i::2]} for i in range(2))
    faulty, onsets = load_series(data / "faults/joints"), onsets_of(load_series(data / "faults/labels"))
    failures = failures_of(data / "faults")
    kinds = [Anomalies(fault, _named(faulty, fault), onsets, failures if fault == "wear" else None) for fault in FAULTS]
    config = ScorerConfig(observed=8, ahead=4, samples=32, seed=seed)
    detectors = _detectors(fit, calibration, config, ARM_RATES, steps, seed)
    if seed == 0:
        for fault in FAULTS:
            _timeline(folder / f"timeline-{fault}.png", detectors[0], f"{fault}-00002", faulty, onsets)
    return _measured(f"arms, seed {seed}", detectors, normal, kinds)


def action_run(series: Series, action: str, seed: int, steps: int) -> dict[str, Any]:
    people = np.random.default_rng(seed).permutation(len(ACTIONS))
    sides = [set(people[:4]), set(people[4:7]), set(people[7:])]
    fit, calibration, normal = (
        {n: m for n, m in series.items() if ACTION_OF[n] == action and PERSON_OF[n] in side} for side in sides
    )
    calibration = {n: calibration[n] for n in {PERSON_OF[n]: n for n in reversed(list(calibration))}.values()}
    kinds = []
    for other in NAMES:
        clips = {n: m for n, m in series.items() if ACTION_OF[n] == other and PERSON_OF[n] in sides[2]}
        if other != action and clips:
            kinds.append(Anomalies(NAMES[other], clips, dict.fromkeys(clips, 0)))
    config = ScorerConfig(observed=8, ahead=4, samples=32, seed=seed)
    detectors = _detectors(fit, calibration, config, ACTION_RATES, steps, seed)
    return _measured(f"{NAMES[action]} is normal, seed {seed}", detectors, normal, kinds)


def _detectors(
    fit: Series, calibration: Series, config: ScorerConfig, rates: Rates, steps: int, seed: int
) -> list[Detector]:
    scorers: list[Scorer] = [train_scorer(fit, config, steps=steps, seed=seed)]
    scorers += [kind.fit(fit) for kind in BASELINES.values()]
    return [Detector.calibrate(scorer, calibration, rates) for scorer in scorers]


def _measured(title: str, detectors: list[Detector], normal: Series, kinds: list[Anomalies]) -> dict[str, Any]:
    table = measure([detector.scorer for detector in detectors], detectors, normal, kinds)
    for score, rows in table.items():
        shown = "  ".join(f"{kind.name} {rows[kind.name]['auroc_clips']:.3f}" for kind in kinds)
        print(f"{title:32s} {score:12s} {shown}  false {rows['normal']['false_clips']:.2f}", flush=True)
    return table


def _timeline(path: Path, detector: Detector, name: str, faulty: Series, onsets: dict[str, int]) -> None:
    verdicts = list(detector.watch(iter(faulty[name])))
    draw_timeline(path, verdicts, detector, f"{name}: fault from frame {onsets[name]} on", onsets[name])


def failures_of(folder: Path) -> dict[str, int]:
    """Return the frame in which a worn joint gives way, by clip."""
    facts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("wear-*.json"))}
    return {name: found["failure"] for name, found in facts.items()}


def _named(series: Series, fault: str) -> dict[str, Any]:
    return {name: motion for name, motion in series.items() if name.startswith(fault)}


def action_names() -> list[str]:
    return list(ACTION_OF)


def grid_series(path: Path) -> torch.Tensor:
    """Return the dark figure's share of each of 4 x 4 cells about where it stood at first, (T, 16).

    The first frame alone says how bright the wall is, where the figure stands and how large it is: unlike a mean over
    the clip it is known when the clip goes on.
    """
    frames = np.stack(list(read_frames(path))).astype(np.float32).mean(axis=3) / 255
    count, height, width = frames.shape
    wall = np.median(np.concatenate([frames[0][:, :6], frames[0][:, -6:]], axis=1))
    figure = np.clip((wall - frames - 0.08) / 0.15, 0, 1)
    columns = figure[0].sum(axis=0)
    centre = round(float((columns * np.arange(width)).sum() / columns.sum()))
    figure = np.pad(figure, ((0, 0), (0, 0), (width // 2, width // 2)))[:, :, centre : centre + width]
    blocks = figure.reshape(count, 4, height // 4, 4, width // 4)
    return torch.from_numpy(blocks.mean(axis=(2, 4)).reshape(count, 16) / figure[0].mean())


def _listed() -> list[tuple[str, str, int]]:
    return [(f"{int(e[:-1]):08d}", e[-1], person) for person, text in ACTIONS.items() for e in text.split()]


ACTION_OF = {name: action for name, action, _ in _listed()}
PERSON_OF = {name: person for name, _, person in _listed()}


def write(options: argparse.Namespace, tables: dict[str, Any], seconds: float) -> None:
    draw_table(options.output / "auroc.png", tables)
    text = f"{__doc__.split(chr(10), 4)[-1].strip()}\n\n{options.seeds} seeds, {seconds / 60:.1f} minutes. Cells are "
    text += "means over seeds with 95 % confidence intervals of the mean (Student's t).\n\n![AUROC](auroc.png)\n\n"
    for title, table in tables.items():
        rates = ARM_RATES if title == "arms" else ACTION_RATES
        header = ["score", f"frames ({rates.frame:g} promised)", f"clips ({rates.clip:g} promised)"]
        rows = [
            [score, str(kinds["normal"]["false_frames"]), str(kinds["normal"]["false_clips"])]
            for score, kinds in table.items()
        ]
        text += markdown(f"{title}: false alarms", header, rows) + "\n"
        for figure, name in FIGURES.items():
            if figure not in ("delay", "lead", "warned") or title == "arms":
                text += markdown(f"{title}: {name}", *cells(table, figure)) + "\n"
    text += "\n".join(f"![{fault}](timeline-{fault}.png)" for fault in FAULTS) + "\n"
    results = {"seeds": options.seeds, "seconds": round(seconds), "tables": {n: plain(t) for n, t in tables.items()}}
    write_report(options.output, "anomaly", text, results)
    print(f"wrote {options.output / 'anomaly.md'}")


if __name__ == "__main__":
    main()
