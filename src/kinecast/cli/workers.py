"""Options of commands that spread work over processes or machines."""

from typing import Annotated

import typer

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Single-threaded worker processes; results do not depend on their number. (default: 1; with --ray, all)",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", help="Run on a Ray cluster: address, auto for a running one, or local to start one."),
]
