"""Motion-transfer backbones: the contract, the published networks, and their weight files."""

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone
from kinecast.models.face_vid2vid import FaceVid2Vid
from kinecast.models.fomm import FOMM
from kinecast.models.mesh.model import Mesh
from kinecast.models.tps import TPS
from kinecast.motion_spec import MotionSpec, register_motion

BACKBONES: dict[str, type[Backbone]] = {"fomm": FOMM, "tps": TPS, "face-vid2vid": FaceVid2Vid, "mesh": Mesh}


def register_backbone(kind: type[Backbone], motion: MotionSpec) -> None:
    """Make a backbone known by its name, and what the numbers of its motion are.

    How it is trained is registered apart, since inference needs none of it: `kinecast.training.methods`.

    Raises:
        KinecastError: the name is taken by another.
    """
    register_motion(kind.name, motion)
    if BACKBONES.setdefault(kind.name, kind) is not kind:
        raise KinecastError(f"backbone {kind.name!r}: expected a name that is free, found {BACKBONES[kind.name]}")


__all__ = ["BACKBONES", "FOMM", "TPS", "Backbone", "FaceVid2Vid", "Mesh", "register_backbone"]
