"""A portrait in the studio: its faces, the animated one, and its renders."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from kinecast.apps.portrait.crops import head_crop
from kinecast.apps.portrait.faces import find_faces
from kinecast.apps.portrait.stage import Stage, set_stage
from kinecast.apps.studio.controls import Look, steered
from kinecast.errors import KinecastError
from kinecast.faces import Face
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

WHOLE, SQUARE, HEAD = "whole", "square", "3d"
VIEWS = (WHOLE, SQUARE)  # of a portrait
SQUARE_SIDE = 512  # pixels of a square that is saved
PREVIEW_SIDE = 384  # pixels of one that is looked at
PREVIEW_LONGEST = 900  # pixels of a whole picture that is looked at
GIF_LONGEST = 640  # pixels of a gif: it is stored almost uncompressed
_MOST_FACES = 12


@dataclass(frozen=True)
class Choice:
    """The output: a `view` of a portrait, or a 3-D head; the number of the `face`, from 1, counted from the left."""

    view: str = SQUARE
    face: int = 1


class Scene:
    """A portrait with its faces.

    Args:
        model: what animates.
        picture: (H, W, 3), uint8.

    Raises:
        KinecastError: no face in it.
    """

    def __init__(self, model: Mesh, picture: np.ndarray) -> None:
        self.model, self.picture = model, picture
        self._controls = model.controls()
        faces = find_faces(picture, model.landmarker)
        if not faces:
            raise KinecastError(
                f"portrait: expected a face in the {picture.shape[1]}x{picture.shape[0]} pixels, found none: choose a "
                "picture that shows one larger, or more from the front"
            )
        largest = sorted(sorted(range(len(faces)), key=lambda i: -faces[i].size)[:_MOST_FACES])
        self.faces = [faces[i] for i in largest]
        self._previews: dict[Choice, Stage] = {}

    @property
    def largest(self) -> int:
        """The number of the largest face."""
        return max(range(len(self.faces)), key=lambda i: self.faces[i].size) + 1

    def described(self) -> dict[str, Any]:
        """Return sizes in pixels and, of each face, its square in shares of the picture's width and height."""
        height, width = self.picture.shape[:2]
        squares = [head_crop(face, (height, width)) for face in self.faces]
        return {
            "width": width,
            "height": height,
            "face": self.largest,
            "faces": [
                {"left": s.left / width, "top": s.top / height, "width": s.side / width, "height": s.side / height}
                for s in squares
            ],
        }

    def check(self, choice: Choice) -> Choice:
        """Check and return a choice for this portrait.

        Raises:
            KinecastError: there is no such face.
        """
        if not 1 <= choice.face <= len(self.faces):
            raise KinecastError(f"face: expected a number from 1 to {len(self.faces)}, found {choice.face}: choose one")
        return choice

    def stage(self, choice: Choice, longest: int | None = None, side: int = SQUARE_SIDE) -> Stage:
        """Return what draws frames: of the whole picture, no longer than `longest`, or of squares of `side` pixels."""
        face = self.faces[self.check(choice).face - 1]
        if choice.view == SQUARE:
            return set_stage(self.model, self.picture, [face], side)
        picture, face = _reduced(self.picture, face, longest)
        return set_stage(self.model, picture, [face])

    def preview_stage(self, choice: Choice) -> Stage:
        """Return a small `stage`, which is kept."""
        if choice not in self._previews:
            if len(self._previews) > len(VIEWS):
                self._previews.clear()
            self._previews[choice] = self.stage(choice, PREVIEW_LONGEST, PREVIEW_SIDE)
        return self._previews[choice]

    def drawn(
        self, stage: Stage, look: Look, driving: Motion | None = None, initial: Motion | None = None
    ) -> np.ndarray:
        """Return one frame (h, w, 3), uint8: the portrait under the sliders and one frame of driving motion."""
        motion, first = self.motion(stage, look, driving, initial)
        return next(stage.frames([motion], first))

    def motion(
        self, stage: Stage, look: Look, driving: Motion | None = None, initial: Motion | None = None
    ) -> tuple[Motion, Motion]:
        """Return the motion (T) that draws what `drawn` says, and the frame (1) since which it changes."""
        own = stage.actors[0].source.motion.to("cpu")
        if driving is None or initial is None:
            driving = initial = own
        return steered(self._controls, own, driving, initial, look), initial

    def thumbnail(self) -> bytes:
        """Return the portrait as a JPEG, at most the size of a preview."""
        return jpeg(_reduced(self.picture, self.faces[0], PREVIEW_LONGEST)[0])


def _reduced(picture: np.ndarray, face: Face, longest: int | None) -> tuple[np.ndarray, Face]:
    scale = 1.0 if longest is None else longest / max(picture.shape[:2])
    if scale >= 1:
        return picture, face
    size = max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)
    smaller = np.array(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    return smaller, face.placed(face.landmarks * np.float32(scale))


def jpeg(picture: np.ndarray) -> bytes:
    """Return a picture (H, W, 3), uint8, as a JPEG."""
    return _encoded(picture, "JPEG", quality=88)


def png(picture: np.ndarray) -> bytes:
    """Return a picture (H, W, 3), uint8, as a PNG."""
    return _encoded(picture, "PNG")


def _encoded(picture: np.ndarray, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, kind, **options)
    return file.getvalue()
