"""Tables and a figure of what benchmarks/rate_distortion_codecs.py measured, clip by clip and person by person.

    python benchmarks/rate_distortion_tables.py runs/rate-distortion docs/results/rate-distortion

A curve is the points of one codec on one clip, at all sizes of its pictures.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.files import atomic_path
from kinecast.research.bjontegaard import bd_rate, crossing, distortion_at, envelope
from kinecast.research.rate_comparison import complete, mean_ratio, nearer
from machine import describe, table

OURS = "kinecast"
MEASURES = {
    "mae": "MAE",
    "ssim": "1 - SSIM",
    "perceptual": "perceptual",
    "landmark": "landmarks (own kind)",
    "landmark68": "landmarks (dlib)",
    "identity": "identity (dlib)",
}
NOTES = {
    "What a budget buys": "Mean ± standard deviation over people.",
    "What more rate gives": "Change of the error, geometric mean over people and its 95 % interval, and the number of "
    "people whose error does not rise.",
    "BD-rate": "How much more rate than the codec kinecast needs for equal distortion: geometric mean over people, its "
    "95 % interval, and the number of people whose two curves share a range of distortions.",
    "Crossing points": "kbps above which the codec is better: median (quartiles), number of people; people for whom it "
    "never is at rates that both curves have; people for whom it always is.",
    "People to whom kinecast is nearer": "At the rate that our stream of the budget took, or against the codec's "
    "lowest rate where that is above it. Unable: beside these, people of whom the codec has no setting of so low a "
    "rate, but at its lowest is nearer. Unknown: people of whom all its settings take less, and ours is better than its"
    " finest.",
    "Codecs at half the frames": "Half the size, the frame before held; median (range) of kbps, and the number of "
    "people to whom our stream is nearer at that rate.",
    "Identity at 5 kbps, by person": "Distances at the rate of our stream, or at a codec's lowest where that is "
    "above it, with those kbps.",
}
HALF_THE_FRAMES = ", one frame in 2"  # the end of such settings
AT = (5, 20)  # kbps at which codecs are compared
Rows = list[dict[str, Any]]
Curves = dict[str, dict[str, dict[str, list[tuple[float, float]]]]]  # by clip, codec and measure


def read(folder: Path) -> Rows:
    """Return what was measured; of SSIM what it lacks to 1, so that less is better throughout."""
    rows = [json.loads(path.read_text()) for path in sorted(folder.glob("[!.]*.json"))]
    for row in rows:
        row["measures"]["ssim"] = 1 - row["measures"]["ssim"]
    return rows


def curves_of(rows: Rows) -> Curves:
    """Return the curves of each clip."""
    curves: Curves = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        for measure in MEASURES:
            curves[row["clip"]][row["curve"]][measure].append((row["kbps"], row["measures"][measure]))
    return curves


def with_codec(curves: Curves, codec: str) -> Curves:
    """Return the clips that have a codec's curve and ours."""
    return {name: clip for name, clip in curves.items() if codec in clip and OURS in clip}


def savings(curves: Curves, codec: str) -> list[str]:
    """Return a row of BD-rates: how much more rate we need than the codec, by measure."""
    clips, cells = with_codec(curves, codec).values(), []
    for measure in MEASURES:
        found = [bd_rate(clip[codec][measure], clip[OURS][measure]) for clip in clips]
        mean = mean_ratio([one for one in found if one is not None])
        cells.append("-" if mean is None else f"{mean.percent()}, {mean.people}")
    return [f"{codec}, {len(clips)} people", *cells]


def crossings(curves: Curves, codec: str) -> list[str]:
    """Return a row of the rates above which a codec is better."""
    clips, cells = with_codec(curves, codec).values(), []
    for measure in MEASURES:
        found = [crossing(clip[OURS][measure], clip[codec][measure]) for clip in clips]
        rates = [rate for rate, after in found if rate is not None and after == "other"]
        never, always = (sum(after == who and rate is None for rate, after in found) for who in ("ours", "other"))
        middle = "-"
        if rates:
            low, half, high = np.percentile(rates, (25, 50, 75))
            middle = f"{half:.1f} ({low:.1f} to {high:.1f}), {len(rates)}"
        cells.append(f"{middle}; {never}; {always}")
    return [f"{codec}, {len(clips)} people", *cells]


