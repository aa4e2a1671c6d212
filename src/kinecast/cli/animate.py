"""`kinecast animate`: a picture moved by a clip, all of its frames sent or some of them forecast."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import (
    CropOption,
    DeviceOption,
    EngineOption,
    FpsOption,
    JsonOption,
    LimitOption,
    PrecisionOption,
    SeedOption,
    StripOption,
    TrueFpsOption,
    clip_named,
    load_model,
    print_json,
    progress,
    say,
)
from kinecast.cli.model_choice import AUTO, choose_model
from kinecast.cli.outputs import WRITES_CLIP, WRITES_REPORT
from kinecast.errors import KinecastError

_STREAM = ".kcm"
_MOTION = (".npz", _STREAM)


def animate(
    driving: Annotated[
        Path,
        typer.Option("--driving", help="The clip whose motion is used, or motion: .npz, .kcm; - is standard input."),
    ],
    output: Annotated[Path, WRITES_CLIP, typer.Option("-o", "--output", help="mp4, mov, webm, mkv or gif.")],
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
    horizon: Annotated[
        str | None, typer.Option("--horizon", help="N-H: observe N frames, forecast H. (default: 12-12)")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Futures to sample and show side by side.")] = 1,
    compare: Annotated[bool, typer.Option("--compare", help="Show driving frame and true keypoints beside.")] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Backbone: a name of `kinecast zoo list`, or a file; auto is mesh for faces, else face-128."
        ),
    ] = AUTO,
    crop: CropOption = "center",
    source_crop: Annotated[str, typer.Option("--source-crop", help="center, face or none.")] = "center",
    fps: FpsOption = None,
    true_fps: TrueFpsOption = None,
    limit: LimitOption = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Keep the driving clip's sound.")] = True,
    strip: StripOption = False,
    quality: Annotated[
        int, typer.Option("--quality", help="Constant rate factor of the output, 0 best, 51 smallest.")
    ] = 18,
    report: Annotated[
        Path | None, WRITES_REPORT, typer.Option("--report", help="Write the figures to this JSON file.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Animate a picture by a clip, or by motion alone.

    Frames that were forecast carry an orange border, observed ones a green border.
    """
    from kinecast.apps import pipeline
    from kinecast.cli.report import print_report
    from kinecast.codec.sound import stream_sound
    from kinecast.data.windows import parse_horizon
    from kinecast.files import atomic_path
    from kinecast.zoo import forecaster_for

    of_motion = driving.suffix.lower() in _MOTION
    if of_motion:
        _check_motion(driving, source, mode)
    if horizon is not None and forecast is None:
        raise KinecastError(f"horizon: expected a forecaster for {horizon}, found none: name one with --forecast")
    observed, ahead = parse_horizon(horizon or "12-12")
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
        true_fps=true_fps,
        sound=sound,
    )
    clip = driving if of_motion else clip_named(driving, strip)
    chosen = choose_model(model, clip, source, (crop, source_crop), forecast)
    backbone = load_model(chosen, device, engine, precision)
    forecaster = forecaster_for(forecast, backbone.motion_dim, device) if forecast else None
    with progress() as update:
        if of_motion:
            picture, motion = _read_motion(backbone, driving)
            moved = picture if source is None else source
            heard = stream_sound(driving, motion.edges()[0]) if driving.suffix.lower() == _STREAM else None
            result = pipeline.animate_motion(backbone, moved, motion, output, options, forecaster, update, heard)
        else:
            result = pipeline.animate_clip(backbone, source, clip, output, options, forecaster, update)
    if report:
        with atomic_path(report) as temporary:
            temporary.write_text(json_module.dumps(result.to_dict(), indent=2))
    if json:
        print_json(result.to_dict())
    else:
        print_report(f"{output}", result)
    say(f"wrote {output}")


def _check_motion(driving: Path, source: Path | None, mode: str | None) -> None:
    """Check that there is a picture to animate: a motion file has none, a motion stream has one of its own."""
    if source is None and driving.suffix.lower() != _STREAM:
        raise KinecastError(
            f"{driving}: expected --source with a motion file, which holds no picture, found none: name a picture"
        )
    if mode is not None and mode != ("reconstruction" if source is None else "transfer"):
        expected = "a --source with transfer" if source is None else "no --source with reconstruction"
        raise KinecastError(f"mode: expected {expected}, found {mode!r}: drop --mode, which follows from --source")


def _read_motion(backbone: Any, driving: Path) -> tuple[Any, Any]:
    """Return a motion stream's picture, or None for a motion file, and the motion."""
    from kinecast.codec.clips import read_motion
    from kinecast.motion import Motion

    if driving.suffix.lower() == _STREAM:
        return read_motion(backbone, driving)
    return None, Motion.load(driving)
