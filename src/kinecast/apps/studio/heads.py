"""3-D heads in the studio: the page draws them, and is told what they do."""

from collections.abc import Callable
from typing import Any

from kinecast.apps.heads.expression import Expressions, HeadPose
from kinecast.apps.studio.controls import Look, steered
from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion


class Puppet:
    """A head that has no portrait: sliders and driving motion move the mean face, whose expression it takes over.

    Args:
        model: whose motion it is.
    """

    def __init__(self, model: Mesh) -> None:
        self._model, self._controls = model, model.controls()
        self._expressions, self._rest = Expressions(model), model.neutral().to("cpu")

    def pose(self, look: Look, driving: Motion | None = None, initial: Motion | None = None) -> HeadPose:
        """Return what the head does: as the sliders say, moved by one frame (1) as it has changed since `initial`."""
        if driving is None or initial is None:
            driving = initial = self._rest
        return self.follow(look, initial)(driving)[0]

    def follow(self, look: Look, initial: Motion) -> Callable[[Motion], list[HeadPose]]:
        """Return what turns successive frames (T) of driving motion into what the head does in each."""
        retarget = self._model.retarget(self._rest, initial)
        return lambda driving: self._expressions(retarget(steered(self._controls, self._rest, driving, initial, look)))


def described(pose: HeadPose) -> dict[str, Any]:
    """Return a pose as JSON for the page."""
    return {
        "shapes": [round(float(weight), 4) for weight in pose.shapes],
        "rotation": [float(value) for value in pose.rotation],
        "move": [float(value) for value in pose.move],
        "size": pose.size,
    }
