"""`kinecast decode`: a motion bitstream to a clip."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    DeviceOption,
    JsonOption,
    ModelOption,
    SeedOption,
    load_model,
    print_json,
    progress,
    say,
)


def decode(
    stream: Annotated[Path, typer.Argument(help="Motion stream of `kinecast encode` (.kcm).")],
    output: Annotated[Path, typer.Option("-o", "--output", help="mp4, mov, webm, mkv or gif.")],
    model: ModelOption = DEFAULT_BACKBONE,
    quality: Annotated[
        int, typer.Option("--quality", help="Constant rate factor of the output, 0 best, 51 smallest.")
    ] = 18,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Draw the clip that a motion stream describes, with the model that encoded it. (--seed changes nothing.)"""
    from kinecast.codec.clips import decode_clip

    backbone = load_model(model, device)
    with progress() as update:
        report = decode_clip(backbone, stream, output, quality, update)
    if json:
        print_json(report)
    concealed = f", {report['concealed']} of them concealed" if report["concealed"] else ""
    say(f"wrote {output}: {report['frames']} frames at {report['fps']:g} fps{concealed}")
