"""`kinecast zoo import`: a published checkpoint to safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import JsonOption, print_json, say
from kinecast.cli.outputs import WRITES_WEIGHTS


def zoo_import(
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint of FOMM, TPS or face-vid2vid (.pth.tar).")],
    output: Annotated[
        Path | None,
        WRITES_WEIGHTS,
        typer.Option("-o", "--output", help="Output. (default: beside the checkpoint, .safetensors)"),
    ] = None,
    frame_size: Annotated[int, typer.Option("--frame-size", help="Frame size that the weights were trained at.")] = 256,
    align_corners: Annotated[
        bool | None,
        typer.Option(
            "--align-corners/--no-align-corners",
            help="Sampling grid of a FOMM: as in torch up to 1.2 (published weights), or as in later versions.",
            show_default="as published: --align-corners",
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store as float16.")] = False,
    json: JsonOption = False,
) -> None:
    """Convert a published checkpoint. Only tensors are read: pickles that would run code are refused."""
    import json as json_module

    from kinecast.models.checkpoints import import_published, save_backbone

    output = output or _beside(checkpoint)
    model = import_published(checkpoint, frame_size, align_corners)
    save_backbone(model, output, {"provenance": f"imported from {checkpoint.name}"}, half)
    config = model.config.to_dict()
    if json:
        print_json({"output": str(output), "backbone": model.name, "config": config})
    say(f"wrote {output}: {model.name} with {json_module.dumps(config)}")


def _beside(checkpoint: Path) -> Path:
    """Return the default output, which must not exist, since nobody typed its name."""
    from kinecast.errors import KinecastError
    from kinecast.files import check_output

    stem = checkpoint.name.removesuffix(".tar").removesuffix(".pth")
    output = check_output(checkpoint.with_name(f"{stem}.safetensors"))
    if output.exists():
        raise KinecastError(f"{output}: expected no file of this name, found one: use -o to replace it")
    return output
