"""The bundled weights of the face landmarker, and the mean face that comes with them."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors.torch import load
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.faces.networks import BlendshapeNetwork, Detector, LandmarkNetwork

FILE = Path(__file__).parent / "data" / "face-landmarker.safetensors"
SHA256 = "f2d4d8d2ff3a69eb2dda295862c5117ad684aa528620ab9cff01625dbb9a4f50"

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class MeanFace:
    """The mean face, the reference of poses.

    Attributes:
        vertices: (468, 3), float64, in centimetres: x to the subject's left, y up, z forward.
        texture: (468, 2), float64, texture coordinates.
        triangles: (898, 3), int64, counter-clockwise from the front.
        pose_weights: (468,), float64: weight of each point in the pose fit; most are zero.
    """

    vertices: np.ndarray
    texture: np.ndarray
    triangles: np.ndarray
    pose_weights: np.ndarray


@cache
def _tensors() -> dict[str, Tensor]:
    """Read the file.

    Raises:
        KinecastError: it is missing or modified.
    """
    if not FILE.exists():
        raise KinecastError(f"face landmarks: expected {FILE}, found nothing there: reinstall kinecast")
    data = FILE.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise KinecastError(
            f"face landmarks: expected sha256 {SHA256[:16]}..., found {found[:16]}... in {FILE}: reinstall kinecast"
        )
    return load(data)


@cache
def mean_face() -> MeanFace:
    """Return the mean face; its arrays are shared and must not be modified."""
    arrays = {name.removeprefix("face."): t.numpy() for name, t in _tensors().items() if name.startswith("face.")}
    kinds = {name: np.int64 if name == "triangles" else np.float64 for name in arrays}
    return MeanFace(**{name: array.astype(kinds[name]) for name, array in arrays.items()})


def load_detector() -> Detector:
    """Return the detector with its weights, float32."""
    return _filled(Detector(), "detector")


def load_landmarks() -> LandmarkNetwork:
    """Return the landmark network with its weights, float32."""
    return _filled(LandmarkNetwork(), "landmarks")


def load_blendshapes() -> BlendshapeNetwork:
    """Return the blendshape network with its weights, float32."""
    return _filled(BlendshapeNetwork(), "blendshapes")


def _filled(network: _Network, part: str) -> _Network:
    state = {k.removeprefix(f"{part}."): v.float() for k, v in _tensors().items() if k.startswith(f"{part}.")}
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)
