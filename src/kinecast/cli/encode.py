"""`kinecast encode`: a clip to a motion bitstream."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    CropOption,
    DeviceOption,
    EngineOption,
    FaceOption,
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
from kinecast.cli.model_choice import AUTO, AutoModelOption, choose_for_clip
from kinecast.cli.outputs import WRITES_STREAM
from kinecast.errors import KinecastError
from kinecast.packages import needs


def encode(
    clip: Annotated[Path, typer.Argument(help="mp4, mov, webm, gif, a folder of pictures, or - for standard input.")],
    output: Annotated[Path, WRITES_STREAM, typer.Option("-o", "--output", help="Motion stream to write (.kcm).")],
    quality: Annotated[
        int,
        typer.Option("--quality", help="1 to 9: steps of 1/32 to 1/512 for positions, 8 times as wide for Jacobians."),
    ] = 5,
    rate_kbps: Annotated[
        float | None,
        typer.Option(
            "--rate-kbps",
            help="Budget for motion, without header and picture: frames that the receiver would miss least are left "
            "out until it is met. (default: send every frame)",
        ),
    ] = None,
    terms: Annotated[
        str,
        typer.Option(
            "--terms", help="With --rate-kbps: what a receiver would miss is measured on keypoints, or on pictures."
        ),
    ] = "keypoints",
    forecast: Annotated[
        str,
        typer.Option(
            "--forecast", help="What the receiver shows for frames left out: hold, damped, gru, vrnn, or a file."
        ),
    ] = "damped",
    picture_quality: Annotated[
        int, typer.Option("--picture-quality", help="WebP quality of the first frame, 1-100.")
    ] = 60,
    profile: Annotated[
        str, typer.Option("--profile", help="Prediction tables: auto, generic, or those of a kind of key points.")
    ] = "auto",
    model: AutoModelOption = AUTO,
    crop: CropOption = "center",
    face: FaceOption = None,
    fps: FpsOption = None,
    true_fps: TrueFpsOption = None,
    limit: LimitOption = None,
    sound: Annotated[bool, typer.Option("--sound", help="Send the clip's sound too: Opus, one channel.")] = False,
    sound_kbps: Annotated[float, typer.Option("--sound-kbps", help="What sound may cost, 6 to 96.")] = 24.0,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    strip: StripOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Reduce a clip to its first frame and a few kilobits of motion a second, streaming.

    --seed is the forecaster's, if it samples.
    """
    needs("kinecast encode", "codec")
    from kinecast.apps.stream.clips import EncodeOptions, encode_clip
    from kinecast.apps.stream.fillers import load_filler
    from kinecast.media.framing import around_face

    if terms != "keypoints" and rate_kbps is None:
        raise KinecastError(f"terms: expected a budget with {terms}, found none: add --rate-kbps, or leave --terms out")
    crop, source = around_face(crop, face), clip_named(clip, strip)
    model = choose_for_clip(model, source, crop, forecast)
    backbone = load_model(model, device, engine, precision)
    filler = Path(forecast).name, load_filler(forecast, backbone.motion_dim, seed)
    options = EncodeOptions(
        quality,
        rate_kbps,
        filler,
        picture_quality,
        profile,
        Path(model).name,
        crop=crop,
        fps=fps,
        limit=limit,
        terms=terms,
        true_fps=true_fps,
        sound_kbps=sound_kbps if sound else None,
    )
    with progress() as update:
        report = encode_clip(backbone, source, output, options, update)
    if json:
        print_json(report)
    parts = [("times of frames", report["times_kbps"]), ("sound", report["sound_kbps"])]
    beside = "".join(f", {name} {kbps:.2f} kbps" for name, kbps in parts if kbps)
    unseen = report["frames_without_face"]
    beside += f", no face in {unseen} frames" if unseen else ""
    say(
        f"{output}: {report['frames_sent']} of {report['frames']} frames at {report['fps']:.4g} fps, motion "
        f"{report['motion_kbps']:.2f} kbps ({report['overhead_kbps']:.2f} of it framing), picture "
        f"{report['picture_bytes']} bytes{beside}, {report['total_kbps']:.2f} kbps in all"
    )
