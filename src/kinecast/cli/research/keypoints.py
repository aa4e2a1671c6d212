"""`kinecast research keypoints`: the honest table of motion forecasts, and the as-released protocol beside it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import JsonOption, SeedOption, print_json, say
from kinecast.cli.outputs import WRITES_FOLDER
from kinecast.packages import needs

_RELEASED_NOTE = (
    "As released: windows scaled by the minimum and maximum of the observed frames of all windows of their video, mean "
    "of the samples. Rows marked * read the true previous frame for each predicted one."
)


def evaluate_keypoints(
    data: Annotated[Path, typer.Option("--data", help="Folder of motion files, or one .npz of series.")],
    output: Annotated[
        Path, WRITES_FOLDER, typer.Option("-o", "--output", help="Folder for keypoints.md, results.json and models.")
    ],
    validate: Annotated[
        str, typer.Option("--validate", help="Regular expression for the people to evaluate on.")
    ] = "id10291",
    folds: Annotated[
        int | None,
        typer.Option("--folds", help="Cross-validate over this many groups of people, instead of --validate."),
    ] = None,
    every: Annotated[int, typer.Option("--every", help="Windows are of every k-th frame.")] = 1,
    stride: Annotated[
        int, typer.Option("--stride", help="Frames between the starts of training windows; more is faster.")
    ] = 1,
    person: Annotated[
        str | None, typer.Option("--person", help="Regular expression whose group is the person in a clip's name.")
    ] = None,
    horizon: Annotated[
        list[str] | None, typer.Option("--horizon", help="N-H; may be repeated. (default: 6-6, 12-12)")
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="honest, or as-released (all clips, released weights).")
    ] = "honest",
    models: Annotated[
        str | None, typer.Option("--models", help="Models to train, NAME or NAME:PRESET; commas. (default: all)")
    ] = None,
    baselines: Annotated[
        str | None, typer.Option("--baselines", help="Baselines to compare with; commas. (default: all)")
    ] = None,
    released: Annotated[
        Path | None, typer.Option("--released", help="Folder with the released vrnn_vox_N-H.safetensors.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Samples per window. (default: 100; as released 50)")
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Training steps of each model. (default: its own)")
    ] = None,
    stop_early: Annotated[
        bool,
        typer.Option("--stop-early", help="Leave every tenth training person out, and stop when they gain no more."),
    ] = False,
    patience: Annotated[
        int, typer.Option("--patience", help="Scores without gain that end a training, one every 100 steps.")
    ] = 5,
    chosen: Annotated[
        list[str] | None,
        typer.Option("--set", help="MODEL.NAME=VALUE, a size or choice of a model's config; may be repeated."),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Number of runs with successive seeds; more than 1 gives spreads.")
    ] = 1,
    workers: Annotated[int, typer.Option("--workers", help="Training processes, one thread each.")] = 1,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train on some people, forecast the others and report scores by person. Models are kept and reused."""
    needs("kinecast research keypoints", "research")
    from kinecast.data.keypoint_store import load_series
    from kinecast.data.video_folder import PERSON_PATTERN
    from kinecast.data.windows import parse_horizon
    from kinecast.errors import KinecastError
    from kinecast.research.protocol import PROTOCOLS, RELEASED_SAMPLES

    if protocol not in PROTOCOLS:
        raise KinecastError(f"protocol: expected one of {', '.join(PROTOCOLS)}; found {protocol!r}")
    horizons = tuple(parse_horizon(text) for text in horizon or ("6-6", "12-12"))
    series = load_series(data)
    weights = _released(released, horizons) if released else {}
    if protocol == "as-released":
        results = _as_released(
            series, weights, horizons, validate, samples or RELEASED_SAMPLES, seed, output, quiet=json
        )
    else:
        from kinecast.research.keypoints import BASELINES, MODELS, KeypointTableConfig
        from kinecast.research.selection import CANDIDATES

        config = KeypointTableConfig(
            horizons=horizons,
            validate=validate,
            person=person or PERSON_PATTERN,
            models=MODELS if models is None else tuple(name.strip() for name in models.split(",")),
            baselines=BASELINES if baselines is None else tuple(name.strip() for name in baselines.split(",")),
            samples=samples or 100,
            seeds=tuple(range(seed, seed + seeds)),
            training={"stride": stride, "patience": patience} | ({} if steps is None else {"steps": steps}),
            stop_early=stop_early,
            candidates=CANDIDATES | _settings(chosen or []),
            workers=workers,
            folds=folds,
            every=every,
        )
        results = _honest(series, weights, config, output, quiet=json)
    if json:
        print_json(results)
    say(f"wrote {output / 'keypoints.md'} and {output / 'results.json'}")


