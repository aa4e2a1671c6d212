"""`kinecast data check`: what is missing or broken in a data set, clip by clip."""

from pathlib import Path
from typing import Annotated

import typer

from kinecast.cli.common import JsonOption, print_json, progress, say


def data_check(
    folder: Annotated[Path, typer.Argument(help="Folder of the data set, as distributed.")],
    layout: Annotated[
        str, typer.Option("--layout", help="voxceleb (files or folders of frames), bair, mgif, or clips (one folder).")
    ] = "clips",
    lists: Annotated[
        list[Path] | None,
        typer.Option("--list", help="File listing the clips that should exist, one per line; repeatable."),
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="Required side of all frames, in pixels.")] = None,
    min_frames: Annotated[int, typer.Option("--min-frames", help="Minimum number of frames per clip.")] = 2,
    validate: Annotated[
        str | None, typer.Option("--validate", help="Layout clips: regular expression for the people to test on.")
    ] = None,
    person: Annotated[
        str | None, typer.Option("--person", help="Layout clips: regular expression whose group matches the person.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Decoding processes.")] = 1,
    json: JsonOption = False,
) -> int:
    """Decode every clip and report those that are broken or unusual. Exit code 1 if any is broken."""
    from kinecast.data.check import CheckConfig, check_dataset, counted

    square = None if size is None else (size, size)
    config = CheckConfig(layout, square, min_frames, validate, person, workers)
    with progress("clips") as update:
        report = check_dataset(folder, config, lists or (), update)
    if json:
        findings = [finding._asdict() for finding in report.findings]
        print_json(
            {
                "clips": report.sides,
                "frames": report.frames,
                "counts": counted(report.findings),
                "findings": findings,
            }
        )
    else:
        for finding in report.findings:
            print(finding)
    odd = len(report.findings) - report.broken
    sides = ", ".join(f"{count} in {side}" for side, count in report.sides.items()) or "none"
    say(f"{folder}: clips: {sides}; {report.frames} frames; {report.broken} broken, {odd} odd")
    return 1 if report.broken else 0
