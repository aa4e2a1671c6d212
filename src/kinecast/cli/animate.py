"""`kinecast animate`: animate a picture with a clip's motion, all frames sent or some of them forecast."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import (
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
from kinecast.cli.outputs import WRITES_CLIPS, WRITES_PICTURE, WRITES_REPORT
from kinecast.cli.portrait import Portraits, check_clip_named
from kinecast.cli.transfer_options import EyesOption, LipsOption, RegionOption, StrengthOption, transfer_of
from kinecast.cli.workers import RayOption, WorkersOption
from kinecast.errors import KinecastError

_STREAM = ".kcm"
_MOTION = (".npz", ".csv", _STREAM)


def animate(
    driving: Annotated[
        Path,
        typer.Option(
            "--driving",
            help="Driving clip, motion (.npz, .kcm), ARKit blendshapes (.csv) or video with GFV messages; - is stdin.",
        ),
    ],
    output: Annotated[
        Path | None,
        WRITES_CLIPS,
        typer.Option("-o", "--output", help="Output clip (mp4, mov, webm, mkv or gif); a folder for several."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", help="Picture to animate, a clip (its first frame is used), or a folder of them."),
    ] = None,
    face: Annotated[
        str | None,
        typer.Option("--face", help="Face to animate: largest, all, or its number from the left. (default: largest)"),
    ] = None,
    square: Annotated[bool, typer.Option("--square", help="Output only the square around the head.")] = False,
    size: Annotated[
        int | None, typer.Option("--size", help="Side of that square: 256, 512 or 1024 pixels. (default: 512)")
    ] = None,
    start: Annotated[float, typer.Option("--start", help="Start of the driving clip, in seconds.")] = 0.0,
    end: Annotated[float | None, typer.Option("--end", help="End of the driving clip, in seconds.")] = None,
    smooth: Annotated[bool, typer.Option("--smooth", help="Smooth jitter in the landmarks (One Euro filter).")] = False,
    reenact: Annotated[
        bool,
        typer.Option("--reenact", help="The source is a clip: animate each of its frames, on top of its own motion."),
    ] = False,
    preview: Annotated[
        Path | None,
        WRITES_PICTURE,
        typer.Option("--preview", help="Write a preview of the crop to this picture; without -o, write nothing else."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="In a folder: replace outputs made with different settings.")
    ] = False,
    mode: Annotated[
        str | None,
        typer.Option(
            "--mode",
            help="reconstruction, transfer, or a kind of transfer: relative, absolute, mixed (the driving "
            "head pose). (default: transfer with --source)",
        ),
    ] = None,
    relative: Annotated[
        bool | None,
        typer.Option(
            "--relative/--absolute",
            help="Relative or absolute motion. (default: relative with --source)",
        ),
    ] = None,
    adapt_scale: Annotated[
        bool, typer.Option("--adapt-scale", help="Scale relative motion to the source's size.")
    ] = False,
    strength: StrengthOption = None,
    region: RegionOption = "all",
    eyes: EyesOption = None,
    lips: LipsOption = None,
    best_frame: Annotated[
        bool,
        typer.Option("--best-frame", help="Start relative motion at the frame whose pose best matches the source."),
    ] = False,
    avd: Annotated[bool, typer.Option("--avd", help="Keep the source's shape, take the driving pose (TPS).")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Animate the background too: six more numbers per frame (TPS).")
    ] = False,
    forecast: Annotated[
        str | None, typer.Option("--forecast", help="Forecaster: a name of `kinecast zoo list`, a baseline, or a file.")
    ] = None,
    horizon: Annotated[
        str | None, typer.Option("--horizon", help="N-H: observe N frames, forecast H. (default: 12-12)")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", help="Samples to show side by side.")] = 1,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Show the driving frame and the render from the true keypoints beside the result."
        ),
    ] = False,
    model: Annotated[
        str,
        typer.Option(
            "--model", help="Backbone: a name of `kinecast zoo list`, or a file; auto is mesh for faces, else face-128."
        ),
    ] = AUTO,
    crop: Annotated[
        str | None, typer.Option("--crop", help="Crop of driving frames: center, face or none. (default: by model)")
    ] = None,
    source_crop: Annotated[
        str | None,
        typer.Option("--source-crop", help="Crop of the source: center, face or none; the output is that crop."),
    ] = None,
    fps: FpsOption = None,
    true_fps: TrueFpsOption = None,
    limit: LimitOption = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Keep the driving clip's sound.")] = True,
    strip: StripOption = False,
    quality: Annotated[
        int, typer.Option("--quality", help="Constant rate factor of the output, 0 best, 51 smallest.")
    ] = 18,
    report: Annotated[
        Path | None, WRITES_REPORT, typer.Option("--report", help="Write a report to this JSON file.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    ray: RayOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Animate a picture with the motion of a clip or a motion file.

    With --source, its face follows the driving face and is pasted back into the whole picture. Without it, the clip is
    reconstructed from its first frame. Forecast frames have an orange border, observed ones a green border.
    """
    from kinecast.apps import pipeline
    from kinecast.apps.portrait.options import PortraitOptions
    from kinecast.apps.stream.gfv.reading import carries_gfv
    from kinecast.data.windows import parse_horizon

    mode, relative, transfer = transfer_of(mode, relative, strength, region, eyes, lips)
    if horizon is not None and forecast is None:
        raise KinecastError(f"horizon: expected a forecaster for {horizon}, found none: name one with --forecast")
    observed, ahead = parse_horizon(horizon or "12-12")
    reading: dict[str, Any] = {
        **{"fps": fps, "true_fps": true_fps, "limit": limit, "start": start, "end": end, "smooth": smooth},
        **{"sound": sound, "quality": quality, "size": size},
    }
    options = pipeline.AnimateOptions(
        mode=mode or ("transfer" if source else "reconstruction"),
        relative=relative,
        adapt_scale=adapt_scale,
        best_frame=best_frame,
        avd=avd,
        background=background,
        transfer=transfer,
        observed=observed,
        horizon=ahead,
        samples=samples,
        seed=seed,
        crop=crop or "center",
        source_crop=source_crop or "center",
        compare=compare,
        **reading,
    )
    of_gfv = not strip and carries_gfv(driving)
    of_motion = of_gfv or driving.suffix.lower() in _MOTION
    if of_motion:
        _check_motion(driving, source, mode, has_picture=of_gfv or driving.suffix.lower() == _STREAM)
    clip = driving if of_motion else clip_named(driving, strip)
    portraits = Portraits(
        PortraitOptions(
            face=face or "largest",
            square=square,
            relative=relative is not False,
            transfer=transfer,
            crop=crop,
            reenact=reenact,
            **reading,
        ),
        source,
        clip,
        output,
        preview,
        overwrite,
        workers,
        ray,
    )
    others = {"mode reconstruction": options.mode == "reconstruction", "forecast": forecast, "compare": compare}
    others |= {"samples": samples > 1, "avd": avd, "background": background, "best-frame": best_frame}
    others |= {"adapt-scale": adapt_scale, "source-crop": source_crop}
    asked = {
        "face": face,
        "square": square,
        "preview": preview,
        "overwrite": overwrite,
        "reenact": reenact,
        "-o FOLDER": portraits.many,
    }
    whole = portraits.possible(others, asked)
    chosen = portraits.choose_model(model) if whole else None
    chosen = chosen or choose_model(model, clip, source, (options.crop, options.source_crop), forecast)
    backbone = load_model(chosen, device, engine, precision)
    with progress() as update:
        if whole and (backbone.any_size or size or any(asked.values())):
            result = portraits.run(backbone, chosen, update)
        else:
            named = check_clip_named(output)
            result = _square(backbone, source, clip, of_motion, named, options, forecast, device, update)
    _tell(result, output, report, json)


