"""Do synthetic defects help to train a detector of defects of kinds that it has never seen? Simulated robot arms.

    python benchmarks/anomaly_synthesis.py -o out/anomaly-synthesis --seeds 6 \
        --report docs/results/anomaly-synthesis.md --json docs/results/anomaly-synthesis.json

One kind of fault after another is held out: a small classifier (kinecast.research.defects) learns from normal clips,
from a few clips of each of the other kinds, and with or without synthetic defects, and is tested on the held-out kind.
Training sets, beside the normal clips:

    real                 a few clips of each other kind of fault
    real + synthetic     and `kinecast anomaly synthesize`: futures sampled by a forecaster of normal motion, changed
    real + changed       the same changes of what truly followed in normal clips: no forecaster
    synthetic            no fault was ever seen
    tails                the same, of nothing but the forecaster's least typical futures and its typical ones
    nll                  no classifier: the forecaster's surprise, which needs no defects at all

Everything is drawn anew for each seed: episodes, forecaster, synthesis, classifier. A difference is paired within a
seed, its interval Student's t over seeds.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.apps.anomaly import Detector, Rates, ScorerConfig, train_scorer
from kinecast.apps.anomaly.detector import Scorer
from kinecast.apps.anomaly.scorer import ForecastScorer
from kinecast.apps.anomaly.synthesis import Planned, SynthesisConfig, changed, make, plan, units_of
from kinecast.data.keypoint_store import load_series
from kinecast.data.windows import Series
from kinecast.files import atomic_path
from kinecast.research.anomaly import Anomalies, Interval, cells, intervals, measure, onsets_of, paired, plain
from kinecast.research.data.arm_files import ArmDataConfig, write_arms
from kinecast.research.data.robot_arms import FAULTS
from kinecast.research.defects import ClassifierConfig, DefectClassifier, Labelled, train_classifier
from kinecast.research.tables import markdown, provenance

FITTED, NORMAL, FAULTY = 120, 240, 25  # clips to fit on, in all without a fault, of each fault
RATES = Rates(frame=0.05, clip=0.1)
FEW, MANY = 3, 20  # real clips of each other kind
PAIRS = (
    ("real + synthetic", "real"),
    ("real + synthetic", "real + changed"),
    (f"real + synthetic, {MANY}", f"real, {MANY}"),
    ("synthetic", "real"),
    ("synthetic", "nll"),
    ("tails", "synthetic"),
    ("real + synthetic", "nll"),
)


def one_seed(folder: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return what one seed measured: score, kind, figure. A score's row of a kind is of a classifier without it."""
    data = folder / f"arms-seed{seed}"
    write_arms(data, ArmDataConfig(NORMAL, FAULTY, test_share=1 - FITTED / NORMAL, pictures=False, seed=seed))
    fit, test = load_series(data / "train/joints"), load_series(data / "test/joints")
    calibration, normal = ({name: test[name] for name in sorted(test)[i::2]} for i in range(2))
    faulty, onsets = load_series(data / "faults/joints"), onsets_of(load_series(data / "faults/labels"))
    kinds = {f: Anomalies(f, {n: m for n, m in faulty.items() if n.startswith(f)}, onsets) for f in FAULTS}
    model = train_scorer(fit, ScorerConfig(samples=0, seed=seed), steps=options.steps, seed=seed)
    config = SynthesisConfig(count=options.count, seed=seed)
    planned = list(plan(fit, config))
    sets = {
        "synthetic": labelled(planned, {p.name: make(model, fit, p, config) for p in planned}),
        "changed": labelled(*changed_truth(fit, planned, config)),
    }
    sets["tails"] = chosen(sets["synthetic"], ("tail", "normal"))
    base, small = Labelled.normal(fit), ClassifierConfig(seed=seed)
    unseen = [train_classifier(name, [base, sets[name]], model.whitening, small) for name in ("synthetic", "tails")]
    table: dict[str, Any] = {}
    for fault in FAULTS:
        trained = classifiers(model, fit, kinds, fault, sets, small)
        scorers: list[Scorer] = [model, *unseen, *trained]
        detectors = [Detector.calibrate(scorer, calibration, RATES) for scorer in scorers]
        for score, rows in measure(scorers, detectors, normal, [kinds[fault]]).items():
            table.setdefault(score, {})[fault] = {**rows[fault], "false_clips": rows["normal"]["false_clips"]}
    for rows in table.values():
        rows["mean"] = {key: float(np.nanmean([rows[f][key] for f in FAULTS])) for key in rows[FAULTS[0]]}
    return table


def classifiers(
    model: ForecastScorer,
    fit: Series,
    kinds: Mapping[str, Anomalies],
    out: str,
    sets: Mapping[str, Labelled],
    config: ClassifierConfig,
) -> list[DefectClassifier]:
    """Train a classifier on each set with real faults, none of which has clips of the kind that is held out."""

    def real(count: int) -> Labelled:
        clips = {n: kinds[f].clips[n] for f in FAULTS if f != out for n in sorted(kinds[f].clips)[:count]}
        return Labelled(clips, {name: kinds[out].onsets[name] for name in clips})

    wanted = {
        "real": [real(FEW)],
        "real + synthetic": [real(FEW), sets["synthetic"]],
        "real + changed": [real(FEW), sets["changed"]],
        f"real, {MANY}": [real(MANY)],
        f"real + synthetic, {MANY}": [real(MANY), sets["synthetic"]],
    }
    base = Labelled.normal(fit)
    return [train_classifier(name, [base, *more], model.whitening, config) for name, more in wanted.items()]


