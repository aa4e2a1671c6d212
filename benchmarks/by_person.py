"""Put runs of `kinecast research keypoints` together on one page, by person, and their results into one file.

As this, for the page in the docs:

    python benchmarks/by_person.py runs/by-person-6-6 runs/paper-6-6 \
        --output docs/results/forecasts-by-person.json --report docs/results/forecasts-by-person.md

Runs that the results' file has already and that are not named again are kept. What is written is what the runs have
measured; the scaled ratios alone are computed here, of people's APD and MAE.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from kinecast.files import atomic_path
from kinecast.metrics.diversity import scaled_ratios
from kinecast.research.keypoint_report import (
    NOTE,
    PERSON_HEADER,
    TRAINING_HEADER,
    list_differences,
    person_row,
    training_row,
)
from kinecast.research.tables import markdown

PAIRS = (  # the claims of the papers that are orders of two models
    ("vrnn", "gru"),
    ("vae", "vrnn"),
    ("gru-nf", "vrnn"),
    ("nf", "gru-nf"),
    ("gru-snf", "gru-nf"),
    *(("transformer", other) for other in ("gru", "vrnn", "gru-nf", "vae", "nf", "direct", "ridge", "var")),
)
ORACLE_HEADER = ("forecaster", "APD", "MAE of samples", "APD of the kept", "MAE of the kept", "scaled ratio")
RATIO_OF = ("vrnn", "gru-nf")  # the two that the paper scales together
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
OF_SAMPLES = ("energy_score", "spread", "apd", "mae_samples", "apd_kept", "mae_kept")
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
- *families*, `paper-12-12` and `kinecast-12-12`: one clip each, 43 people kept out, the 19 and those of people/ whose
  number ends in 8; of the other 220 every tenth, 22 in all, says when each model stops. The rule is one within each
  table: a score on these 22 every 100 steps, the weights of the best, an end after three without gain or at 1200
  steps (`paper`) and 400 (`kinecast`). The learning rate falls to 0 towards that number of steps, so that a curve that
  is flat at its end does not prove that a longer training would gain nothing. The models of `paper` have the printed
  equations and losses at 128 units, flows of five blocks, which two busy cores can train; the printed sizes were not
  trained. `ridge` has the penalty that was chosen of three on the 220 people.

The store was made a second time on another machine, with as many frames, clips and people as before. The mesh has 42
numbers since, of which the last four move background and shoulders; these tables stay on the first 38, those of the
face, as before, so that they compare (the bundled `transformer-mesh` forecasts 38 and holds the four).

Damped velocity is a held frame on this motion: its damping, chosen on the training people, is 0 (0.002 at most).
Rotation, size and expression are in one table, so that raw MAE weighs what is large: ratios and intervals are what is
to be read. Settings of `ridge` and `var` are chosen on training people alone. One training seed and few training steps,
on two busy cores: a better training may change an order. The command `kinecast evaluate keypoints` is `kinecast
research keypoints` now.

*Samples*: APD is the average pairwise distance of a window's 100 samples ([A], eq. 37) in raw motion units, and *kept*
are the 20 of them nearest to the truth, an oracle's choice; the scaled ratio is that of the paper, of VRNN and GRU-NF
of a family alone, each person's clip a video (mean, median).

**Not run**: the printed sizes; VAE and NF of the family `kinecast`; more than one training seed; 8-16 of one
frame in two; 6-24 for models other than `transformer`.

"""


