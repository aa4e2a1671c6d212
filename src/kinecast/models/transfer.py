"""Options of transfer: how one person's motion is applied to another's picture.

The names follow LivePortrait (arXiv 2407.03168): strengths by region, and openings of eyes and lips
in widths of theirs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from kinecast.errors import KinecastError
from kinecast.motion import Motion

MODES = ("relative", "absolute", "mixed")
REGIONS = ("pose", "eyes", "mouth")

# Applies the next frames (T) of the driving motion to the source. It may remember those before; a copy (`copy.copy`)
# starts from where the original is and leaves it alone.
Retargeter = Callable[[Motion], Motion]


@dataclass(frozen=True)
class Transfer:
    """How driving motion is applied to a source.

    Attributes:
        mode: "relative" applies changes to the source's pose and expression; "absolute" takes the driving motion as it
            is; "mixed" takes the driving's head pose, and changes of expression.
        pose: strength of the head's movement, 1 as driven, 0 none.
        eyes: of lids, gaze and brows.
        mouth: of lips, jaw and cheeks.
        eyes_open: keeps the lids open by so many widths of the eye whatever the driving eyes do; 0 is shut.
        lips_open: likewise for the lips, in widths of the mouth.

    Raises:
        KinecastError: a mode that there is not, a strength outside 0 to 3, an opening outside 0 to 1.

    Example:
        >>> Transfer(pose=0.5, lips_open=0.0)  # half of the head's movement, a mouth that stays shut
    """

    mode: str = "relative"
    pose: float = 1.0
    eyes: float = 1.0
    mouth: float = 1.0
    eyes_open: float | None = None
    lips_open: float | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise KinecastError(f"transfer: expected {', '.join(MODES)}, found {self.mode!r}")
        for name in REGIONS:
            _check_range(f"strength of {name}", getattr(self, name), 3)
        for name in ("eyes", "lips"):
            if (opening := getattr(self, f"{name}_open")) is not None:
                _check_range(f"{name}: opening", opening, 1)
        if self.mode == "absolute" and self._changed():
            raise KinecastError(
                f"transfer: expected the motion as it is in mode absolute, found {', '.join(self._changed())}: use "
                "relative or mixed"
            )

    def _changed(self) -> list[str]:
        """Return the names of strengths and openings that are not as usual."""
        return [f.name for f in fields(self) if f.name != "mode" and getattr(self, f.name) != f.default]

    def refuse(self, backbone: str) -> None:
        """Check that only relative or absolute motion is requested, which every backbone supports.

        Raises:
            KinecastError: something else is.
        """
        asked = [*(["mode mixed"] if self.mode == "mixed" else []), *self._changed()]
        if asked:
            raise KinecastError(
                f"transfer: expected motion that is relative or absolute with {backbone}, found {', '.join(asked)}: "
                "use the model mesh, or leave it out"
            )


def regions(text: str) -> tuple[str, ...]:
    """Return the regions that a list such as "eyes,mouth" names; "all" is every one.

    Raises:
        KinecastError: another name.
    """
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in (*REGIONS, "all")]:
        raise KinecastError(f"region: expected all or some of {', '.join(REGIONS)}, found {unknown[0]!r}")
    return REGIONS if "all" in names else tuple(name for name in REGIONS if name in names)


def strengths(text: str) -> dict[str, float]:
    """Return strengths by region: one number for all as in "0.5", or several as in "pose=0.5,mouth=1.2".

    Raises:
        KinecastError: no number, or another region.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise KinecastError(
                f"strength: expected a number or region=number, found {part.strip()!r}: try 0.8 or mouth=1.2"
            ) from None
        found |= dict.fromkeys(regions(name) if equals else REGIONS, value)
    return found


def _check_range(what: str, value: float, most: float) -> None:
    if not (math.isfinite(value) and 0 <= value <= most):
        raise KinecastError(f"{what}: expected a number from 0 to {most}, found {value}")