def duels(rows: Rows, curves: Curves, codec: str, kbps: float) -> list[str]:
    """Return a row of how many people we are nearer to, at the rate of our stream of a budget."""
    clips, cells = with_codec(curves, codec), []
    points = {row["clip"]: row for row in rows if row["curve"] == OURS and row["budget_kbps"] == kbps}
    for measure in MEASURES:
        found = [
            nearer((points[name]["kbps"], points[name]["measures"][measure]), clip[codec][measure])
            for name, clip in clips.items()
        ]
        notes = [f"{found.count(what)} {what}" for what in ("unable", "unknown") if what in found]
        cells.append(f"{found.count('ours')}{''.join(f', {note}' for note in notes)}")
    return [f"{codec}, {kbps} kbps, {len(clips)} people", *cells]


def thinned(rows: Rows) -> list[list[str]]:
    """Return a row of each codec at half the frames: of how many people our curve is nearer at its rate."""
    curves, found = curves_of(rows), []
    half = [row for row in rows if row["setting"].endswith(HALF_THE_FRAMES)]
    for codec in sorted({row["curve"] for row in half}):
        of, cells = [row for row in half if row["curve"] == codec], []
        for measure in MEASURES:
            verdicts = [nearer((r["kbps"], r["measures"][measure]), curves[r["clip"]][OURS][measure]) for r in of]
            cells.append(f"{verdicts.count('other')}")
        rates = np.percentile([row["kbps"] for row in of], (0, 50, 100))
        found.append([f"{codec}, {len(of)} people", "{1:.1f} ({0:.1f} to {2:.1f})".format(*rates), *cells])
    return found


def budgets(rows: Rows) -> list[list[str]]:
    """Return a row of each budget: what was kept of it, what was sent, and the measures, mean and deviation."""
    found = []
    own = [row for row in rows if row["curve"] == OURS]
    for budget in sorted({row["budget_kbps"] for row in own}):
        of = [row for row in own if row["budget_kbps"] == budget]
        off = [row["kbps"] / budget - 1 for row in of]
        cells = [f"{np.mean([row[name] for row in of]):.1f}" for name in ("quality", "one_frame_in", "pictures")]
        values = [[row["measures"][name] for row in of] for name in MEASURES]
        found.append(
            [f"{budget:g}", f"{len(of)}", f"{np.mean([row['kbps'] for row in of]):.2f}"]
            + [f"{100 * min(off):+.0f} to {100 * max(off):+.0f} %", f"{sum(abs(one) > 0.05 for one in off)}", *cells]
            + [f"{np.mean(one):.3f} ± {np.std(one):.3f}" for one in values]
        )
    return found


def rises(rows: Rows) -> list[list[str]]:
    """Return a row of each two budgets: how the measures change from one to the next, and of how many get no worse."""
    points = {(row["clip"], row["budget_kbps"]): row["measures"] for row in rows if row["curve"] == OURS}
    budgets, found = sorted({budget for _, budget in points}), []
    for less, more in {*zip(budgets[:-1], budgets[1:], strict=True), AT}:
        clips = [clip for clip, budget in points if budget == less and (clip, more) in points]
        cells = []
        for measure in MEASURES:
            changes = [points[clip, more][measure] / points[clip, less][measure] - 1 for clip in clips]
            mean = mean_ratio(changes)
            cells.append("-" if mean is None else f"{mean.percent()}, {sum(one <= 0 for one in changes)}")
        found.append([f"{more:g} against {less:g} kbps, {len(clips)} people", *cells])
    return sorted(found, key=lambda cells: [float(word) for word in cells[0].split() if word.isdigit()])


def people(rows: Rows, codecs: list[str], kbps: float, measure: str) -> list[list[str]]:
    """Return a row of each person: a measure of ours at a budget, and of codecs at the same rate."""
    curves, found = curves_of(rows), []
    for row in rows:
        if row["curve"] == OURS and row["budget_kbps"] == kbps:
            cells = []
            for codec in codecs:
                points = curves[row["clip"]][codec][measure]
                least = envelope(points)[0] if points else None
                value = distortion_at(points, row["kbps"]) if points else None
                known = least is not None and least[0] > row["kbps"]
                cells.append(
                    f"{value:.3f}" if value else f"{least[1]:.3f} at {least[0]:.1f}" if known and least else "-"
                )
            found.append([row["clip"].split("_")[0], f"{row['kbps']:.2f}", f"{row['measures'][measure]:.3f}", *cells])
    return found


