"""`kinecast train backbone`: train a motion-transfer model on your own clips."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import DeviceOption, JsonOption, print_json, say
from kinecast.cli.outputs import WRITES_FOLDER
from kinecast.packages import needs


def train_backbone(
    config: Annotated[Path | None, typer.Argument(help="Recipe (.toml); see recipes/.")] = None,
    data: Annotated[list[Path] | None, typer.Option("--data", help="Folder of clips; may be repeated.")] = None,
    output: Annotated[Path | None, WRITES_FOLDER, typer.Option("-o", "--output", help="Folder of the run.")] = None,
    validate: Annotated[
        str | None, typer.Option("--validate", help="Regular expression for people to hold out.")
    ] = None,
    initialise: Annotated[str | None, typer.Option("--initialise", help="Weights to start from.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Training steps.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Frame pairs per step.")] = None,
    crop: Annotated[str | None, typer.Option("--crop", help="center, face or none.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="32-true or bf16-mixed.")] = None,
    devices: Annotated[int | None, typer.Option("--devices", help="Processes (DDP).")] = None,
    device: DeviceOption = "auto",
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed.")] = None,
    json: JsonOption = False,
) -> None:
    """Train a backbone on folders of clips. Run the same command again to resume after an interruption.

    On several processes or machines: torchrun --nproc-per-node 2 -m kinecast train backbone RECIPE.

    Without a recipe, --data alone trains the compact 128x128 model with mobilenet-v2 perceptual features.
    """
    needs("kinecast train backbone", "train")
    from kinecast.training.backbone import BackboneTrainingConfig, compact_recipe, train_backbone

    given: dict[str, Any] = {
        "data": tuple(map(str, data)) if data else None,
        "output": str(output) if output else None,
        "validate": validate,
        "initialise": initialise,
        "steps": steps,
        "batch_size": batch_size,
        "crop": crop,
        "precision": precision,
        "devices": devices,
        "seed": seed,
        "accelerator": None if device == "auto" else device,
    }
    given = {name: value for name, value in given.items() if value is not None}
    settings = replace(BackboneTrainingConfig.read(config), **given) if config else compact_recipe(**given)
    figures = train_backbone(settings, say)
    if json:
        from lightning_fabric.utilities.rank_zero import rank_zero_only

        if getattr(rank_zero_only, "rank", 0) == 0:  # only one of several processes has the figures
            print_json(figures)
