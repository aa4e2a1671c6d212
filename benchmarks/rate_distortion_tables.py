"""Tables and a figure of what benchmarks/rate_distortion_codecs.py measured, clip by clip and person by person.

Notation: a curve is the points of one codec on one clip, at its full and its half size together.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.files import atomic_path
from kinecast.research.bjontegaard import bd_rate, crossing, distortion_at
from machine import describe, table

OURS = "kinecast"
MEASURES = {
    "mae": "MAE",
    "ssim": "1 - SSIM",
    "perceptual": "perceptual",
    "landmark": "landmarks (of `mesh`'s own kind)",
    "landmark68": "landmarks (dlib)",
    "identity": "identity (dlib)",
}
AT = (5, 20)  # kbps at which likeness is compared
Curves = dict[str, dict[str, dict[str, list[tuple[float, float]]]]]  # by clip, codec and measure


def read(folder: Path) -> tuple[Curves, list[dict[str, Any]]]:
    """Return the curves of clips of which every codec and we were measured, and all that was measured of them."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("[!.]*.json"))]
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row["clip"]] += 1
    rows = [row for row in rows if counts[row["clip"]] == max(counts.values())]
    curves: Curves = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        values = row["measures"] | {"ssim": 1 - row["measures"]["ssim"]}
        for measure in MEASURES:
            curves[row["clip"]][row["curve"].removesuffix(", half size")][measure].append(
                (row["kbps"], values[measure])
            )
    return curves, rows


def spread(values: list[float], percent: bool = False) -> str:
    """Return median and quartiles of what there is over people, and how many that are."""
    if not values:
        return "-"
    low, middle, high = np.percentile(values, (25, 50, 75))
    return (
        f"{100 * middle:+.0f} % ({100 * low:+.0f} to {100 * high:+.0f}), {len(values)}"
        if percent
        else f"{middle:.1f} ({low:.1f} to {high:.1f}), {len(values)}"
    )


def savings(curves: Curves, codec: str) -> list[str]:
    """Return a row of BD-rates: what we need in place of the codec, by measure."""
    cells = []
    for measure in MEASURES:
        found = [bd_rate(clip[codec][measure], clip[OURS][measure]) for clip in curves.values()]
        cells.append(spread([one for one in found if one is not None], percent=True))
    return [codec, *cells]


def crossings(curves: Curves, codec: str) -> list[str]:
    """Return a row of the rates above which a codec is better."""
    cells = []
    for measure in MEASURES:
        found = [crossing(clip[OURS][measure], clip[codec][measure]) for clip in curves.values()]
        rates = [rate for rate, after in found if rate is not None and after == "other"]
        never, always = (sum(1 for rate, who in found if rate is None and who == name) for name in ("ours", "other"))
        cells.append(f"{spread(rates)}; {never} never, {always} always")
    return [codec, *cells]


def duels(curves: Curves, codec: str, kbps: float) -> list[str]:
    """Return a row of how many people we are nearer to at a rate, of how many; a codec that cannot go so low loses."""
    cells = []
    for measure in MEASURES:
        won = 0
        for clip in curves.values():
            ours, theirs = (distortion_at(clip[who][measure], kbps) for who in (OURS, codec))
            low = min(rate for rate, _ in clip[codec][measure])
            won += theirs is None and low > kbps or (ours is not None and theirs is not None and ours < theirs)
        cells.append(f"{won} of {len(curves)}")
    return [f"{codec}, {kbps} kbps", *cells]


def budgets(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return a row of each budget: what was kept of it, what was sent, and the measures, mean and deviation."""
    found = []
    own = [row for row in rows if row["curve"] == OURS]
    for budget in sorted({row["budget_kbps"] for row in own}):
        of = [row for row in own if row["budget_kbps"] == budget]
        off = max(abs(row["kbps"] / budget - 1) for row in of)
        cells = [f"{np.mean([row[name] for row in of]):.1f}" for name in ("quality", "one_frame_in", "pictures")]
        values = [[row["measures"][name] for row in of] for name in MEASURES]
        found.append(
            [f"{budget:g}", f"{np.mean([row['kbps'] for row in of]):.2f}", f"{100 * off:.1f} %", *cells]
            + [f"{np.mean(one):.3f} ± {np.std(one):.3f}" for one in values]
        )
    return found


def write(folder: Path, output: Path) -> None:
    """Write PATH.md, PATH.json and PATH.png."""
    curves, rows = read(folder)
    codecs = sorted({codec for clip in curves.values() for codec in clip if codec != OURS})
    seconds = [max(row["seconds"] for row in rows if row["clip"] == clip) for clip in curves]
    names = list(MEASURES.values())
    machine = describe()
    text = (
        "# Rate and distortion of talking faces\n\n"
        f"Made by `{machine['command']}`, {machine['date'][:10]}, {machine['processor']}. {len(curves)} people on whom "
        f"nothing was trained, one clip each of {min(seconds):.1f} to {max(seconds):.1f} s, 256x256 at 25 frames a "
        "second. Rates are of all that a receiver needs. Every eighth frame is compared, the perceptual distance at "
        "every 24th. The landmark network beside dlib's is the one that drives `mesh`: its column is circular. Spread: "
        "median (quartiles), number of people, or mean ± standard deviation over people.\n\n"
    )
    head = ["kbps", "found", "off at most", "quality", "one frame in", "pictures", *names[:1], "SSIM", *names[2:]]
    parts = [("What a budget buys", head, budgets(rows))]
    parts += [
        ("BD-rate: how much more rate than the codec kinecast needs for equal distortion", ["codec", *names],
         [savings(curves, codec) for codec in codecs]),
        ("kbps above which the codec is better", ["codec", *names], [crossings(curves, codec) for codec in codecs]),
        ("People whom kinecast is nearer to", ["codec", *names],
         [duels(curves, codec, kbps) for codec in codecs for kbps in AT]),
    ]  # fmt: skip
    for title, header, cells in parts:
        text += f"## {title}\n\n{table(header, cells)}\n\n"
    with atomic_path(output.with_suffix(".md")) as temporary:
        temporary.write_text(text + f"![curves]({output.name}.png)\n")
    with atomic_path(output.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps({"machine": machine, "people": len(curves), "rows": rows}, indent=1) + "\n")
    draw(rows, codecs, output.with_suffix(".png"))


def draw(rows: list[dict[str, Any]], codecs: list[str], path: Path) -> None:
    """Draw each measure over the rate: means over people of each setting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for axis, (measure, label) in zip(axes.flat, MEASURES.items(), strict=True):
        for codec in [OURS, *codecs]:
            points: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for row in rows:
                if row["curve"].removesuffix(", half size") == codec:
                    value = row["measures"][measure]
                    points[row["curve"] + row["setting"]].append(
                        (row["kbps"], 1 - value if measure == "ssim" else value)
                    )
            means = sorted(tuple(np.mean(one, axis=0)) for one in points.values())
            style = "o-" if codec == OURS else "x--" if codec.endswith("call") else ".-"
            axis.plot(*zip(*means, strict=True), style, label=codec, linewidth=2 if codec == OURS else 1, markersize=4)
        axis.set(xscale="log", xlabel="kbps", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=6)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
