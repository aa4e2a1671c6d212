"""Options of commands whose work is spread over processes or machines."""

from typing import Annotated

import typer

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Single-threaded processes; results do not depend on it. (default: 1; with --ray, all)"
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", help="Run on a Ray cluster: address, auto for a running one, or local to start one."),
]
