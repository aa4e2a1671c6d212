"""What a 3-D head does, frame by frame, from the motion that travels: ARKit's blendshapes and the pose of the head.

The numbers of `mesh` give back 478 points, and the landmarker's third network scores the blendshapes that these show.
Nothing but the motion is needed for it, so that a head can be moved by whoever receives it.
"""

from dataclasses import dataclass

import numpy as np
import torch

from kinecast.errors import KinecastError
from kinecast.faces.topology import BLENDSHAPE_POINTS, BLENDSHAPES
from kinecast.models.base import Backbone
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

SHAPES = BLENDSHAPES[1:]  # ARKit's names in the network's order, without tongueOut
_MOST_MOVE, _MOST_SIZE = 0.8, 0.3  # half widths of a face that a head may leave its place by; of its size, a logarithm


@dataclass(frozen=True)
class HeadPose:
    """What a head does in one frame.

    Attributes:
        shapes: (51,), float32, weights of `SHAPES` in [0, 1]; 0 is the head at rest.
        rotation: (3,), float32, rotation vector in radians; x to the right of the picture, y up, z to the camera.
        move: (2,), float32, to the right and up, in half widths of a face.
        size: how much larger the head is than at rest.
    """

    shapes: np.ndarray
    rotation: np.ndarray
    move: np.ndarray
    size: float


def needs_mesh(backbone: Backbone) -> Mesh:
    """Return the backbone, which must be a mesh.

    Raises:
        KinecastError: it is another.
    """
    if not isinstance(backbone, Mesh):
        raise KinecastError(f"3-D head: expected the model mesh, which knows faces, found {backbone.name}: use mesh")
    return backbone


class Expressions:
    """Turns motion of `mesh` into what a head does.

    Args:
        model: of the motion.

    Example:
        >>> poses = Expressions(load_backbone("mesh"))(motion)
    """

    def __init__(self, model: Mesh) -> None:
        self._model, self._network = model, model.landmarker.networks.blendshapes
        rest = model.neutral().to("cpu")
        self._size = float(rest.components["scale"])
        self._rest = self._scores(rest)[0]

    def __call__(self, motion: Motion) -> list[HeadPose]:
        """Return what the head does in each of T frames."""
        parts = motion.to("cpu").components
        scores = self._scores(motion)
        # What the mean face shows at rest is rest for every head.
        shapes = ((scores - self._rest) / (1 - self._rest)).clip(0, 1).astype(np.float32)
        rotation = parts["rotation"].numpy() * np.array([1, -1, -1], np.float32)
        move = parts["shift"].numpy() / np.exp(self._size) * np.array([1, -1], np.float32)
        move = _MOST_MOVE * np.tanh(move / _MOST_MOVE)
        size = np.exp(_MOST_SIZE * np.tanh((parts["scale"].numpy()[:, 0] - self._size) / _MOST_SIZE))
        return [
            HeadPose(shapes[i], rotation[i].astype(np.float32), move[i].astype(np.float32), float(size[i]))
            for i in range(len(motion))
        ]

    @torch.inference_mode()
    def _scores(self, motion: Motion) -> np.ndarray:
        """Return the network's scores (T, 51) of the points that the motion stands for."""
        # The network was taught on turned heads: of the same points seen from the front it scores worse.
        read = self._model.points_of_motion(motion)[:, list(BLENDSHAPE_POINTS), :2].contiguous()
        scores: np.ndarray = self._network(read).cpu().numpy()[:, 1:]
        return scores
