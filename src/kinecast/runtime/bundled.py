"""The backbones of the package that engines can run. TPS and face-vid2vid run as plain torch."""

from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.models.mesh.model import Mesh
from kinecast.runtime import fomm, mesh
from kinecast.runtime.offers import Offer

BUNDLED: dict[type[Backbone], Offer] = {FOMM: fomm.OFFER, Mesh: mesh.OFFER}