def write(folder: Path, output: Path) -> None:
    """Write PATH-tables.md, PATH.json and PATH.png."""
    everything = read(folder)
    whole = [row for row in everything if not row["setting"].endswith(HALF_THE_FRAMES)]  # others have their own table
    rows, machine = complete(whole), describe()
    curves = curves_of(rows)
    codecs = sorted({row["curve"] for row in rows} - {OURS})
    seconds = [row["seconds"] for row in rows]
    clips = len({row["clip"] for row in rows})
    names = list(MEASURES.values())
    text = (
        f"# Rate and distortion of talking faces: all tables\n\nMade by `{machine['command']}` of what "
        f"`benchmarks/rate_distortion_codecs.py` measured, {machine['date'][:10]}, {machine['processor']}. {clips} "
        f"people on whom nothing was trained, one clip each of {min(seconds):.1f} to {max(seconds):.1f} s. What is "
        "measured and how, and what it says: [rate-distortion.md](rate-distortion.md).\n\n"
    )
    head = ["budget", "people", "kbps", "off", "off by > 5 %", "quality", "one frame in", "pictures", *names]
    parts = {
        "What a budget buys": (head, budgets(everything)),
        "What more rate gives": (["", *names], rises(everything)),
        "BD-rate": (["codec", *names], [savings(curves, codec) for codec in codecs]),
        "Crossing points": (["codec", *names], [crossings(curves, codec) for codec in codecs]),
        "People to whom kinecast is nearer": (
            ["codec", *names],
            [duels(rows, curves, codec, kbps) for kbps in AT for codec in codecs],
        ),
        "Codecs at half the frames": (["codec", "kbps", *names], thinned(everything)),
        "Identity at 5 kbps, by person": (["person", "kbps", OURS, *codecs], people(rows, codecs, 5, "identity")),
    }
    for title, (header, cells) in parts.items():
        text += f"## {title}\n\n{NOTES[title]}\n\n{table(header, cells)}\n\n"
    with atomic_path(output.with_name(f"{output.name}-tables.md")) as temporary:
        temporary.write_text(text.rstrip() + "\n")
    save(everything, machine, output.with_suffix(".json"))
    draw(rows, codecs, output.with_suffix(".png"))


def save(rows: Rows, machine: dict[str, Any], path: Path) -> None:
    """Write all that was measured, a line each, to five digits."""
    lines = [json.dumps(rounded(row)) for row in rows]
    with atomic_path(path) as temporary:
        temporary.write_text(f'{{"machine": {json.dumps(machine)},\n"rows": [\n' + ",\n".join(lines) + "\n]}\n")


def rounded(value: Any) -> Any:
    """Return a value of JSON with its numbers to five digits."""
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return float(f"{value:.5g}") if isinstance(value, float) else value


def draw(rows: Rows, codecs: list[str], path: Path) -> None:
    """Draw each measure over the rate: geometric means over people of each setting."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    colours = {name: f"C{i + 1}" for i, name in enumerate(sorted({codec.split(",")[0] for codec in codecs}))}
    for axis, (measure, label) in zip(axes.flat, MEASURES.items(), strict=True):
        for codec in [OURS, *codecs]:
            points, people = defaultdict[str, list[tuple[float, float]]](list), set()
            for row in rows:
                if row["curve"] == codec:
                    points[row["setting"]].append((row["kbps"], row["measures"][measure]))
                    people.add(row["clip"])
            means = sorted(tuple(np.exp(np.mean(np.log(one), axis=0))) for one in points.values())
            style = "k.-" if codec == OURS else ".--" if codec.endswith("call") else ".-"
            more = {} if codec == OURS else {"color": colours[codec.split(",")[0]]}
            axis.plot(*zip(*means, strict=True), style, label=f"{codec} ({len(people)})", linewidth=1.2, **more)
        axis.set(xscale="log", xlabel="kbps", ylabel=label, ylim=(0, None))
        axis.set_xticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=6)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of what was measured")
    parser.add_argument("output", type=Path, help="tables, figures and curves: PATH-tables.md, .json, .png")
    args = parser.parse_args()
    write(args.folder, args.output)


if __name__ == "__main__":
    main()
