"""The figures of `kinecast research rate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kinecast.files import atomic_path
from kinecast.packages import optional
from kinecast.research.rate_distortion import Point

_LABELS = {
    "mae": "MAE",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "perceptual": "perceptual distance",
    "landmark": "landmark distance / eye distance",
    "identity": "identity distance (same person: below 0.6)",
    "own": "MAE from own output with exact keypoints",
    "keypoint": "keypoint error, motion units",
}
_MARKS = "osv^DPX*<>hd"


def plot_curves(points: Sequence[Point], measures: Sequence[str], path: Path, title: str, log: bool = True) -> None:
    """Draw one panel a measure: each curve's points over the rate, ordered by rate."""
    axes, figure = _panels(len(measures))
    from matplotlib.ticker import LogLocator, NullFormatter

    curves = list(dict.fromkeys(point.curve for point in points))
    for axis, measure in zip(axes, measures, strict=False):
        for index, curve in enumerate(curves):
            own = sorted((p for p in points if p.curve == curve), key=lambda p: p.kbps)
            style = "--" if curve.endswith(" at half size") else "-"
            axis.plot(
                [p.kbps for p in own],
                [p.distortions[measure] for p in own],
                style,
                marker=_MARKS[index % len(_MARKS)],
                color=_colour(curve, curves),
                markersize=4,
                label=curve,
                linewidth=2 if curve == "kinecast" else 1,
            )
        axis.set(xlabel="kbps", ylabel=_LABELS[measure], xscale="log" if log else "linear")
        if log:
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.suptitle(title)
    _save(figure, path)


def plot_losses(rows: Sequence[dict[str, Any]], measure: str, path: Path) -> None:
    """Draw one panel for each kind of loss and way of sending keys: each concealment over the share lost."""
    kinds = list(dict.fromkeys((row["kind"], row["keys"]) for row in rows))
    axes, figure = _panels(len(kinds))
    for axis, (kind, keys) in zip(axes, kinds, strict=False):
        own = [row for row in rows if (row["kind"], row["keys"]) == (kind, keys) and row["loss"]]
        for index, name in enumerate(dict.fromkeys(row["concealment"] for row in own)):
            line = [row for row in own if row["concealment"] == name]
            axis.plot(
                [100 * row["loss"] for row in line],
                [row["distortions"][measure] for row in line],
                marker=_MARKS[index],
                label=name,
            )
        axis.set(xlabel="packets lost, %", ylabel=_LABELS[measure], title=f"{kind} loss, keys {keys}")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    _save(figure, path)


def _colour(curve: str, curves: Sequence[str]) -> Any:
    """One colour for a codec at both sizes; of 20, where 10 do not go round."""
    from matplotlib import colormaps

    names = list(dict.fromkeys(name.removesuffix(" at half size") for name in curves))
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
    return colours(names.index(curve.removesuffix(" at half size")) % colours.N)


def _panels(count: int) -> tuple[list[Any], Any]:
    figures = optional("figures", "matplotlib.figure")
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = figures.Figure(figsize=(5 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for axis in axes[count:]:
        axis.set_axis_off()
    return axes, figure


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, metadata={"Software": None})
