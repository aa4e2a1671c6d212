"""Distances between two pictures of a face: landmarks and identity.

Landmarks are the 478 points of `kinecast.faces`. Identity is the 128 numbers of dlib's face recognition network (King
2017), frozen and not part of this package, converted to plain arrays in the npm package @vladmandic/face-api (MIT).

Notation: T frames. Pixels are in [0, 1], RGB.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.faces import Landmarker, Square, topology
from kinecast.files import existing_file

_IDENTITY_ROOM = 1.25
_IDENTITY_PIXELS = 150
_MEAN_RGB = (122.782, 117.001, 104.298)
Box = tuple[float, float, float]  # centre x, centre y and side in pixels


class IdentityNetwork(nn.Module):
    """A residual network whose 128 outputs are closer than 0.6 for two good pictures of one person.

    Args:
        folder: the folder `model` of the npm package @vladmandic/face-api 1.7.

    Raises:
        KinecastError: the weights are missing or invalid.
    """

    # name, channels, whether it halves the picture
    stages = (
        *(("conv32_1", 32, False), ("conv32_2", 32, False), ("conv32_3", 32, False)),
        *(("conv64_down", 64, True), ("conv64_1", 64, False), ("conv64_2", 64, False), ("conv64_3", 64, False)),
        *(("conv128_down", 128, True), ("conv128_1", 128, False), ("conv128_2", 128, False)),
        *(("conv256_down", 256, True), ("conv256_1", 256, False), ("conv256_2", 256, False)),
        ("conv256_down_out", 256, True),
    )

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._weights = _read_weights(Path(folder))
        wanted = {f"{name}/conv{i}/conv/filters" for name, _, _ in self.stages for i in (1, 2)} | {"fc"}
        if missing := sorted(wanted - set(self._weights)):
            raise KinecastError(f"{folder}: expected a face recognition network, found no {missing[0]}: see --face-api")

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Tensor:
        """Describe faces (T, 3, 150, 150), each a square a little wider than the face: (T, 128)."""
        x = (pictures * 255 - torch.tensor(_MEAN_RGB).view(1, 3, 1, 1)) / 255
        x = F.max_pool2d(F.relu(self._conv(x, "conv32_down", stride=2)), 3, 2)
        for name, _, down in self.stages:
            out = F.relu(self._conv(x, f"{name}/conv1", stride=2 if down else 1))
            out = self._conv(out, f"{name}/conv2")
            if down:
                x = F.avg_pool2d(x, 2)
                x = F.pad(x, (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))
                out = F.pad(out, (0, x.shape[3] - out.shape[3], 0, x.shape[2] - out.shape[2]))
            x = F.relu(x + out)
        return x.mean(dim=(2, 3)) @ self._weights["fc"]

    def _conv(self, x: Tensor, name: str, stride: int = 1) -> Tensor:
        filters = self._weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)
        padding = 0 if stride == 2 else filters.shape[-1] // 2
        out = F.conv2d(x, filters, self._weights[f"{name}/conv/bias"], stride, padding)
        scale, bias = (self._weights[f"{name}/scale/{part}"].view(1, -1, 1, 1) for part in ("weights", "biases"))
        return out * scale + bias


@dataclass(frozen=True)
class TrueFace:
    """The face in a true frame: its points (478, 2), their square, and its description (128,)."""

    points: np.ndarray
    square: Square
    description: Tensor | None


class FaceDistances:
    """Landmark and identity distance of frames from true ones, at the position of the true face.

    `identity` is optional: without its weights only landmarks are compared.
    """

    def __init__(self, face_api: str | Path | None = None) -> None:
        self.landmarker = Landmarker("cpu", "fast")
        self.identity = IdentityNetwork(face_api) if face_api is not None else None

    def look(self, picture: Tensor) -> TrueFace | None:
        """Find the largest face in a true frame (3, H, W), once for all comparisons; None if there is none."""
        faces = self.landmarker.detect(picture)
        if not faces:
            return None
        square = faces[0].square
        points = self._points(picture, square)
        return TrueFace(points, square, self._describe(picture, points))

    def compare(self, picture: Tensor, face: TrueFace | None) -> dict[str, float]:
        """Compare a frame (3, H, W) with a true face: `landmark`, and `identity` if its network is there.

        Landmark: mean distance of the points over the true distance between the outer corners of the eyes; both
            pictures are cropped to the same square. Identity: Euclidean distance of the descriptions. NaN without a
            face.
        """
        if face is None:
            return {"landmark": float("nan")} | ({} if self.identity is None else {"identity": float("nan")})
        apart = np.linalg.norm(self._points(picture, face.square) - face.points, axis=1)
        corners = face.points[[topology.RIGHT_EYE_CORNER, topology.LEFT_EYE_CORNER]]
        out = {"landmark": float(apart.mean()) / max(float(np.linalg.norm(corners[0] - corners[1])), 1.0)}
        description = self._describe(picture, face.points)
        if description is not None and face.description is not None:
            out["identity"] = float(torch.linalg.vector_norm(description - face.description))
        return out

    def _points(self, picture: Tensor, square: Square) -> np.ndarray:
        return self.landmarker.look([picture], [square])[0].landmarks[:, :2]

    def _describe(self, picture: Tensor, points: np.ndarray) -> Tensor | None:
        if self.identity is None:
            return None
        return self.identity(_cut(picture[None], box_around(points, _IDENTITY_ROOM), _IDENTITY_PIXELS))[0]


def box_around(points: np.ndarray, room: float) -> Box:
    """Return the square around points (P, 2), `room` times their width."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    return float(x), float(y), float((high - low).max()) * room


def _cut(pictures: Tensor, box: Box, pixels: int) -> Tensor:
    """Crop a square from pictures (B, 3, H, W) and scale it, repeating the edge outside."""
    height, width = pictures.shape[2:]
    x, y, side = box
    steps = (torch.arange(pixels) + 0.5) / pixels * side - side / 2
    grid_y, grid_x = torch.meshgrid((steps + y) * 2 / height - 1, (steps + x) * 2 / width - 1, indexing="ij")
    grid = torch.stack([grid_x, grid_y], dim=-1)[None].expand(len(pictures), -1, -1, -1).to(pictures)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Read TensorFlow.js weights: a manifest and a binary file, with scale and minimum for 8-bit values."""
    manifest = existing_file(folder / "face_recognition_model-weights_manifest.json", "face recognition network")
    data = existing_file(folder / "face_recognition_model.bin", "face recognition network").read_bytes()
    weights, start = {}, 0
    try:
        for entry in json.loads(manifest.read_text())[0]["weights"]:
            count, coded = int(np.prod(entry["shape"])), entry.get("quantization")
            kind = np.dtype(coded["dtype"] if coded else entry["dtype"]).newbyteorder("<")
            values = np.frombuffer(data, kind, count, start).astype(np.float32)
            start += count * kind.itemsize
            if coded:
                values = values * np.float32(coded["scale"]) + np.float32(coded["min"])
            weights[entry["name"]] = torch.from_numpy(values.reshape(entry["shape"]))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise KinecastError(
            f"{folder}: expected the weights of @vladmandic/face-api, found {type(error).__name__}: unpack it again"
        ) from error
    return weights
