"""The plot of a clip's scores over time."""

from collections.abc import Sequence
from pathlib import Path

from kinecast.apps.anomaly.detector import Detector, Verdict
from kinecast.apps.anomaly.scorer import EARLY
from kinecast.files import atomic_path

_DPI = 110


def draw_timeline(
    path: Path, verdicts: Sequence[Verdict], detector: Detector, title: str, onset: int | None = None
) -> None:
    """Write a panel per score: its course, both thresholds, its alarms, and the onset of a fault if known.

    The suffix chooses the format, png or svg.
    """
    from matplotlib.figure import Figure  # the class, not pyplot: no global state, no display

    names = list(detector.thresholds)
    figure = Figure(figsize=(7.5, 0.6 + 1.5 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        known = [verdict for verdict in verdicts if name in verdict.scores]
        values = [verdict.scores[name] for verdict in known]
        axis.plot([verdict.frame for verdict in known], values, color="C0", linewidth=1.3)
        threshold = detector.thresholds[name]
        axis.axhline(
            threshold.frame, color="C1", linestyle=":", linewidth=1, label=f"{detector.rates.frame:g} per frame"
        )
        axis.axhline(threshold.clip, color="C3", linestyle="--", linewidth=1, label=f"{detector.rates.clip:g} per clip")
        alarms = [verdict for verdict in known if name in verdict.clip_alarms]
        axis.plot([v.frame for v in alarms], [v.scores[name] for v in alarms], "o", color="C3", markersize=4)
        if onset is not None:
            axis.axvline(onset, color="black", linewidth=1)
        largest = max([*values, threshold.clip, threshold.frame])
        if min([*values, 0]) >= 0 and largest > 30 * max(threshold.clip, 1e-9):
            axis.set_yscale("symlog", linthresh=max(threshold.clip, 1e-9))
        axis.set_ylabel(name + ("\n(future frames)" if name in EARLY else ""), fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0].legend(fontsize=7, frameon=False, loc="upper left", title="guaranteed false alarms", title_fontsize=7)
    axes[-1].set_xlabel("frame", fontsize=8)
    figure.suptitle(title, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)
