"""`kinecast encode`: a clip to a motion bitstream."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    EngineOption,
    FpsOption,
    JsonOption,
    LimitOption,
    ModelOption,
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
            help="Budget for motion, excluding header and picture: the frames that matter least are skipped "
            "until it is met. (default: send every frame)",
        ),
    ] = None,
    terms: Annotated[
        str,
        typer.Option("--terms", help="With --rate-kbps: measure the loss on keypoints or on pictures."),
    ] = "keypoints",
    forecast: Annotated[
        str,
        typer.Option("--forecast", help="Concealment of skipped frames: hold, damped, gru, vrnn, or a file."),
    ] = "damped",
    picture_quality: Annotated[
        int, typer.Option("--picture-quality", help="WebP quality of the first frame, 1-100.")
    ] = 60,
    profile: Annotated[
        str, typer.Option("--profile", help="Prediction tables: auto, generic, or a name of trained ones.")
    ] = "auto",
    model: ModelOption = DEFAULT_BACKBONE,
    crop: CropOption = "center",
    fps: FpsOption = None,
    true_fps: TrueFpsOption = None,
    limit: LimitOption = None,
    sound: Annotated[bool, typer.Option("--sound", help="Include the clip's sound (Opus, mono).")] = False,
    sound_kbps: Annotated[float, typer.Option("--sound-kbps", help="Bit rate of the sound, 6 to 96 kbps.")] = 24.0,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    strip: StripOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Encode a clip as its first frame and a few kilobits per second of motion, streaming.

    --seed is the forecaster's, if it samples.
    """
    needs("kinecast encode", "codec")
    from kinecast.apps.stream.clips import EncodeOptions, encode_clip
    from kinecast.apps.stream.fillers import load_filler

    if terms != "keypoints" and rate_kbps is None:
        raise KinecastError(f"terms: expected a budget with {terms}, found none: add --rate-kbps, or leave --terms out")
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
        report = encode_clip(backbone, clip_named(clip, strip), output, options, update)
    if json:
        print_json(report)
    parts = [("times of frames", report["times_kbps"]), ("sound", report["sound_kbps"])]
    beside = "".join(f", {name} {kbps:.2f} kbps" for name, kbps in parts if kbps)
    say(
        f"{output}: {report['frames_sent']} of {report['frames']} frames at {report['fps']:.4g} fps, motion "
        f"{report['motion_kbps']:.2f} kbps ({report['overhead_kbps']:.2f} of it framing), picture "
        f"{report['picture_bytes']} bytes{beside}, {report['total_kbps']:.2f} kbps in all"
    )