def _square(
    backbone: Any,
    source: Path | None,
    clip: Any,
    of_motion: bool,
    output: Path,
    options: Any,
    forecast: str | None,
    device: str,
    update: Any,
) -> Any:
    """Animate at the weights' frame size, with comparisons and forecasts, and return the report."""
    from kinecast.apps import pipeline
    from kinecast.zoo import forecaster_for

    forecaster = forecaster_for(forecast, backbone.motion_dim, device) if forecast else None
    if not of_motion:
        return pipeline.animate_clip(backbone, source, clip, output, options, forecaster, update)
    picture, motion, heard = _read_motion(backbone, clip)
    moved = picture if source is None else source
    return pipeline.animate_motion(backbone, moved, motion, output, options, forecaster, update, heard)


def _tell(result: Any, output: Path | None, report: Path | None, json: bool) -> None:
    """Print the figures, and write them if asked; a preview alone has none."""
    from kinecast.cli.report import print_report
    from kinecast.files import atomic_path

    if result is None:
        return
    figures = result if isinstance(result, dict) else result.to_dict()
    if report:
        with atomic_path(report) as temporary:
            temporary.write_text(json_module.dumps(figures, indent=2))
    if json:
        print_json(figures)
    elif not isinstance(result, dict):
        print_report(f"{output}", result)
    say(f"wrote {output}")


def _check_motion(driving: Path, source: Path | None, mode: str | None, has_picture: bool) -> None:
    """Check that there is a picture to animate: a motion file holds none, a motion stream holds one."""
    if source is None and not has_picture:
        raise KinecastError(
            f"{driving}: expected --source with a motion file, which holds no picture, found none: name a picture"
        )
    if mode is not None and mode != ("reconstruction" if source is None else "transfer"):
        expected = "a --source with transfer" if source is None else "no --source with reconstruction"
        raise KinecastError(f"mode: expected {expected}, found {mode!r}: drop --mode: --source determines it")


def _read_motion(backbone: Any, driving: Path) -> tuple[Any, Any, Any]:
    """Return picture, motion and sound of a motion stream; of a motion file, None for picture and sound."""
    from kinecast.apps.blendshape_driving import load_motion
    from kinecast.apps.stream.clips import read_motion
    from kinecast.apps.stream.gfv.clips import read_gfv
    from kinecast.apps.stream.sound import stream_sound
    from kinecast.media.sound import clip_sound

    if driving.suffix.lower() == _STREAM:
        picture, motion = read_motion(backbone, driving)
        return picture, motion, stream_sound(driving, motion.edges()[0])
    if driving.suffix.lower() in _MOTION:
        return None, load_motion(backbone, driving), None
    return *read_gfv(backbone, driving), clip_sound(driving)
