"""Options of commands whose work is spread over processes or machines."""

from typing import Annotated

import typer

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Processes of one thread; the figures do not depend on it. (default: 1; with --ray, all)"
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", help="Work on a Ray cluster: its address, auto for this machine's, or local to start one."),
]
