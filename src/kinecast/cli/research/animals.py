"""`kinecast research animals`: GIFs of simple animals in motion, drawn by a program."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import JsonOption, SeedOption, print_json, progress, say
from kinecast.cli.outputs import WRITES_FOLDER


def animals(
    output: Annotated[Path, WRITES_FOLDER, typer.Option("-o", "--output", help="Folder for train/ and test/.")],
    clips: Annotated[int, typer.Option("--clips", help="Animals, training and test together.")] = 240,
    frames: Annotated[int, typer.Option("--frames", help="Frames per animal, at 12.5 per second.")] = 36,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures, in pixels.")] = 64,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of animals in test/.")] = 0.2,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Draw quadrupeds, birds, fish and snakes as GIFs, for `research paper --layout mgif`.

    The same seed gives the same pictures; an interrupted run resumes.
    """
    from dataclasses import asdict

    from kinecast.research.data.animals import AnimalDataConfig, write_animals

    config = AnimalDataConfig(clips, frames, size, seed, test_share)
    with progress("animals") as update:
        written = write_animals(output, config, update)
    if json:
        print_json({"config": asdict(config), "written": written})
    say(f"{output}: {written} animals written, {clips - written} were there")