def labelled(planned: list[Planned], clips: Series) -> Labelled:
    """Return a synthetic set with its labels."""
    ends = {p.name: p.onset if p.kind != "normal" else len(clips[p.name]) for p in planned}
    return Labelled(clips, ends)


def chosen(given: Labelled, kinds: tuple[str, ...]) -> Labelled:
    """Return the samples of some kinds."""
    clips = {name: motion for name, motion in given.clips.items() if name.startswith(kinds)}
    return Labelled(clips, {name: given.onsets[name] for name in clips})


def changed_truth(fit: Series, planned: list[Planned], config: SynthesisConfig) -> tuple[list[Planned], Series]:
    """Return the changes of what truly followed in a normal clip, instead of a sampled future; no tails."""
    units = units_of(fit).float()
    kept = [p for p in planned if p.kind != "tail"]
    clips = {}
    for p in kept:
        motion = fit[p.clip].float()
        start = p.start % (len(motion) - config.observed - config.ahead + 1)
        seen, truth = motion[start : start + config.observed + config.ahead].split([config.observed, config.ahead])
        clips[p.name] = torch.cat([seen, changed(truth, seen[-1], p, units, config.part)])
    return kept, clips


def page(runs: list[dict[str, Any]], options: argparse.Namespace, seconds: float) -> tuple[str, dict[str, Any]]:
    """Return the report and its numbers."""
    table, facts = intervals(runs), provenance()
    rows = []
    found: dict[str, Any] = {}
    for first, second in PAIRS:
        cells_of = {kind: paired(runs, first, second, kind, "auroc_clips") for kind in (*FAULTS, "mean")}
        found[f"{first} - {second}"] = {kind: vars(cell) for kind, cell in cells_of.items()}
        rows.append([first, second, *(told(cell) for cell in cells_of.values())])
    text = "# Do synthetic defects help to train a detector?\n\n"
    text += (
        f"Made by `{facts['command']}` on {facts['date'][:10]}; {facts['machine']['processor']}, "
        f"{facts['machine']['cores']} cores, torch {facts['machine']['torch']}. {options.seeds} seeds, "
        f"{seconds / 60:.0f} minutes.\n\n## How it was measured\n\n"
    )
    text += __doc__.split("\n\n", 2)[2].strip() + "\n\n"
    text += (
        f"Of each seed {FITTED} normal clips of 30 frames fit the forecaster and the classifier, "
        f"{(NORMAL - FITTED) // 2} set thresholds and as many are the normal side of the test; {FAULTY} clips of the "
        f"held-out kind are the other. *Real* has {FEW} clips of each other kind, or {MANY} where it says so. "
        f"{options.count} samples of each synthetic kind. AUROC of clips: of the largest score from the onset on, "
        "against the largest of a normal clip.\n\n"
    )
    header = ["first", "second", *FAULTS, "mean of kinds"]
    text += markdown("AUROC of clips on the held-out kind, first minus second [95 %]", header, rows) + "\n"
    for figure, name in (
        ("auroc_clips", "AUROC of clips, mean over seeds ± 95 %"),
        ("found", "share of faulty clips found at the threshold that promises 0.1 false alarms of normal clips"),
        ("false_clips", "false alarms of normal clips (0.1 promised)"),
    ):
        head, body = cells(table, figure)
        text += markdown(name, ["trained on", *head[1:]], body) + "\n"
    return text, facts | {
        "seeds": options.seeds,
        "seconds": round(seconds),
        "table": plain(table),
        "paired": found,
        "runs": numbers(runs),
    }


def numbers(values: Any) -> Any:
    """Return figures of runs as JSON has them: what is not known is null."""
    if isinstance(values, dict):
        return {key: numbers(value) for key, value in values.items()}
    if isinstance(values, list):
        return [numbers(value) for value in values]
    return None if math.isnan(values) else round(values, 5)


def told(cell: Interval) -> str:
    """Return a difference with its interval, and whether it is resolved."""
    text = f"{cell.mean:+.3f} [{cell.mean - cell.half:+.3f}, {cell.mean + cell.half:+.3f}]"
    return text if abs(cell.mean) > cell.half else f"{text}, not resolved"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/anomaly-synthesis"))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=300, help="training steps of the forecaster")
    parser.add_argument("--count", type=int, default=100, help="samples of each synthetic kind")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(options.seeds):
        path = options.output / f"seed{seed}-{options.count}-{options.steps}.json"
        if not path.exists():  # a run goes on where one was interrupted
            begun = time.monotonic()
            found = one_seed(options.output, seed, options)
            with atomic_path(path) as temporary:
                temporary.write_text(json.dumps({"seconds": time.monotonic() - begun, "table": found}) + "\n")
        kept = json.loads(path.read_text(), parse_constant=lambda _: math.nan)
        runs.append(kept)
        means = {score: round(rows["mean"]["auroc_clips"], 3) for score, rows in kept["table"].items()}
        print(f"seed {seed}: {means}", flush=True)
    text, results = page([run["table"] for run in runs], options, sum(run["seconds"] for run in runs))
    for where, content in ((options.report, text), (options.json, json.dumps(results, indent=1) + "\n")):
        if where:
            with atomic_path(where) as temporary:
                temporary.write_text(content)
            print(f"wrote {where}")


if __name__ == "__main__":
    main()
