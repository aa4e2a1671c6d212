"""Layout of keypoint forecast tables: rows by person, and differences from the printed models."""

from collections.abc import Mapping
from typing import Any

NOTE = (
    "Every figure is a mean over people, each the mean over their windows. Errors and scores are in raw motion units, "
    "lower is better. MAE is of the median: the model's own where it knows it (baselines, direct, transformer), else "
    "that of its samples, which trembles: of 100 of them it is about half a percent further off. Coverage is of the "
    "central interval, its level is right. Rows marked * read the true future frames and are no forecasts: they are "
    "here to be told apart. A model without samples has its absolute error as CRPS. Intervals resample people and, "
    "within each, their clips; differences are means over people of the ratio to the other model, on the same draws, "
    "and *not resolved* where the interval holds 0. ± is over seeds, *over people* the standard deviation over "
    "people."
)
PERSON_HEADER = (
    "forecaster",
    "MAE [95 %]",
    "over people",
    "worst person",
    "MAE against damped velocity",
    "people worse",
    "CRPS [95 %]",
    "CRPS against climatology",
    "people worse",
)


def person_row(row: Mapping[str, Any]) -> list[str]:
    """Return the cells of `PERSON_HEADER` of a row of `keypoint_table`, as plain values."""
    mae, crps = row["people"]["mae"], row["people"]["crps"]
    against = []
    for column in ("mae", "crps"):
        found = row["against"][column]
        if found is None or found["mean"] == found["low"] == found["high"] == 0:
            against += ["–", "–"]
            continue
        ends = f"{100 * found['mean']:+.1f} % [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
        against += [ends + ("" if found["resolved"] else ", not resolved"), f"{100 * found['worse']:.0f} %"]
    return [
        row["name"] + (" *" if row["reads_future"] else ""),
        f"{mae['mean']:.4f} [{mae['low']:.4f}, {mae['high']:.4f}]",
        f"{mae['deviation']:.4f}",
        f"{mae['worst']:.4f} ({mae['worst_person']})",
        *against[:2],
        f"{crps['mean']:.4f} [{crps['low']:.4f}, {crps['high']:.4f}]",
        *against[2:],
    ]


def list_differences(tables: Mapping[str, Any]) -> str:
    """List for each row how it differs from the printed model of its name."""
    differing = {
        row["name"]: row["differences"] for table in tables.values() for row in table["rows"] if row["differences"]
    }
    lines = [f"- {name}: {'; '.join(found)}." for name, found in differing.items()]
    return "\n".join(["Against the printed models:", "", *lines, "", ""]) if lines else ""


TRAINING_HEADER = ("model", "weights", "steps", "best at", "minutes", "CRPS left to gain", "loss at a fifth, half, end")


def training_row(row: Mapping[str, Any]) -> list[str] | None:
    """Return the cells of `TRAINING_HEADER` of a row of `keypoint_table`; None of what was not trained in steps.

    "Left to gain" is by how much the last third of the curve lowered the best early-stopping CRPS: where it is near 0,
    more steps of this kind would not have helped.
    """
    records = [record for record in row.get("trained", ()) if record.get("curve")]
    if not records:
        return None
    curve = records[0]["curve"]
    losses = [curve[min(len(curve) - 1, int(share * len(curve)))]["loss"] for share in (0.2, 0.5, 1.0)]
    scores = [point["crps"] for point in curve if point["crps"] is not None]
    gained, best = "–", "–"
    if len(scores) > 2:
        earlier = min(scores[: 2 * len(scores) // 3])
        gained = f"{100 * (1 - min(scores) / earlier):.1f} %" if min(scores) < earlier else "0 %"
        best = str(min((point for point in curve if point["crps"] is not None), key=lambda p: p["crps"])["step"])
    return [
        row["name"],
        f"{records[0]['weights'] / 1e6:.2f} million",
        str(max(record["steps"] for record in records)),
        best,
        f"{sum(record['seconds'] for record in records) / len(records) / 60:.1f}",
        gained,
        ", ".join(f"{loss:.3g}" for loss in losses),
    ]
