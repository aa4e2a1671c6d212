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
class PortraitOptions:
    """How a portrait is animated.

    Attributes:
        face: whose head moves: "largest", "all", or a number from 1, counted from the left.
        square: show the square around the head instead of the whole picture.
        size: the side of that square in pixels, 512 by default; asks for a square too.
        transfer: how relative motion is applied: strengths by region, openings of eyes and lips (mesh).
        relative: take over how the driving face changes since its first frame, not where it is.
        crop: how driving frames are cut, by a policy of `kinecast.media.framing`; None is what the backbone sees best.
        fps: resample to this constant rate.
        true_fps: the true frame rate, where the file's times are wrong.
        limit: at most so many frames.
        start: seconds of the driving clip before which it is left out.
        end: seconds after which it is.
        smooth: filter what trembles (One Euro).
        sound: keep the driving clip's.
        quality: of the output, 0 (best) to 51 (smallest).
        reenact: the source is a clip, each of whose frames is animated; its head's own movement stays beneath.
    """

    face: str | int = LARGEST
    square: bool = False
    size: int | None = None
    relative: bool = True
    transfer: Transfer = Transfer()
    crop: str | None = None
    fps: float | None = None
    true_fps: float | None = None
    limit: int | None = None
    start: float = 0.0
    end: float | None = None
    smooth: bool = False
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

    @property
    def reading(self) -> Reading:
        """How the driving clip is read."""
        return Reading(self.crop, self.fps, self.true_fps, self.limit, self.start, self.end, self.smooth)


def landmarker_of(backbone: Backbone) -> Landmarker:
    """Return what finds faces: the backbone's own, if it has one."""
    own = getattr(backbone, "landmarker", None)
    return own if isinstance(own, Landmarker) else Landmarker(str(backbone.device), "eager")
