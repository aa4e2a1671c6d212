"""Options for animating a portrait."""

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

SQUARE = 512  # default side of a square in pixels

Say = Callable[[str], None]


@dataclass(frozen=True)
class PortraitOptions(Reading):
    """Options for animating a portrait, and for reading the driving clip.

    Attributes:
        face: whose head to animate: "largest", "all", or a number from 1, counted from the left.
        square: show the square around the head instead of the whole picture.
        size: the side of that square in pixels, 512 by default; implies a square.
        transfer: how relative motion is applied: strengths by region, openings of eyes and lips (mesh).
        relative: apply how the driving face changes from its first frame, not its absolute pose.
        sound: keep the driving clip's sound.
        quality: quality of the output, 0 (best) to 51 (smallest).
        reenact: the source is a clip, each of whose frames is animated on top of its own motion.
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
            raise KinecastError("transfer: expected relative motion, which it modifies, found absolute: drop one")
        face_option(self.face)
        check_size(self.size)
        check_reading(self.crop or "face", self.fps, self.limit)
        check_reading(fps=self.true_fps)
        check_part(self.start, self.end)

    @property
    def side(self) -> int | None:
        """The side of the output square; None for the whole picture."""
        return self.size or (SQUARE if self.square else None)


def landmarker_of(backbone: Backbone) -> Landmarker:
    """Return the face landmarker: the backbone's own, if it has one."""
    own = getattr(backbone, "landmarker", None)
    return own if isinstance(own, Landmarker) else Landmarker(str(backbone.device), "eager")
