"""Two people in one picture, a clip that drives them, and a small backbone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from faces_in_motion import face_frames, tiny_mesh
from helpers import write_clip
from kinecast.apps.portrait.faces import find_faces
from kinecast.faces import Face
from kinecast.media.pictures import to_uint8
from kinecast.models.mesh.model import Mesh


@pytest.fixture(scope="session")
def model() -> Mesh:
    return tiny_mesh()


@pytest.fixture(scope="session")
def group() -> np.ndarray:
    """A picture (300, 560, 3): the astronaut at the left, and smaller and mirrored at the right."""
    head = np.ascontiguousarray(astronaut()[:256, 96:352])
    picture = np.full((300, 560, 3), 120, np.uint8)
    picture[20:276, 10:266] = head
    picture[60:260, 340:540] = np.array(Image.fromarray(head[:, ::-1]).resize((200, 200)))
    return picture


@pytest.fixture(scope="session")
def faces(model: Mesh, group: np.ndarray) -> list[Face]:
    return find_faces(group, model.landmarker)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames at 25 a second in which a head leans and comes nearer."""
    return write_clip(tmp_path_factory.mktemp("driving") / "lean.mp4", to_uint8(face_frames(4)))
