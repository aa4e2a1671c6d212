"""The options of `kinecast animate` that say how one person's motion is applied to another's picture."""

from typing import Annotated

import typer

from kinecast.errors import KinecastError
from kinecast.models.transfer import REGIONS, Transfer, regions, strengths

StrengthOption = Annotated[
    str | None,
    typer.Option("--strength", help="Of relative motion: 0.8 for all, or pose=0.5,eyes=1,mouth=1.2 (mesh)."),
]
RegionOption = Annotated[
    str, typer.Option("--region", help="What moves: all, or some of pose,eyes,mouth; the rest stays as it is (mesh).")
]
EyesOption = Annotated[
    float | None, typer.Option("--eyes", help="Keep the lids open by so many widths of the eye; 0 is shut (mesh).")
]
LipsOption = Annotated[
    float | None, typer.Option("--lips", help="Keep the lips open by so many widths of the mouth; 0 is shut (mesh).")
]
_KINDS = ("relative", "absolute", "mixed")


def transfer_of(
    mode: str | None, relative: bool | None, strength: str | None, region: str, eyes: float | None, lips: float | None
) -> tuple[str | None, bool | None, Transfer]:
    """Return the mode that `AnimateOptions` knows, whether motion is relative, and how.

    Raises:
        KinecastError: a value that is none of those allowed.
    """
    moving = dict.fromkeys(REGIONS, 0.0) | dict.fromkeys(regions(region), 1.0)
    told = strengths(strength) if strength else {}
    moving = {name: share * told.get(name, 1.0) for name, share in moving.items()}
    options = Transfer("mixed" if mode == "mixed" else "relative", **moving, eyes_open=eyes, lips_open=lips)
    if mode not in _KINDS:
        return mode, relative, options
    if relative not in (None, mode != "absolute"):
        other = "relative" if relative else "absolute"
        raise KinecastError(f"mode: expected one kind of transfer, found {mode} and --{other}: drop one of them")
    return "transfer", mode != "absolute", options
