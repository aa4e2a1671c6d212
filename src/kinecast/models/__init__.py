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
    """Register a backbone by its name, and the specification of its motion.

    Its training is registered separately, in `kinecast.training.methods`, since inference does not need it.

    Raises:
        KinecastError: the name is taken by another.
    """
    register_motion(kind.name, motion)
    if BACKBONES.setdefault(kind.name, kind) is not kind:
        raise KinecastError(f"backbone {kind.name!r}: expected an unused name, found {BACKBONES[kind.name]}")


__all__ = ["BACKBONES", "FOMM", "TPS", "Backbone", "FaceVid2Vid", "Mesh", "register_backbone"]
