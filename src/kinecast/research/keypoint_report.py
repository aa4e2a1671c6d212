"""Layout of keypoint forecast tables: rows by person, and differences from the printed models."""

from collections.abc import Mapping
from typing import Any

NOTE = (
    "Every figure is a mean over people, each the mean over their windows. Errors and scores are in raw motion units, "
    "lower is better; coverage of the central interval should equal its level. Rows marked * read the true future "
    "frames and are not forecasts: they are listed for comparison. The CRPS of a model without samples is its absolute "
    "error. Intervals resample people and, within each, their clips; differences are means over people of the ratio to "
    "the other model, on the same draws, and *not resolved* where the interval holds 0. ± is over seeds, *over people* "
    "the standard deviation over people."
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
