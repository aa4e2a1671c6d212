"""Put runs of `kinecast research keypoints` together on one page, by person, and their results into one file.

As this, for the page in the docs:

    python benchmarks/by_person.py runs/by-person-6-6 runs/paper-6-6 \
        --output docs/results/forecasts-by-person.json --report docs/results/forecasts-by-person.md

What is written is what the runs have measured; nothing is computed but the paired differences that are shown.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from kinecast.files import atomic_path
from kinecast.research.keypoint_report import NOTE, PERSON_HEADER, list_differences, person_row
from kinecast.research.tables import markdown

PAIRS = (  # the claims of the papers that are orders of two models
    ("vrnn", "gru"),
    ("vae", "vrnn"),
    ("gru-nf", "vrnn"),
    ("nf", "gru-nf"),
    ("gru-snf", "gru-nf"),
)
SCORE_HEADER = (
    "forecaster",
    "family",
    "energy score",
    "spread",
    "50 %",
    "80 %",
    "95 %",
    "80 %, worst person",
    "people at 78-82 %",
)
_NEAR = 0.02
ABOUT = """# Forecasts of keypoints, by person

Motion of the faces of many people, by the backbone `mesh` (38 numbers a frame, without its scene), made by
`recipes/people_motion.py` from people/, voxceleb/ and portraits/ of the development data, with landmarks of every frame
found once:

- *one clip each*: the first clip of every person, `--clips 1`: 263 clips of 263 people, 32004 frames, 25 to 30 a
  second.
  `folds-*` keep everybody out once; `kept-out-*` are the bundled file `transformer-mesh` on the 19 people of
  `recipes/bundle.py` whom no weights of the mesh have seen, at every frame and at one frame in two.
- *all clips*, of every second frame (`by-person-fast`): 415 clips of 263 people, 27709 frames. There MAE is of the
  median of 50 samples, which is some 1 % further off than the models' own (climatology, ridge, var, direct);
  later runs take those.

Damped velocity is a held frame on this motion: its damping, chosen on the training people, is 0 (0.002 at most).
Rotation, size and expression are in one table, so that raw MAE weighs what is large: ratios and intervals are what is
to be read. Settings of `ridge` and `var` are chosen on training people alone. One training seed and few training steps,
on two busy cores: a better training may change an order. The command `kinecast evaluate keypoints` is `kinecast
research keypoints` now.

**Not run**: VRNN, VAE, NF, GRU-NF and GRU-SNF on these people, of either family, and the horizons 12-12 and 6-24 for
the models of `by-person-fast`.

"""


def section(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the Markdown of one run and its results."""
    results = json.loads((folder / "results.json").read_text())
    machine, tables = results["machine"], results["tables"]
    text = (
        f"## {folder.name}\n\n`{results['command']}`, {results['date'][:10]}; {machine['processor']}, "
        f"{machine['cores']} cores, torch {machine['torch']}.\n\n"
    )
    for name, table in tables.items():
        title = f"{name}: {table['windows']} windows; 95 % intervals over {table['unit']}"
        text += "#" + markdown(title, PERSON_HEADER, [person_row(row) for row in table["rows"]]) + "\n"
        text += "#" + markdown(f"{name}: spread and coverage", SCORE_HEADER, [_scores(row) for row in table["rows"]])
        text += "\n" + _orders(name, table)
    return text + list_differences(tables), results


def _scores(row: dict[str, Any]) -> list[str]:
    scores = row["scores"]
    coverage = [person["coverage_80"] for person in row["by_person"].values()]
    furthest = max(coverage, key=lambda share: abs(share - 0.8))
    return [
        row["name"],
        row["family"],
        f"{scores['energy_score']:.3f}",
        f"{scores['spread']:.4f}",
        *(f"{scores[f'coverage_{level}']:.2f}" for level in (50, 80, 95)),
        f"{furthest:.2f}",
        f"{100 * sum(abs(share - 0.8) <= _NEAR for share in coverage) / len(coverage):.0f} %",
    ]


def _orders(name: str, table: dict[str, Any]) -> str:
    """Return the paired differences that the papers make claims of."""
    rows = []
    for pair in table["paired"]:
        kinds = tuple(pair[which].partition(" (")[0] for which in ("first", "second"))
        flipped = (kinds[1], kinds[0]) in PAIRS
        if kinds in PAIRS or flipped:
            ends = f"{100 * pair['mean']:+.1f} % [{100 * pair['low']:+.1f}, {100 * pair['high']:+.1f}]"
            told = ends if pair["resolved"] else f"{ends}, not resolved"
            rows.append([pair["first"], pair["second"], pair["column"], told, f"{100 * pair['worse']:.0f} %"])
    header = ("first", "against", "of", "difference [95 %]", "people above")
    return "#" + markdown(f"{name}: paired", header, rows) + "\n" if rows else ""


def main() -> None:
    """Read the options and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    made = {folder.name: section(folder) for folder in options.folders}
    for path, content in (
        (options.report, ABOUT + "\n".join(text for text, _ in made.values()) + NOTE + "\n"),
        (options.output, json.dumps({name: results for name, (_, results) in made.items()}, indent=1) + "\n"),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    main()