def section(run: str, results: dict[str, Any]) -> str:
    """Return the Markdown of one run by its name and its results."""
    machine, tables = results["machine"], results["tables"]
    command = results["command"].replace("__main__.py", "kinecast", 1)
    text = (
        f"## {run}\n\n`{command}`, {results['date'][:10]}; {machine['processor']}, "
        f"{machine['cores']} cores, torch {machine['torch']}.\n\n"
    )
    for name, table in tables.items():
        title = f"{name}: {table['windows']} windows; 95 % intervals over {table['unit']}"
        text += "#" + markdown(title, PERSON_HEADER, [person_row(row) for row in table["rows"]]) + "\n"
        text += "#" + markdown(f"{name}: spread and coverage", SCORE_HEADER, [_scores(row) for row in table["rows"]])
        text += "\n" + _diversity(name, table) + _trainings(name, table) + _orders(name, table)
    return text + list_differences(tables)


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
    sure = {row["name"] for row in table["rows"] if row["scores"]["spread"] == 0}  # one forecast, and no samples
    for pair in table["paired"]:
        if sure & {pair["first"], pair["second"]} and pair["column"] in OF_SAMPLES:
            continue
        kinds, families = zip(*(_kind(pair[which]) for which in ("first", "second")), strict=True)
        same = len({family for family in families if family}) == 1 or "transformer" in kinds
        if same and (kinds in PAIRS or kinds[::-1] in PAIRS):
            ends = f"{100 * pair['mean']:+.1f} % [{100 * pair['low']:+.1f}, {100 * pair['high']:+.1f}]"
            told = ends if pair["resolved"] else f"{ends}, not resolved"
            rows.append([pair["first"], pair["second"], pair["column"], told, f"{100 * pair['worse']:.0f} %"])
    header = ("first", "against", "of", "difference [95 %]", "people above")
    return "#" + markdown(f"{name}: paired", header, rows) + "\n" if rows else ""


def _kind(name: str) -> tuple[str, str]:
    """Return a row's model without its preset, and its family, empty of a baseline."""
    kind, _, family = name.partition(" (")
    return kind.partition(":")[0], family.rstrip(")")


def _diversity(name: str, table: dict[str, Any]) -> str:
    """Return the table of samples: all, and the fifth that is nearest to the truth."""
    columns = ("apd", "mae_samples", "apd_kept", "mae_kept")
    ratios = _ratios(table)
    rows = [
        [row["name"], *(f"{row['scores'][column]:.4f}" for column in columns), ratios.get(row["name"], "–")]
        for row in table["rows"]
        if row["scores"].get("apd")
    ]
    return "#" + markdown(f"{name}: samples", ORACLE_HEADER, rows) + "\n" if rows else ""


def _ratios(table: dict[str, Any]) -> dict[str, str]:
    """Return the mean and median over people of scaled APD/MAE of the kept, of VRNN and GRU-NF of each family."""
    found: dict[str, str] = {}
    for family in sorted({row["family"] for row in table["rows"]}):
        rows = {row["name"]: row["by_person"] for row in table["rows"] if row["family"] == family}
        pair = {name: list(of.values()) for name, of in rows.items() if _kind(name)[0] in RATIO_OF}
        if len(pair) == len(RATIO_OF) and all("apd_kept" in person for of in pair.values() for person in of):
            apd, mae = (
                {name: torch.tensor([person[column] for person in of]) for name, of in pair.items()}
                for column in ("apd_kept", "mae_kept")
            )
            for name, ratio in scaled_ratios(apd, mae).items():
                found[name] = f"{ratio.mean:.2f}, {ratio.median:.2f}"
    return found


def _trainings(name: str, table: dict[str, Any]) -> str:
    """Return how long each model was trained, and what was left to gain."""
    rows = [cells for cells in map(training_row, table["rows"]) if cells]
    return "#" + markdown(f"{name}: trainings", TRAINING_HEADER, rows) + "\n" if rows else ""


def main() -> None:
    """Read the options and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    runs = json.loads(options.output.read_text()) if options.output.exists() else {}
    runs |= {folder.name: json.loads((folder / "results.json").read_text()) for folder in options.folders}
    text = "\n".join(section(name, results) for name, results in runs.items())
    for path, content in (
        (options.report, ABOUT + text + NOTE + "\n"),
        (options.output, json.dumps(runs, indent=1) + "\n"),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    main()
