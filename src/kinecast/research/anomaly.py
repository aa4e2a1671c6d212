"""Evaluation of anomaly detection: AUROC, false alarms against the guaranteed rate, frames from onset to alarm.

One run samples everything anew (data, split, training); a table has means over runs with confidence intervals of the
mean (Student's t). Each score is evaluated in two ways:

    frames   AUROC of frames from the onset on against all frames of normal clips
    clips    AUROC of the largest score of a clip from the onset on against the largest of a normal clip;
             alarms by the threshold per clip: share of faulty clips found, and how many frames after the onset;
             of faults that announce a failure, how many frames before it, and the share of clips warned of in time

Notation: T frames.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kinecast.apps.anomaly.detector import Detector, Scorer
from kinecast.data.windows import Series
from kinecast.errors import KinecastError
from kinecast.files import atomic_path

_CONFIDENCE = 0.95
Measured = Mapping[str, float]


@dataclass(frozen=True)
class Anomalies:
    """Clips of one kind of anomaly, each with the first frame of it; 0 where the whole clip is one.

    `failures` are the frames in which what had announced itself happened, where the kind has such.
    """

    name: str
    clips: Series
    onsets: Mapping[str, int]
    failures: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Interval:
    """A mean over runs, and half the width of its confidence interval; NaN of one run."""

    mean: float
    half: float
    runs: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.half) else f" ± {self.half:.3f}")


def measure(
    scorers: Sequence[Scorer], calibrated: Sequence[Detector], normal: Series, kinds: Sequence[Anomalies]
) -> dict[str, dict[str, Measured]]:
    """Return the results of one run: for each score, false alarms under `normal` and the figures of each kind.

    `calibrated` are the scorers' detectors. Scores of one name must come from one scorer.
    """
    table: dict[str, dict[str, Measured]] = {}
    for scorer, detector in zip(scorers, calibrated, strict=True):
        usual = {name: scorer.score_series(motion) for name, motion in normal.items()}
        odd = {kind.name: {name: scorer.score_series(m) for name, m in kind.clips.items()} for kind in kinds}
        for score, threshold in detector.thresholds.items():
            if score in table:
                raise KinecastError(f"anomaly table: expected scores of different names, found {score} twice")
            plain = [_known(scores[score]) for scores in usual.values()]
            rows: dict[str, Measured] = {
                "normal": {
                    "false_frames": float(np.mean([(scores > threshold.frame).mean() for scores in plain])),
                    "false_clips": float(np.mean([scores.max() > threshold.clip for scores in plain])),
                }
            }
            for kind in kinds:
                after = {n: s[score][kind.onsets[n] :] for n, s in odd[kind.name].items()}
                left = None if kind.failures is None else {n: kind.failures[n] - kind.onsets[n] for n in kind.clips}
                rows[kind.name] = _figures(plain, after, threshold.clip, left)
            table[score] = rows
    return table


def _figures(
    normal: list[np.ndarray], after: Mapping[str, np.ndarray], threshold: float, left: Mapping[str, int] | None
) -> Measured:
    found = {name: _first(scores > threshold) for name, scores in after.items()}
    delays = [delay for delay in found.values() if delay is not None]
    leads = [left[name] - delay for name, delay in found.items() if delay is not None] if left else []
    largest = [max(_known(scores), default=-math.inf) for scores in after.values()]
    figures = {
        "auroc_frames": auroc(np.concatenate([_known(s) for s in after.values()]), np.concatenate(normal)),
        "auroc_clips": auroc(np.array(largest), np.array([scores.max() for scores in normal])),
        "found": len(delays) / len(found),
        "delay": float(np.median(delays)) if delays else math.nan,
    }
    if left is not None:
        figures["lead"] = float(np.median(leads)) if leads else math.nan
        figures["warned"] = sum(lead > 0 for lead in leads) / len(found)
    return figures


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Return the probability that a positive scores above a negative, ties half: Mann & Whitney's U over its most."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left") + np.searchsorted(ordered, positive, side="right")
    return float(below.mean() / (2 * len(negative)))


def intervals(runs: Sequence[Mapping[str, Mapping[str, Measured]]]) -> dict[str, dict[str, dict[str, Interval]]]:
    """Return means over runs with confidence intervals: score, kind, figure. Runs in which a figure is NaN drop out."""
    first = runs[0]
    return {
        score: {
            kind: {figure: _interval([run[score][kind][figure] for run in runs]) for figure in first[score][kind]}
            for kind in first[score]
        }
        for score in first
    }


def paired(
    runs: Sequence[Mapping[str, Mapping[str, Measured]]], first: str, second: str, kind: str, figure: str
) -> Interval:
    """Return how much larger a figure of one score is than another's, paired within each run."""
    return _interval([run[first][kind][figure] - run[second][kind][figure] for run in runs])


def _interval(values: Sequence[float]) -> Interval:
    from scipy.stats import t

    kept = np.array([value for value in values if not math.isnan(value)])
    if len(kept) < 2:
        return Interval(float(kept[0]) if len(kept) else math.nan, math.nan, len(kept))
    width = t.ppf((1 + _CONFIDENCE) / 2, len(kept) - 1) * kept.std(ddof=1) / math.sqrt(len(kept))
    return Interval(float(kept.mean()), float(width), len(kept))


def draw_table(path: Path, tables: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Interval]]]]) -> None:
    """Write bars of the clips' AUROC with intervals: a panel per table, a group per kind, a bar per score."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(tables), 3.3), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(tables), sharey=True))
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        kinds = [kind for kind in next(iter(table.values())) if kind != "normal"]
        width = 0.8 / len(table)
        for i, (score, rows) in enumerate(table.items()):
            places = np.arange(len(kinds)) + (i - (len(table) - 1) / 2) * width
            cells = [rows[kind]["auroc_clips"] for kind in kinds]
            errors = [0.0 if math.isnan(cell.half) else cell.half for cell in cells]
            axis.bar(places, [c.mean for c in cells], width, yerr=errors, label=score, error_kw={"linewidth": 0.8})
        axis.axhline(0.5, color="grey", linewidth=0.8, linestyle="--")
        axis.set_xticks(range(len(kinds)), kinds, fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.set_ylim(0, 1.02)
    axes[0].set_ylabel("AUROC of clips")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as JSON values, NaN as null."""
    return {
        score: {
            kind: {
                name: {"mean": _number(cell.mean), "half": _number(cell.half), "runs": cell.runs}
                for name, cell in figures.items()
            }
            for kind, figures in rows.items()
        }
        for score, rows in table.items()
    }


def cells(table: Mapping[str, Mapping[str, Mapping[str, Interval]]], figure: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of one figure: one row per score, one column per kind that has the figure."""
    first = next(iter(table.values()))
    kinds = [kind for kind in first if figure in first[kind]]
    return ["score", *kinds], [[score, *(str(rows[kind][figure]) for kind in kinds)] for score, rows in table.items()]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)


def _known(scores: np.ndarray) -> np.ndarray:
    return scores[~np.isnan(scores)]


def _first(alarms: np.ndarray) -> int | None:
    return int(np.argmax(alarms)) if alarms.any() else None


def onsets_of(labels: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the first labelled frame of each clip, of labels (T, 1)."""
    return {name: int(label[:, 0].argmax()) for name, label in labels.items()}
