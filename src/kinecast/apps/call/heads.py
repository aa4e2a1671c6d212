"""3-D heads in a call: who is seen as one sends motion alone, and who looks draws the head of their own choice."""

from pathlib import Path
from typing import Literal

import numpy as np

from kinecast.apps.heads.drawing import HeadDrawing
from kinecast.apps.heads.expression import Expressions, HeadPose, needs_mesh
from kinecast.apps.heads.glb import Head, own_head, read_head
from kinecast.models.base import Backbone
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

AS_HEAD: Literal["head"] = "head"  # instead of a picture: no pixel is sent
SIDE = 256  # pixels of what is drawn without a page


class Heads:
    """What draws the other side where it is seen as a 3-D head. Of the worker that plays.

    Args:
        backbone: of the call.
        path: a GLB file; None is kinecast's own head.

    Attributes:
        drawn: whether pictures are made of it here, for a recording or a page that draws none.

    Raises:
        KinecastError: the backbone is no mesh, or the file is no head.
    """

    def __init__(self, backbone: Backbone, path: Path | None = None) -> None:
        self._expressions = Expressions(needs_mesh(backbone))
        self.head: Head = own_head() if path is None else read_head(path)
        self.drawn = True
        self._drawing: HeadDrawing | None = None

    def show(self, motion: Motion) -> tuple[HeadPose, np.ndarray]:
        """Return what the head does in one frame (1) of motion, and a picture of it, uint8, empty if none is wanted."""
        (pose,) = self._expressions(motion)
        if not self.drawn:
            return pose, np.zeros((0, 0, 3), np.uint8)
        if self._drawing is None:
            self._drawing = HeadDrawing(self.head, SIDE)
        return pose, self._drawing.draw(pose)


def heads_of(backbone: Backbone, path: Path | None) -> Heads | None:
    """Return what a call needs for 3-D heads, None where its backbone is no mesh and none was asked for.

    Raises:
        KinecastError: a head was named, and there can be none.
    """
    return Heads(backbone, path) if path is not None or isinstance(backbone, Mesh) else None
