"""GRU-SNF against GRU-NF, honest: does refinement make samples more diverse and no less accurate (arXiv 2512.04282)?

One GRU-NF is trained for each data set; the same weights are then sampled plain and refined, over eps, n and both
choices of mu, and with the exact energy. Data: keypoints of a person kept out of training, and processes whose true
conditional distribution can be sampled (`data.synthetic`). The figures are of predicted frames only:

    ED     energy distance (dcor): of each window's samples to samples of its true distribution where that is known,
           U-statistic; of real motion, of all forecasts to all truths pooled (V-statistic)
    APD    mean |x_i - x_j| over sample pairs and numbers (mean pairwise L1 of the sampled trajectories)
    CRPS, MAE of the median, coverage of the 80 % interval; ms: processor time a window
    +-     two standard errors over windows of the paired difference to GRU-NF, in percent of GRU-NF's

    python benchmarks/refinement.py KEYPOINTS.npz --output refinement.json --report refinement.md
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinecast.data.keypoint_store import load_series
from kinecast.data.windows import Series, Windows, evaluation_windows, parse_horizon, split_by_person
from kinecast.files import atomic_path
from kinecast.forecasting import Forecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.metrics.distances import conditional_energy_distance, pooled_energy_distance
from kinecast.metrics.scores import coverage, crps, median_error
from kinecast.research.data.synthetic import PROCESSES, build_process, synthetic_series, synthetic_windows
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster
from machine import describe, table, write_results

EPSILONS, STEPS, MEANS = (0.1, 0.35, 1.0), (1, 2, 5), ("flow", "head")
EXACT = {"energy": "exact", "acceptance": "joint", "steps": 2, "epsilon": 0.35}
# The published parametrisation in a size that a few minutes train: one joint state, positions in training units.
PAPER_LIKE = {"hidden": 64, "layers": 1, "blocks": 5, "flow_hidden": 64, "flow_layers": 3, "dropout": 0.1}
VERDICTS = ("holds", "does not hold", "not resolved")
VALIDATE, HORIZONS, WINDOWS, REFERENCE = "id10291", ("6-6", "12-12"), 32, 100


@dataclass(frozen=True)
class Case:
    """A data set with a trained GRU-NF. `reference` (R, B, H, D) is drawn from the true distribution, or None."""

    name: str
    model: GRUNF
    training: Tensor
    windows: Windows
    reference: Tensor | None


def train(series: Series, windows: Windows, steps: int, seed: int, published: bool) -> GRUNF:
    config = ForecasterTrainingConfig(
        model="gru-nf",
        preset="paper" if published else "kinecast",
        overrides=PAPER_LIKE if published else {},
        observed=windows.horizon.observed,
        forecast=windows.horizon.forecast,
        steps=steps,
        seed=seed,
    )
    model = train_forecaster(series, config).model
    assert isinstance(model, GRUNF)
    return model


def cases(keypoints: Path, steps: int, seed: int) -> list[Case]:
    made = []
    training, kept_out = split_by_person(load_series(keypoints), VALIDATE)
    for text in HORIZONS:
        horizon = parse_horizon(text)
        whole = evaluation_windows(kept_out, horizon)
        picked = torch.linspace(0, len(whole.frames) - 1, WINDOWS).round().long()  # spread over the clips
        windows = Windows(whole.frames[picked], [whole.clips[i] for i in picked.tolist()], horizon)
        cut = evaluation_windows(training, horizon).frames
        for published in (False, True):
            started = time.perf_counter()
            model = train(training, windows, steps, seed, published)
            name = f"keypoints {text}, {'as published' if published else 'small'}"
            print(f"{name}: trained in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
            made.append(Case(name, model, cut, windows, None))
    for name in PROCESSES:
        process, horizon = build_process(name), parse_horizon("12-12")
        series = synthetic_series(process, 200, horizon.frames, seed)
        windows = synthetic_windows(process, WINDOWS, horizon, seed + 1)
        reference = process.futures(windows.observed, 12, REFERENCE, torch.Generator().manual_seed(seed))
        model = train(series, windows, steps, seed, published=False)
        print(f"{name}: trained", file=sys.stderr, flush=True)
        made.append(Case(f"{name} 12-12, small", model, torch.stack(list(series.values())), windows, reference))
    return made


def settings() -> list[dict[str, Any]]:
    paper = [{"mean": m, "epsilon": e, "steps": n} for m in MEANS for e in EPSILONS for n in STEPS]
    return [*paper, EXACT]


def measure(case: Case, model: Forecaster, samples: int, seed: int) -> dict[str, Any]:
    """Return the figures, with those of each window (B,) under `windows`."""
    horizon, truth = case.windows.horizon.forecast, case.windows.truth
    started, rate = time.process_time(), None
    if isinstance(model, GRUSNF):
        drawn, report = model.sample_with_report(case.windows.observed, horizon, samples, seed=seed)
        rate = report.acceptance_rate
    else:
        drawn = model.forecast(case.windows.observed, horizon, samples, seed=seed)
    seconds = time.process_time() - started
    ordered = drawn.sort(dim=0).values
    weight = (2 * torch.arange(1, samples + 1) - samples - 1).view(-1, 1, 1, 1)
    by_window = {
        "apd": (2 * (weight * ordered).sum(dim=0) / samples**2).flatten(1).mean(dim=1),
        "crps": crps(drawn, truth).flatten(1).mean(dim=1).float(),
        "mae": median_error(drawn, truth).flatten(1).mean(dim=1),
    }
    if case.reference is not None:
        by_window["energy_distance"] = conditional_energy_distance(drawn, case.reference).float()
    figures = {name: float(values.mean()) for name, values in by_window.items()}
    if case.reference is None:
        figures["energy_distance"] = pooled_energy_distance(drawn[:10], truth)
    covered = coverage(drawn, truth, (0.8,))[0.8]
    more = {"coverage_80": covered, "ms": 1000 * seconds / len(truth), "acceptance": rate}
    return {"figures": figures | more, "windows": by_window}


def compare(case: Case, samples: int, seed: int) -> list[dict[str, Any]]:
    plain = measure(case, case.model, samples, seed)
    rows = [{"setting": "GRU-NF", "energy": None, **plain["figures"]}]
    for setting in settings():
        model = GRUSNF.from_gru_nf(case.model, **setting)
        if setting.get("mean") == "head":
            model.fit_head(case.training, case.windows.horizon.observed)
        found = measure(case, model, samples, seed)
        row: dict[str, Any] = {"energy": setting.get("energy", "paper"), **setting, **found["figures"]}
        row["setting"] = f"{setting.get('mean', 'exact')} n={setting['steps']} eps={setting['epsilon']}"
        for name, values in found["windows"].items():
            difference = (values - plain["windows"][name]) / plain["figures"][name]
            row[f"{name}_change"] = float(difference.mean())
            row[f"{name}_error"] = float(2 * difference.std() / len(difference) ** 0.5)
        row["more_diverse"] = row["apd_change"] > row["apd_error"]
        row["no_less_accurate"] = max(row[f"{n}_change"] - row[f"{n}_error"] for n in ("mae", "crps")) <= 0
        rows.append(row)
    return rows


def section(name: str, rows: list[dict[str, Any]]) -> str:
    """Return the Markdown of one data set: what holds, and the table."""
    paper = [row for row in rows if row["energy"] == "paper"]
    diverse, accurate = ([row for row in paper if row[key]] for key in ("more_diverse", "no_less_accurate"))
    told = {word: [row["setting"] for row in paper if verdict(row) == word] for word in VERDICTS}
    holds = f" ({', '.join(told['holds'])})" if told["holds"] else ""
    text = (
        f"Of {len(paper)} settings of the paper's energy: more diverse in {len(diverse)}, less accurate in "
        f"{len(paper) - len(accurate)}. The claim holds in {len(told['holds'])}{holds}, does not hold in "
        f"{len(told['does not hold'])}, and is not resolved in {len(told['not resolved'])}."
    )
    header = ["", "ED", "APD", "change", "CRPS", "change", "MAE", "change", "80 %", "accepted", "ms"]
    cells = []
    for row in rows:
        changes = [
            f"{100 * row[f'{n}_change']:+.1f} ± {100 * row[f'{n}_error']:.1f} %" if f"{n}_change" in row else ""
            for n in ("apd", "crps", "mae")
        ]
        scores = [f"{row[n]:.5f}" for n in ("apd", "crps", "mae")]
        pairs = [cell for pair in zip(scores, changes, strict=True) for cell in pair]
        accepted = "" if row["acceptance"] is None else f"{100 * row['acceptance']:.0f} %"
        shown = [f"{row['energy_distance']:.4f}", *pairs, f"{100 * row['coverage_80']:.0f} %", accepted]
        cells.append([row["setting"], *shown, f"{row['ms']:.1f}"])
    return f"## {name}\n\n{text}\n\n{table(header, cells)}\n"


def report(results: dict[str, Any]) -> str:
    machine, rows = results["machine"], results["cases"]
    paper = [row for case in rows.values() for row in case if row["energy"] == "paper"]
    counts = {word: sum(verdict(row) == word for row in paper) for word in VERDICTS}
    exact = [row for case in rows.values() for row in case if row["energy"] == "exact"]
    kept = sum(abs(row["crps_change"]) <= row["crps_error"] for row in exact)
    head = f"""# GRU-SNF against GRU-NF

