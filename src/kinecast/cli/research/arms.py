"""`kinecast research arms`: a data set of robot arms that push objects, simulated."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import JsonOption, SeedOption, print_json, progress, say
from kinecast.cli.outputs import WRITES_FOLDER


def data_arms(
    output: Annotated[
        Path, WRITES_FOLDER, typer.Option("-o", "--output", help="Folder for train/, test/ and faults/.")
    ],
    clips: Annotated[int, typer.Option("--clips", help="Normal clips, training and test together.")] = 100,
    faults: Annotated[int, typer.Option("--faults", help="Clips of each fault: jam, slip, drop, jitter, wear.")] = 0,
    frames: Annotated[int, typer.Option("--frames", help="Frames per clip, at 10 fps.")] = 30,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures, in pixels.")] = 64,
    objects: Annotated[int, typer.Option("--objects", help="Number of boxes on the table.")] = 2,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of clips in test/.")] = 0.2,
    pictures: Annotated[
        bool, typer.Option(help="Render clips; --no-pictures writes joint positions only, much faster.")
    ] = True,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Simulate robot arms with random policies: clips, exact joint positions, and faults with known onsets.

    The same seed gives the same clips. Run the same command again to resume after an interruption.
    """
    from dataclasses import asdict

    from kinecast.research.data.arm_files import ArmDataConfig, write_arms
    from kinecast.research.data.robot_arms import FAULTS

    config = ArmDataConfig(clips, faults, frames, size, objects, seed, test_share, pictures)
    with progress("clips") as update:
        written = write_arms(output, config, update)
    if json:
        print_json({"config": asdict(config), "written": written})
    say(f"{output}: {written} clips written, {clips + len(FAULTS) * faults - written} existed")