def _settings(texts: list[str]) -> dict[str, list[dict[str, Any]]]:
    """Read MODEL.NAME=VALUE into the only settings of each model named."""
    from json import JSONDecodeError, loads

    from kinecast.errors import KinecastError

    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        model, dot, key = name.partition(".")
        if not (equals and dot and model and key):
            raise KinecastError(f"--set: expected MODEL.NAME=VALUE, such as gru-nf:paper.blocks=5; found {text!r}")
        try:
            found.setdefault(model, {})[key] = loads(value)
        except JSONDecodeError:
            found.setdefault(model, {})[key] = value  # a word
    return {model: [values] for model, values in found.items()}


def _honest(series: Any, weights: Any, config: Any, output: Path, quiet: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from kinecast.cli.terminal import show
    from kinecast.research.keypoint_report import NOTE, PERSON_HEADER, list_differences, person_row
    from kinecast.research.keypoints import keypoint_table
    from kinecast.research.tables import markdown, write_report

    tables = keypoint_table(series, weights, config, output / "models", say)
    text = ""
    header = (
        "forecaster",
        "family",
        "MAE",
        "MAE min-max",
        "CRPS",
        "/ climatology",
        "energy",
        "spread",
        "50 %",
        "80 %",
        "95 %",
        "s/window",
    )
    for name, table in tables.items():
        rows = [_honest_row(row) for row in table["rows"]]
        who = "everybody, cross-validated" if config.folds else config.validate
        thinned = f", one frame in {config.every}" if config.every > 1 else ""
        title = f"honest, {name}{thinned}: {table['windows']} windows of {table['people']} people ({who})"
        by_person = f"{name}, by person: intervals of 95 % over {table['unit']}"
        persons = [person_row(row) for row in table["rows"]]
        if not quiet:
            show(title, header, rows)
            show(by_person, PERSON_HEADER, persons)
        text += markdown(title, header, rows) + "\n" + markdown(by_person, PERSON_HEADER, persons) + "\n"
    text += list_differences(tables)
    results = {"protocol": "honest", "config": asdict(config), "tables": tables}
    write_report(output, "keypoints", text + NOTE + "\n", results)
    return results


def _honest_row(row: dict[str, Any]) -> list[str]:
    def cell(column: str, digits: int) -> str:
        text = f"{row['scores'][column]:.{digits}f}"
        return text + (f" ± {row['deviation'][column]:.{digits}f}" if row["deviation"] else "")

    return [
        row["name"] + (" *" if row["reads_future"] else ""),
        row["family"],
        cell("mae", 4),
        cell("mae_normalised", 4),
        cell("crps", 4),
        f"{row['crps_to_climatology']:.3f}",
        cell("energy_score", 3),
        cell("spread", 4),
        *(cell(f"coverage_{level}", 2) for level in (50, 80, 95)),
        f"{row['scores']['seconds_per_window']:.4f}",
    ]


def _as_released(
    series: Any, weights: Any, horizons: Any, validate: str, samples: int, seed: int, output: Path, quiet: bool
) -> dict[str, Any]:
    from dataclasses import asdict

    from kinecast.cli.terminal import show
    from kinecast.data.windows import split_by_person
    from kinecast.research.protocol import RELEASED_PHI, released_table
    from kinecast.research.tables import markdown, write_report

    tables, text = {}, ""
    header = ("reading", "MAE min-max", "MAE raw")
    for horizon in horizons:
        for who, clips in (("all clips", series), (validate, split_by_person(series, validate)[1])):
            rows, windows = released_table(clips, weights, horizon, RELEASED_PHI.get(horizon, 0.43), samples, seed)
            cells = [[r.name + (" *" if r.reads_future else ""), f"{r.normalised:.4f}", f"{r.raw:.4f}"] for r in rows]
            title = f"as-released, {horizon}: {windows} windows of {who}"
            if not quiet:
                show(title, header, cells)
            text += markdown(title, header, cells) + "\n"
            tables[f"{horizon} {who}"] = {"windows": windows, "rows": [asdict(row) for row in rows]}
    results = {"protocol": "as-released", "samples": samples, "seed": seed, "tables": tables}
    write_report(output, "keypoints", text + _RELEASED_NOTE + "\n", results)
    return results


def _released(folder: Path, horizons: Any) -> dict[Any, Any]:
    """Load the released weights of the horizons that there are."""
    from kinecast.errors import KinecastError
    from kinecast.forecasting.storage import load_forecaster_file

    found = {h: folder / f"vrnn_vox_{h}.safetensors" for h in horizons}
    found = {h: path for h, path in found.items() if path.exists()}
    if not found:
        names = ", ".join(f"vrnn_vox_{h}.safetensors" for h in horizons)
        raise KinecastError(f"{folder}: expected released weights such as {names}, found none: check the folder")
    return {h: load_forecaster_file(path) for h, path in found.items()}
