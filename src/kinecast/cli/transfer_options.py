"""Options of `kinecast animate` for applying one person's motion to another's picture."""

from typing import TYPE_CHECKING, Annotated

import typer

from kinecast.errors import KinecastError

if TYPE_CHECKING:  # which imports torch: the command line answers without it
    from kinecast.models.transfer import Transfer

StrengthOption = Annotated[
    str | None,
    typer.Option("--strength", help="Strength of relative motion: one factor, or pose=0.5,eyes=1,mouth=1.2 (mesh)."),
]
RegionOption = Annotated[
    str, typer.Option("--region", help="Regions to animate: all, or some of pose,eyes,mouth (mesh).")
]
EyesOption = Annotated[
    float | None, typer.Option("--eyes", help="Fixed eye opening, in eye widths; 0 is closed (mesh).")
]
LipsOption = Annotated[
    float | None, typer.Option("--lips", help="Fixed mouth opening, in mouth widths; 0 is closed (mesh).")
]
_KINDS = ("relative", "absolute", "mixed")


def transfer_of(
    mode: str | None, relative: bool | None, strength: str | None, region: str, eyes: float | None, lips: float | None
) -> tuple[str | None, bool | None, "Transfer"]:
    """Return the mode for `AnimateOptions`, whether motion is relative, and the transfer options.

    Raises:
        KinecastError: a value is not allowed.
    """
    from kinecast.models.transfer import REGIONS, Transfer, regions, strengths

    moving = dict.fromkeys(REGIONS, 0.0) | dict.fromkeys(regions(region), 1.0)
    factors = strengths(strength) if strength else {}
    moving = {name: share * factors.get(name, 1.0) for name, share in moving.items()}
    options = Transfer("mixed" if mode == "mixed" else "relative", **moving, eyes_open=eyes, lips_open=lips)
    if mode not in _KINDS:
        return mode, relative, options
    if relative not in (None, mode != "absolute"):
        other = "relative" if relative else "absolute"
        raise KinecastError(f"mode: expected one kind of transfer, found {mode} and --{other}: drop one of them")
    return "transfer", mode != "absolute", options
