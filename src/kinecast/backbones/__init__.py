"""Motion-transfer backbones: the contract, the published networks, and their weight files."""

from kinecast.backbones.base import Backbone
from kinecast.backbones.fomm import FOMM

BACKBONES: dict[str, type[FOMM]] = {"fomm": FOMM}

__all__ = ["BACKBONES", "FOMM", "Backbone"]
