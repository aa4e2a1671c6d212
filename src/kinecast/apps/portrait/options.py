"""How a portrait is animated: what users may choose."""

from collections.abc import Callable
from dataclasses import dataclass

from kinecast.apps.portrait.driving import Reading
from kinecast.apps.portrait.faces import LARGEST, face_option
from kinecast.errors import KinecastError
from kinecast.faces import Landmarker
from kinecast.media.footage import check_part
from kinecast.media.framing import check_reading, check_size
from kinecast.models.base import Backbone
from kinecast.models.transfer import Transfer

SQUARE = 512  # pixels of a square's side, unless another is asked for

Say = Callable[[str], None]


@dataclass(frozen=True)
class PortraitOptions(Reading):
    """How a portrait is animated, and how the driving clip is read.

    Attributes:
        face: whose head moves: "largest", "all", or a number from 1, counted from the left.
        square: show the square around the head instead of the whole picture.
        size: the side of that square in pixels, 512 by default; asks for a square too.
        transfer: how relative motion is applied: strengths by region, openings of eyes and lips (mesh).
        relative: take over how the driving face changes since its first frame, not where it is.
        sound: keep the driving clip's.
        quality: of the output, 0 (best) to 51 (smallest).
        reenact: the source is a clip, each of whose frames is animated; its head's own movement stays beneath.
    """

    face: str | int = LARGEST
    square: bool = False
    size: int | None = None
    relative: bool = True
    transfer: Transfer = Transfer()
    sound: bool = True
    quality: int = 18
    reenact: bool = False

    def __post_init__(self) -> None:
        if self.transfer != Transfer() and not self.relative:
            raise KinecastError("transfer: expected relative motion, which it changes, found absolute: leave one out")
        face_option(self.face)
        check_size(self.size)
        check_reading(self.crop or "face", self.fps, self.limit)
        check_reading(fps=self.true_fps)
        check_part(self.start, self.end)

    @property
    def side(self) -> int | None:
        """The side of the square that is shown; None for the whole picture."""
        return self.size or (SQUARE if self.square else None)


def landmarker_of(backbone: Backbone) -> Landmarker:
    """Return what finds faces: the backbone's own, if it has one."""
    own = getattr(backbone, "landmarker", None)
    return own if isinstance(own, Landmarker) else Landmarker(str(backbone.device), "eager")
