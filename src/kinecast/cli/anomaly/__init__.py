"""`kinecast anomaly`: what is unlikely in clips, motion files and cameras, and synthetic defects to train others on."""

from typing import Any

import typer
from typer.core import TyperGroup

from kinecast.cli.anomaly.score import score
from kinecast.cli.anomaly.synthesize import synthesize
from kinecast.cli.outputs import guarded


class _ScoreUnlessNamed(TyperGroup):
    """`kinecast anomaly INPUT ...` is `kinecast anomaly score INPUT ...`: an input need not be told from a command."""

    default_command = "score"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name before arguments that begin with none."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)


def add_anomaly(app: typer.Typer) -> None:
    """Add the group to the root of the commands."""
    group = typer.Typer(
        cls=_ScoreUnlessNamed,
        help="Find what is unlikely, given normal clips: kinecast anomaly INPUT, and synthetic defects.",
        no_args_is_help=True,
    )
    group.command("score")(guarded(score))
    group.command("synthesize")(guarded(synthesize))
    app.add_typer(group, name="anomaly")