The published claim (arXiv 2512.04282) is that refinement at inference gives more diverse samples that are no less
accurate. Here the same weights are sampled plain and refined; nothing sees a later frame, and no sample is chosen with
the truth. *Holds*: APD above GRU-NF's by more than two standard errors of the paired difference, and neither the
median's MAE nor CRPS above by more than two. *Does not hold*: APD below, or MAE or CRPS above, by more than two. *Not
resolved*: neither. Of {len(paper)} settings on all data sets {counts["holds"]} hold, {counts["does not hold"]} do not,
and {counts["not resolved"]} are not resolved. The exact energy, which must change nothing, has CRPS within two standard
errors of GRU-NF's in {kept} of {len(exact)}.

{results["samples"]} samples, {WINDOWS} windows a data set (of {VALIDATE}, kept out of training; of processes,
fresh series), seed {results["seed"]}, {results["steps"]} training steps, sigma^2 = 1/2, random walk, acceptance per
dimension (exact: joint). One training seed: a difference between data sets may be one between trainings. Standard
errors are over windows, of the keypoints those of one person: they say nothing about other people. `small` is the
family `kinecast`; `as published` the printed parametrisation in a size that minutes train
({", ".join(f"{k} {v}" for k, v in PAPER_LIKE.items())}). {results.get("note", "")}

