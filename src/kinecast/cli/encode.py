"""`kinecast encode`: a clip to a motion bitstream."""

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


def encode(
    clip: Annotated[Path, typer.Argument(help="mp4, mov, webm, gif, a folder of pictures, or - for standard input.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Motion stream to write (.kcm).")],
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
    model: ModelOption = DEFAULT_BACKBONE,
    crop: CropOption = "center",
    fps: FpsOption = None,
    limit: LimitOption = None,
    strip: StripOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Reduce a clip to its first frame and a few kilobits of motion a second, streaming.

    --seed is the forecaster's, if it samples.
    """
    from kinecast.codec.clips import EncodeOptions, encode_clip
    from kinecast.fillers import load_filler

    backbone = load_model(model, device)
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
    )
    with progress() as update:
        report = encode_clip(backbone, clip_named(clip, strip), output, options, update)
    if json:
        print_json(report)
    say(
        f"{output}: {report['frames_sent']} of {report['frames']} frames at {report['fps']:g} fps, motion "
        f"{report['motion_kbps']:.2f} kbps ({report['overhead_kbps']:.2f} of it framing), picture "
        f"{report['picture_bytes']} bytes, {report['total_kbps']:.2f} kbps in all"
    )
