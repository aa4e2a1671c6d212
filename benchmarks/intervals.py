"""Paired intervals of what `kinecast research paper` has measured, by person and clip, from its results.json.

    python benchmarks/intervals.py docs/results/paper-style docs/results/actions docs/results/arms \
        --output docs/results/domains-intervals.json --report docs/results/domains-intervals.md

Nothing is measured anew: the values of every window are in the files. A clip without a person in its name counts as
one.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.files import atomic_path
from kinecast.research.people import People
from kinecast.research.tables import markdown, provenance

PAIRS = (
    ("diverse", "vrnn", "gru-nf", "apd_every"),
    ("diverse", "gru-snf", "gru-nf", "apd_every"),
    ("diverse", "gru-snf", "gru-nf", "mae_every_predicted"),
    ("single", "vrnn", "damped", "mae_predicted"),
    ("single", "gru", "damped", "mae_predicted"),
    ("single", "direct", "damped", "mae_predicted"),
    ("single", "vrnn", "gru", "mae_predicted"),
    ("single", "gru-nf", "vrnn", "mae_predicted"),
)
HEADER = ("domain", "table", "first", "second", "column", "difference [95 %]", "people", "clips")


def intervals_of(folder: Path) -> list[dict[str, Any]]:
    """Return the paired differences of one run; rows that it has not are passed over."""
    found: list[dict[str, Any]] = []
    for title, table in json.loads((folder / "results.json").read_text())["tables"].items():
        clips = [window["clip"] for window in table["windows"]]
        rows = {row["name"]: row["by_window"]["0"] for row in table["rows"]}
        people = People(clips)
        told = {"domain": folder.name, "table": title, "people": len(people.names), "clips": len(set(clips))}
        for kind, first, second, column in PAIRS:
            if title.startswith(kind) and first in rows and second in rows:
                difference = people.difference(_values(rows[first], column), _values(rows[second], column))
                if difference is not None:
                    text = str(difference)
                    found.append(
                        {**told, "first": first, "second": second, "column": column, **vars(difference), "text": text}
                    )
    return found


def shares_of(folder: Path) -> list[dict[str, Any]]:
    """Return how much of what damped velocity loses against true keypoints each model wins back, reconstruction."""
    tables = json.loads((folder / "results.json").read_text())["tables"]
    found: list[dict[str, Any]] = []
    for title, table in tables.items():
        if not title.startswith("single, reconstruction"):
            continue
        people = People([window["clip"] for window in table["windows"]])
        rows = {row["name"]: _values(row["by_window"]["0"], "mae_predicted") for row in table["rows"]}
        for model in (name for name in ("gru", "vrnn", "gru-nf", "direct") if name in rows):
            share, low, high = people.interval_of(_won_back, rows["damped"], rows[model], rows["true keypoints"])
            found.append(
                {"domain": folder.name, "table": title, "model": model, "share": share, "low": low, "high": high}
            )
    return found


def _won_back(damped: np.ndarray, model: np.ndarray, true: np.ndarray) -> np.ndarray:
    return (damped - model).mean(axis=-1) / (damped - true).mean(axis=-1)


def _values(row: Mapping[str, list[float]], column: str) -> np.ndarray:
    return np.array(row[column])


def main() -> None:
    """Read the options and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--report", type=Path, required=True)
    options = parser.parse_args()
    rows = [row for folder in options.folders for row in intervals_of(folder)]
    facts = provenance()
    text = (
        "# Forecasts made into video: paired intervals\n\n"
        f"Made by `{facts['command']}` on {facts['date'][:10]} from the results of each run (their machines and dates "
        "are there); nothing was measured anew. A difference is the mean over people of the ratio of two models' "
        "figures, minus 1; intervals of 95 % resample people and, within each, their clips. The faces (paper-style) "
        "are *one* person, whose interval is of her clips; of actions (one man) and arms every clip counts as a "
        "person. Family: kinecast. APD and MAE of all samples.\n\n"
    )
    cells = [
        [str(row[key]) for key in ("domain", "table", "first", "second", "column", "text", "people", "clips")]
        for row in rows
    ]
    shares = [row for folder in options.folders for row in shares_of(folder)]
    of_shares = markdown(
        "Of what damped velocity loses against true keypoints (MAE of predicted frames), won back",
        ("domain", "table", "model", "share [95 %]"),
        [
            [
                r["domain"],
                r["table"],
                r["model"],
                f"{100 * r['share']:.0f} % [{100 * r['low']:.0f}, {100 * r['high']:.0f}]",
            ]
            for r in shares
        ],
    )
    for path, content in (
        (options.report, text + markdown("First model against second", HEADER, cells) + "\n" + of_shares),
        (options.output, json.dumps(facts | {"rows": rows, "won_back": shares}, indent=1) + "\n"),
    ):
        with atomic_path(path) as temporary:
            temporary.write_text(content)


if __name__ == "__main__":
    main()