ED: energy distance, to the true conditional distribution for processes (U-statistic), pooled for real motion (no
true distribution is known: small values do not say that each window is forecast well). ms: processor time a window.

{machine["processor"]}, {machine["cores"]} cores, torch {machine["torch"]}, {machine["date"]}: `{machine["command"]}`
"""
    return "\n".join([head, published_setting(rows), *(section(name, case) for name, case in rows.items())])


def verdict(row: dict[str, Any]) -> str:
    """Return what a setting says of the claim: one of `VERDICTS`."""
    if not row["no_less_accurate"] or row["apd_change"] < -row["apd_error"]:
        return "does not hold"
    return "holds" if row["more_diverse"] else "not resolved"


def published_setting(cases: dict[str, list[dict[str, Any]]]) -> str:
    """Return the table of n = 2, eps = 0.35, both choices of mu, over all data sets."""
    header = ["data", "mu", "ED plain", "ED refined", "APD", "CRPS", "MAE", "claim"]
    rows = []
    for name, case in cases.items():
        plain = next(row for row in case if row["energy"] is None)
        for row in case:
            if row["energy"] == "paper" and (row["steps"], row["epsilon"]) == (2, 0.35):
                changes = [f"{row[f'{key}_change']:+.1%} ± {row[f'{key}_error']:.1%}" for key in ("apd", "crps", "mae")]
                distances = [f"{r['energy_distance']:.4f}" for r in (plain, row)]
                rows.append([name, row["mean"], *distances, *changes, verdict(row)])
    return "## The published setting: n=2, eps=0.35\n\n" + table(header, rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("keypoints", type=Path, nargs="?", help="keypoint series (.npz)")
    parser.add_argument("--samples", type=int, default=40, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="of training (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument(
        "--results", type=Path, help="kept results (.json), of which the report is made; nothing is run"
    )
    args = parser.parse_args()
    if args.results:
        with atomic_path(args.report) as temporary:
            temporary.write_text(report(json.loads(args.results.read_text())))
        return 0
    torch.set_num_threads(1)
    started, machine, rows = time.perf_counter(), describe(), {}
    for case in cases(args.keypoints, args.steps, args.seed):
        rows[case.name] = compare(case, args.samples, args.seed)
        print(section(case.name, rows[case.name]), flush=True)
    results = {"machine": machine, "seed": args.seed, "samples": args.samples, "steps": args.steps, "cases": rows}
    results["seconds"] = round(time.perf_counter() - started)
    write_results(args.output, results)
    if args.report:
        with atomic_path(args.report) as temporary:
            temporary.write_text(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
