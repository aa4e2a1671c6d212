"""What tests of the mesh share: the bundled model, and what controls its lips and lids."""

import pytest

from kinecast.models.mesh.controls import Controls
from kinecast.models.mesh.model import Mesh
from kinecast.zoo import load_backbone


@pytest.fixture(scope="module")
def model() -> Mesh:
    loaded = load_backbone("mesh", "cpu", "eager")
    assert isinstance(loaded, Mesh)
    return loaded


@pytest.fixture(scope="module")
def controls(model: Mesh) -> Controls:
    return model.controls()
