"""`kinecast decode`: a motion bitstream, or video with GFV messages, to a clip."""

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
from kinecast.cli.model_choice import AUTO, model_of
from kinecast.cli.outputs import WRITES_CLIP
from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.packages import needs


def decode(
    stream: Annotated[
        Path, typer.Argument(help="Motion stream of `kinecast encode`: .kcm, or video with GFV messages.")
    ],
    output: Annotated[Path, WRITES_CLIP, typer.Option("-o", "--output", help="mp4, mov, webm, mkv or gif.")],
    model: Annotated[
        str, typer.Option("--model", help="Backbone: a name of `kinecast zoo list`, or a file. (default: as encoded)")
    ] = AUTO,
    quality: Annotated[
        int, typer.Option("--quality", help="Constant rate factor of the output, 0 best, 51 smallest.")
    ] = 18,
    forecast: Annotated[
        str,
        typer.Option(
            "--forecast",
            help="Concealment of lost and skipped frames: auto (as the sender expects), interpolate "
            "(linearly to the next frame), hold, damped, gru, vrnn, or a file.",
        ),
    ] = "auto",
    layers: Annotated[
        int | None,
        typer.Option("--layers", help="Decode only so many of the stream's layers, from the base on. (default: all)"),
    ] = None,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="Keep the stream's sound.")] = True,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Render a motion stream with the model that encoded it. --seed seeds the forecaster."""
    needs("kinecast decode", "codec")
    from kinecast.apps.stream.clips import decode_clip
    from kinecast.apps.stream.fillers import advised_filler, load_filler
    from kinecast.apps.stream.gfv.clips import decode_gfv
    from kinecast.apps.stream.gfv.reading import carries_gfv
    from kinecast.codec.filling import INTERPOLATE

    stream = existing_file(stream, "motion stream (.kcm, or video with GFV messages)")
    of_gfv = carries_gfv(stream)
    if of_gfv and forecast != "auto":
        raise KinecastError(f"forecast: expected none with GFV messages, where every frame is sent, found {forecast!r}")
    if of_gfv and layers is not None:
        raise KinecastError("layers: expected none with GFV messages, which have none: drop --layers")
    backbone = load_model(model_of(stream) if model == AUTO else model, device, engine, precision)
    dim, named = backbone.motion_dim, forecast not in ("auto", INTERPOLATE)
    chosen = (
        load_filler(forecast, dim, seed) if named else None
    )  # a user's explicit choice is binding, a stream's is a suggestion
    with progress() as update:
        if of_gfv:
            report = decode_gfv(backbone, stream, output, quality, update, sound)
        else:
            report = decode_clip(
                backbone,
                stream,
                output,
                quality,
                update,
                lambda name: chosen or advised_filler(name, dim, seed),
                interpolated=forecast == INTERPOLATE,
                sound=sound,
                layers=layers,
            )
    if json:
        print_json(report)
    filled = "".join(
        f", {report[key]} {word}"
        for key, word in (
            ("skipped", "left out by the sender"),
            ("concealed", "lost"),
            ("frames_without_face", "without a face"),
        )
        if report.get(key)
    )
    say(f"wrote {output}: {report['frames']} frames at {report['fps']:.4g} fps{filled}")
