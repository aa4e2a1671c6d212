"""Motion-transfer backbones: the contract, the published networks, and their weight files."""

from kinecast.backbones.base import Backbone
from kinecast.backbones.face_vid2vid import FaceVid2Vid
from kinecast.backbones.fomm import FOMM
from kinecast.backbones.mesh.model import Mesh
from kinecast.backbones.tps import TPS

AnyBackbone = FOMM | TPS | FaceVid2Vid | Mesh
BACKBONES: dict[str, type[AnyBackbone]] = {"fomm": FOMM, "tps": TPS, "face-vid2vid": FaceVid2Vid, "mesh": Mesh}

__all__ = ["BACKBONES", "FOMM", "TPS", "AnyBackbone", "Backbone", "FaceVid2Vid", "Mesh"]
