"""`kinecast research synthetic`: forecasters on processes whose true future distribution is known."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import JsonOption, SeedOption, print_json, say
from kinecast.cli.outputs import WRITES_FOLDER
from kinecast.packages import needs

_NOTE = """\
Energy distance: squared form, between a window's samples and the true conditional distribution given its observed
frames, joint over all frames and dimensions, U-statistic, mean over windows; 0 is perfect, and the row `truth` (further
samples of the true distribution) shows the sampling error. CRPS is against the realised future; that of the truth is
the floor, and the next column is the ratio to it. PIT off: share of the PIT histogram in the wrong bin; 0 is
calibrated. Coverage of the central interval should equal its level.
"""
_BRANCH_NOTE = """\
Branches: `right` is the mean share of samples on the right branch, `share off` its mean absolute error by window,
`both` the share of windows where each branch has at least a tenth of the samples, `astray` the samples on neither.
"""


def evaluate_synthetic(
    output: Annotated[
        Path,
        WRITES_FOLDER,
        typer.Option("-o", "--output", help="Folder for synthetic.md, pit.png, results.json and models."),
    ],
    models: Annotated[
        str | None, typer.Option("--models", help="Forecasters, comma-separated. (default: all trainable ones)")
    ] = None,
    process: Annotated[
        list[str] | None, typer.Option("--process", help="oscillator, branching, jumps, arm. (default: all)")
    ] = None,
    horizon: Annotated[str, typer.Option("--horizon", help="N-H.")] = "12-12",
    series: Annotated[int, typer.Option("--series", help="Series to train each model on.")] = 512,
    windows: Annotated[int, typer.Option("--windows", help="Windows for evaluation.")] = 64,
    samples: Annotated[int, typer.Option("--samples", help="Samples per window.")] = 100,
    steps: Annotated[int, typer.Option("--steps", help="Training steps of each model.")] = 300,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Number of runs with successive seeds; more than 1 gives spreads.")
    ] = 1,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train on simulated motion and compare samples with the true conditional distribution. Models are reused."""
    needs("kinecast research synthetic", "research")
    from dataclasses import asdict

    from kinecast.cli.terminal import show
    from kinecast.data.windows import parse_horizon
    from kinecast.research.data.synthetic import PROCESSES
    from kinecast.research.synthetic import MODELS, SyntheticTableConfig, pit_figure, synthetic_table
    from kinecast.research.tables import markdown, write_report

    config = SyntheticTableConfig(
        processes=tuple(process or PROCESSES),
        models=MODELS if models is None else tuple(name.strip() for name in models.split(",")),
        horizon=parse_horizon(horizon),
        series=series,
        windows=windows,
        samples=samples,
        steps=steps,
        seeds=tuple(range(seed, seed + seeds)),
    )
    tables = synthetic_table(config, output / "models", say)
    text = ""
    for name, rows in tables.items():
        header, cells = _cells([asdict(row) for row in rows])
        title = f"{name}, {config.horizon}: {config.windows} windows, {config.samples} samples"
        if not json:
            show(title, header, cells)
        text += markdown(title, header, cells) + "\n"
    pit_figure(output / "pit.png", tables)
    text += _NOTE + (_BRANCH_NOTE if "branching" in tables else "") + "\n![PIT histograms](pit.png)\n"
    results = {"config": asdict(config), "tables": {n: [_plain(asdict(r)) for r in rows] for n, rows in tables.items()}}
    write_report(output, "synthetic", text, results)
    if json:
        print_json(results)
    say(f"wrote {output / 'synthetic.md'}, {output / 'pit.png'} and {output / 'results.json'}")


def _cells(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells of one process's table."""
    columns = {"energy distance": ("energy_distance", 4), "CRPS": ("crps", 4), "/ truth": ("", 3)}
    columns |= {"energy score": ("energy_score", 3), "PIT off": ("pit_deviation", 3)}
    columns |= {f"{level} %": (f"coverage_{level}", 2) for level in (50, 80, 95)}
    if rows[0]["scores"]["astray"] == rows[0]["scores"]["astray"]:  # not NaN: the process branches
        columns |= {"right": ("right_share", 2), "share off": ("share_error", 2)}
        columns |= {"both": ("both_reached", 2), "astray": ("astray", 2)}
    columns["s/window"] = ("seconds_per_window", 4)
    floor = rows[0]["scores"]["crps"]

    def cell(row: dict[str, Any], key: str, digits: int) -> str:
        if not key:
            return f"{row['scores']['crps'] / floor:.{digits}f}"
        text = f"{row['scores'][key]:.{digits}f}"
        return text + (f" ± {row['deviation'][key]:.{digits}f}" if row["deviation"] else "")

    return ["forecaster", *columns], [[row["name"], *(cell(row, *c) for c in columns.values())] for row in rows]


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON lacks, by null."""
    return {
        key: {k: None if v != v else v for k, v in value.items()} if isinstance(value, dict) else value
        for key, value in row.items()
    }
