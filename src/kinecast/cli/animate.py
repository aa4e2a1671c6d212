"""`kinecast animate`: a picture moved by a clip, all of its frames sent or some of them forecast."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    FpsOption,
    JsonOption,
    LimitOption,
    ModelOption,
    SeedOption,
    StripOption,
    clip_named,
    load_model,
    print_json,
    progress,
    say,
)


def animate(
    driving: Annotated[Path, typer.Option("--driving", help="The clip whose motion is used; - is standard input.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="mp4, mov, webm, mkv or gif.")],
    source: Annotated[
        Path | None, typer.Option("--source", help="Picture or clip (its first frame); for transfer.")
    ] = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="reconstruction or transfer. (default: transfer if there is a --source)"),
    ] = None,
    relative: Annotated[bool, typer.Option("--relative", help="Apply the motion's change, not its positions.")] = False,
    adapt_scale: Annotated[
        bool, typer.Option("--adapt-scale", help="Scale relative motion to the source's size.")
    ] = False,
    best_frame: Annotated[
        bool, typer.Option("--best-frame", help="Start relative motion at the frame posed most like the source.")
    ] = False,
    avd: Annotated[bool, typer.Option("--avd", help="The source's shape in the driving's pose (TPS).")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Move the background too: six more numbers a frame (TPS).")
    ] = False,
    forecast: Annotated[
        str | None, typer.Option("--forecast", help="Forecaster: a name of `kinecast zoo list`, a baseline, or a file.")
    ] = None,
    horizon: Annotated[str, typer.Option("--horizon", help="N-H: observe N frames, forecast H.")] = "12-12",
    samples: Annotated[int, typer.Option("--samples", help="Futures to sample and show side by side.")] = 1,
    compare: Annotated[bool, typer.Option("--compare", help="Show driving frame and true keypoints beside.")] = False,
    model: ModelOption = DEFAULT_BACKBONE,
    crop: CropOption = "center",
    source_crop: Annotated[str, typer.Option("--source-crop", help="center, face or none.")] = "center",
    fps: FpsOption = None,
    limit: LimitOption = None,
    strip: StripOption = False,
    quality: Annotated[
        int, typer.Option("--quality", help="Constant rate factor of the output, 0 best, 51 smallest.")
    ] = 18,
    report: Annotated[Path | None, typer.Option("--report", help="Write the figures to this JSON file.")] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Animate a picture by a clip. Frames that were forecast carry an orange border, observed ones a green border."""
    from kinecast import pipeline
    from kinecast.cli.report import print_report
    from kinecast.data.windows import parse_horizon
    from kinecast.files import atomic_path
    from kinecast.zoo import forecaster_for

    observed, ahead = parse_horizon(horizon)
    options = pipeline.AnimateOptions(
        mode=mode or ("transfer" if source else "reconstruction"),
        relative=relative,
        adapt_scale=adapt_scale,
        best_frame=best_frame,
        avd=avd,
        background=background,
        observed=observed,
        horizon=ahead,
        samples=samples,
        seed=seed,
        crop=crop,
        source_crop=source_crop,
        fps=fps,
        limit=limit,
        quality=quality,
        compare=compare,
    )
    backbone = load_model(model, device)
    forecaster = forecaster_for(forecast, backbone.motion_dim, device) if forecast else None
    with progress() as update:
        result = pipeline.animate_clip(
            backbone, source, clip_named(driving, strip), output, options, forecaster, update
        )
    if report:
        with atomic_path(report) as temporary:
            temporary.write_text(json_module.dumps(result.to_dict(), indent=2))
    if json:
        print_json(result.to_dict())
    else:
        print_report(f"{output}", result)
    say(f"wrote {output}")
