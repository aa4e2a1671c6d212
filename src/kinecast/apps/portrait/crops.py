"""The square crop around a head, the backbone's input."""

from dataclasses import dataclass

import numpy as np

from kinecast.faces import Face
from kinecast.models.pasting import Edges

ROOMY = 0.5  # of the square's side that a face takes, with room for hair, neck and turning
FRAMED = 0.61  # as in crops of driving clips, so that positions mean the same
_LOW = 0.07  # of a face's size, below the square's middle, since hair is above


@dataclass(frozen=True)
class Crop:
    """A square in a picture: its upper left corner and side in pixels, and the picture's height and width."""

    top: int
    left: int
    side: int
    shape: tuple[int, int]

    @property
    def fading(self) -> Edges:
        """The edges (top, left, bottom, right) beyond which the picture continues."""
        height, width = self.shape
        return self.top > 0, self.left > 0, self.top + self.side < height, self.left + self.side < width

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Return the square of a picture (H, W, 3), a view."""
        return picture[self.top : self.top + self.side, self.left : self.left + self.side]

    def landmarks(self, face: Face) -> np.ndarray:
        """Return the landmarks (478, 3) of a face of the picture in pixels of the square."""
        return face.landmarks - np.array([self.left, self.top, 0], np.float32)


def head_crop(face: Face, shape: tuple[int, int], share: float = ROOMY) -> Crop:
    """Return the square around a head, within a picture of `shape` (height, width).

    Args:
        face: whose.
        shape: of the picture.
        share: of the square's side that the face takes; more at the picture's edges.
    """
    height, width = shape
    side = max(min(round(face.size / share), height, width), 1)
    x, y = face.centre
    top, left = round(y - _LOW * face.size - side / 2), round(x - side / 2)
    return Crop(min(max(top, 0), height - side), min(max(left, 0), width - side), side, shape)
