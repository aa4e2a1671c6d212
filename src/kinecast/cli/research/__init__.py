"""`kinecast research`: commands of studies: the paper's tables, rate and distortion, simulated data."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import typer

from kinecast.cli.outputs import guarded
from kinecast.cli.research.animals import animals
from kinecast.cli.research.arms import data_arms
from kinecast.cli.research.keypoints import evaluate_keypoints
from kinecast.cli.research.rate import evaluate_rate
from kinecast.cli.research.synthetic import evaluate_synthetic
from kinecast.cli.research.videos import evaluate_diverse, evaluate_paper, evaluate_single
from kinecast.errors import KinecastWarning

_TABLES: dict[str, Callable[..., None]] = {
    "keypoints": evaluate_keypoints,
    "synthetic": evaluate_synthetic,
    "single": evaluate_single,
    "diverse": evaluate_diverse,
    "paper": evaluate_paper,
    "rate": evaluate_rate,
}


def add_research(app: typer.Typer, data: typer.Typer) -> None:
    """Add the group `research`, and hidden aliases for the command names of 0.1.

    Args:
        app: the root of the commands.
        data: the group `data`, which held one of them.
    """
    group = typer.Typer(help="Reproduce studies: forecasts, rate and quality, simulated data.", no_args_is_help=True)
    old = typer.Typer(help="Renamed to `kinecast research`.", no_args_is_help=True)
    for name, command in _TABLES.items():
        group.command(name)(guarded(command))
        old.command(name)(_renamed(command, f"evaluate {name}", f"research {name}"))
    group.command("animals")(guarded(animals))
    group.command("arms")(guarded(data_arms))
    data.command("arms", hidden=True)(_renamed(data_arms, "data arms", "research arms"))
    app.add_typer(group, name="research")
    app.add_typer(old, name="evaluate", hidden=True)


def _renamed(command: Callable[..., Any], old: str, new: str) -> Callable[..., Any]:
    """Return the command under its former name, which warns of the new one."""

    @wraps(command)
    def run(**values: Any) -> Any:
        warnings.warn(f"`kinecast {old}` is now `kinecast {new}`; the old name is removed in 0.3", KinecastWarning, 2)
        return guarded(command)(**values)

    return run
