"""The pieces of a simple head around the landmarker's mean face, and a GLB file of them. Lengths in centimetres."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.faces import topology as faces
from kinecast.files import atomic_path
from kinecast.models.mesh.topology import KINDS, Topology

_SKIN, _HAIR, _LIPS, _BROWS = (0.72, 0.47, 0.36), (0.07, 0.045, 0.03), (0.52, 0.21, 0.19), (0.09, 0.055, 0.04)
_WHITE, _IRIS, _PUPIL, _TEETH, _INSIDE = (
    *((0.82, 0.82, 0.8), (0.09, 0.2, 0.28), (0.01, 0.01, 0.01), (0.86, 0.83, 0.76), (0.14, 0.03, 0.03)),
)
_LOOK = np.radians(28)  # that an eye turns at the most
_STILL = 0.002  # a point that moves less does not


@dataclass(frozen=True)
class Piece:
    """Points (V, 3), triangles (F, 3), a colour, and how each of the shapes moves the points (S, V, 3)."""

    name: str
    points: np.ndarray
    triangles: np.ndarray
    colour: tuple[float, float, float]
    shapes: np.ndarray
    roughness: float = 0.85


def pieces(face: np.ndarray, offsets: np.ndarray, names: Sequence[str]) -> list[Piece]:
    """Return the pieces of the head.

    Args:
        face: the mean face (468, 3), y up, z forward.
        offsets: how the shapes move it (S, 468, 3).
        names: of the shapes.
    """
    import torch

    face = _shut(face)
    triangles = faces.mesh_triangles()
    kinds = Topology(torch.zeros(faces.NUM_POINTS, 3)).one_hot.argmax(dim=1).numpy()
    skin, lips = (triangles[kinds == KINDS.index(kind)] for kind in ("skin", "lips"))
    made = [
        _piece("skin", face, skin, _SKIN, offsets),
        _piece("lips", face, lips, _LIPS, offsets, roughness=0.55),
        *_brows(face, offsets),
        *_back(face, offsets),
        _neck(len(names)),
        *(_ear(side, len(names)) for side in (-1, 1)),
    ]
    for side, loop in (("Right", faces.RIGHT_EYE), ("Left", faces.LEFT_EYE)):
        made += _eye(face[list(loop)], side, names)
    return made + _mouth(face, offsets, names)


def _piece(
    name: str, points: np.ndarray, triangles: np.ndarray, colour: Any, shapes: np.ndarray, roughness: float = 0.85
) -> Piece:
    """Keep the points that the triangles use."""
    used, inverse = np.unique(triangles, return_inverse=True)
    return Piece(name, points[used], inverse.reshape(-1, 3), colour, shapes[:, used], roughness)


def _shut(face: np.ndarray) -> np.ndarray:
    """Bring the lips of the mean face together: its mouth is a little open."""
    lower, upper = list(faces.LIPS_INNER[1:10]), list(faces.LIPS_INNER[11:])[::-1]
    out = face.copy()
    for line, other in ((upper, lower), (lower, upper)):
        apart = np.linalg.norm(face[:, None, :2] - face[None, line, :2], axis=2)
        nearest, reach = apart.argmin(axis=1), apart.min(axis=1)
        gap = (face[other] - face[line])[nearest] * np.array([0, 0.5, 0])
        beyond = np.linalg.norm(face[:, None, :2] - face[None, other, :2], axis=2).min(axis=1)
        out += gap * (np.exp(-((reach / 1.1) ** 2)) * (reach < beyond + 1e-9))[:, None]
    return out


def _brows(face: np.ndarray, offsets: np.ndarray) -> list[Piece]:
    out = []
    for name, loop in (("brow right", faces.RIGHT_BROW), ("brow left", faces.LEFT_BROW)):
        lower, upper = list(loop[:5]), list(loop[5:])[::-1]
        index = np.array(lower + upper)
        points = face[index].copy()
        middle = (points[:5] + points[5:]) / 2
        thin = np.array([0.35, 0.6, 0.62, 0.6, 0.5])[:, None]
        points = np.concatenate([middle + (points[:5] - middle) * thin, middle + (points[5:] - middle) * thin])
        points[:, 2] += 0.12
        quads = [(i, i + 1, i + 6, i + 5) for i in range(4)]
        triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
        out.append(Piece(name, points, triangles, _BROWS, offsets[:, index]))
    return out


def _back(face: np.ndarray, offsets: np.ndarray) -> list[Piece]:
    """Return the back of the head, skin below and hair above: rings from the face's outline to a point behind it."""
    outline = face[list(faces.FACE_OVAL)]
    count, rings = len(outline), 9
    middle = np.array([0.0, (outline[:, 1].max() + outline[:, 1].min()) / 2 + 1.5])
    points, moved = [outline], [offsets[:, list(faces.FACE_OVAL)]]
    for k in range(1, rings + 1):
        angle = np.pi / 2 * k / rings
        out = outline[:, :2] - middle
        up = np.clip(out[:, 1] / out[:, 1].max(), -1, 1)
        wider = 1 + 0.22 * np.sin(2 * angle) * (up > 0) * up + 0.1 * np.sin(2 * angle)
        rise = np.where(up < 0, 1 - 0.62 * np.sin(angle), 1.0)
        flat = out * np.cos(angle) ** 0.7 * wider[:, None] * np.stack([np.ones(count), rise], axis=1)
        flat[:, 1] += 4.2 * np.sin(2 * angle) * np.clip(up, 0, 1)  # the dome
        depth = outline[:, 2] * np.cos(angle) + np.sin(angle) * -12.5
        points.append(np.column_stack([middle + flat, depth]))
        moved.append(moved[0] * max(0, 1 - k / 2.5))
    triangles, hair = [], []
    height = outline[:, 1]
    for k in range(rings):
        for i in range(count):
            a, b = k * count + i, k * count + (i + 1) % count
            triangles += [(a, b + count, b), (a, a + count, b + count)]
            lowest = min(height[i], height[(i + 1) % count])
            hair += [lowest > 2.5 or (k >= 2 and lowest > -2.5) or (k >= 4 and lowest > -7)] * 2  # lower behind
    every, shapes = np.concatenate(points), np.concatenate(moved, axis=1)
    faces_of, hair = np.array(triangles), np.array(hair)
    return [
        _piece("back", every, faces_of[~hair], _SKIN, shapes),
        _piece("hair", every, faces_of[hair], _HAIR, shapes),
    ]


def _neck(count: int) -> Piece:
    around, rings = 24, 4
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    points = []
    for k in range(rings):
        share = k / (rings - 1)
        radius = 4.6 + 1.2 * share**2
        ring = np.column_stack([radius * np.cos(angles), np.full(around, -4.5 - 9.5 * share), radius * np.sin(angles)])
        points.append(ring + np.array([0, 0, -5.2 - 0.8 * share]))
    triangles = []
    for k in range(rings - 1):
        for i in range(around):
            a, b = k * around + i, k * around + (i + 1) % around
            triangles += [(a, b, b + around), (a, b + around, a + around)]
    every = np.concatenate(points)
    return Piece("neck", every, np.array(triangles), _SKIN, np.zeros((count, len(every), 3)))


def _ear(side: int, count: int) -> Piece:
    rings, around = 8, 14
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ball = np.concatenate(
        [np.column_stack([np.sin(e) * np.cos(angles), np.cos(e) * np.ones(around), np.sin(e) * np.sin(angles)])
         for e in np.linspace(0.05, np.pi - 0.05, rings)]
    )  # fmt: skip
    triangles = []
    for k in range(rings - 1):
        for i in range(around):
            a, b = k * around + i, k * around + (i + 1) % around
            triangles += [(a, b, b + around), (a, b + around, a + around)]
    points = ball * np.array([0.75, 2.6, 1.5]) + np.array([0, 0.3, -0.3]) * ball[:, 1:2]
    points = points + np.array([side * 7.5, -0.2, -4.6])
    return Piece("ear", points, np.array(triangles), _SKIN, np.zeros((count, len(points), 3)))


def _eye(loop: np.ndarray, side: str, names: Sequence[str]) -> list[Piece]:
    """Return an eyeball that looks where the shapes say."""
    corners = loop[[0, 8]]
    width = np.linalg.norm(corners[0] - corners[1])
    radius = 0.42 * width
    middle = np.array([*(corners.mean(axis=0)[:2] * 0.4 + loop.mean(axis=0)[:2] * 0.6), 0])
    middle[2] = loop[:, 2].max() - radius - 0.12
    rings, around = 14, 20
    # poles to the front: rings are where pupil, iris and white end
    edges = np.concatenate([[0, 0.22, 0.24, 0.52, 0.56], np.linspace(0.7, np.pi, rings - 5)])
    angles = np.linspace(0, 2 * np.pi, around, endpoint=False)
    ball = np.concatenate(
        [
            np.column_stack([np.sin(e) * np.cos(angles), np.sin(e) * np.sin(angles), np.full(around, np.cos(e))])
            for e in edges
        ]
    )
    shapes = np.zeros((len(names), len(ball), 3))
    inwards = 1 if side == "Right" else -1
    turns = {"In": (0, inwards), "Out": (0, -inwards), "Up": (-1, 0), "Down": (1, 0)}
    for way, (x, y) in turns.items():
        turned = _turn(ball, x * _LOOK * 0.8, y * _LOOK)
        shapes[list(names).index(f"eyeLook{way}{side}")] = (turned - ball) * radius
    out = []
    for name, first, last, colour, rough in (
        ("pupil", 0, 2, _PUPIL, 0.3), ("iris", 2, 4, _IRIS, 0.35), ("white", 4, rings - 1, _WHITE, 0.4),
    ):  # fmt: skip
        triangles = []
        for k in range(first, last):
            for i in range(around):
                a, b = k * around + i, k * around + (i + 1) % around
                triangles += [(a, a + around, b + around), (a, b + around, b)]
        out.append(_piece(f"{name} {side.lower()}", middle + radius * ball, np.array(triangles), colour, shapes, rough))
    return out


def _turn(points: np.ndarray, about_x: float, about_y: float) -> np.ndarray:
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    return (
        points @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]).T @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]).T
    )


def _mouth(face: np.ndarray, offsets: np.ndarray, names: Sequence[str]) -> list[Piece]:
    """Return the inside of the mouth, which goes with the lips, and two rows of teeth; one goes with the jaw."""
    loop = list(faces.LIPS_INNER)
    count = len(loop)
    middle = face[loop].mean(axis=0)
    rings, moved = [face[loop]], [offsets[:, loop]]
    for k in (1, 2, 3):
        back = middle + (face[loop] - middle) * np.array([1 - 0.18 * k, 1 + 0.1 * k, 1])
        back[:, 1] += -0.5 * np.sin(2 * np.pi * np.arange(count) / count)
        back[:, 2] -= 1.3 * k
        rings.append(back)
        moved.append(offsets[:, loop] * (1 - 0.15 * k))
    triangles = []
    for k in range(3):
        for i in range(count):
            a, b = k * count + i, k * count + (i + 1) % count
            triangles += [(a, b, b + count), (a, b + count, a + count)]
    end = 3 * count
    triangles += [(end, end + i, end + i + 1) for i in range(1, count - 1)]
    inside = Piece("mouth", np.concatenate(rings), np.array(triangles), _INSIDE, np.concatenate(moved, axis=1))
    jaw = offsets[:, [17, 84, 314]].mean(axis=1, keepdims=True)  # below the lower lip
    for i, name in enumerate(names):
        if not name.startswith("jaw"):
            jaw[i] = 0
    upper = _teeth("upper teeth", middle + np.array([0, 0.02, -0.95]), 0.75, np.zeros_like(jaw))
    lower = _teeth("lower teeth", middle + np.array([0, -0.25, -1.15]), -0.6, jaw)
    return [inside, upper, lower]


def _teeth(name: str, at: np.ndarray, height: float, moved: np.ndarray) -> Piece:
    """Return a bent strip from `at` upwards, or downwards where the height is below 0."""
    around = 15
    angles = np.linspace(-1.15, 1.15, around)
    arc = np.column_stack([1.9 * np.sin(angles), np.zeros(around), 2.1 * (np.cos(angles) - 1)])
    edge = -0.2 * np.sign(height)
    points = np.concatenate([at + arc + [0, edge, 0], at + arc + [0, height, -0.15]])
    triangles = [t for i in range(around - 1) for t in ((i, i + 1, i + 1 + around), (i, i + 1 + around, i + around))]
    if height < 0:
        triangles = [t[::-1] for t in triangles]
    return Piece(name, points, np.array(triangles), _TEETH, np.repeat(moved, len(points), axis=1), 0.4)


def _normals(piece: Piece) -> np.ndarray:
    a, b, c = (piece.points[piece.triangles[:, i]] for i in range(3))
    across, normals = np.cross(b - a, c - a), np.zeros_like(piece.points)
    for corner in range(3):
        np.add.at(normals, piece.triangles[:, corner], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


class _Writer:
    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []
        self._still: dict[int, int] = {}  # accessors in which nothing moves, by their counts

    def view(self, array: np.ndarray) -> int:
        self.binary += bytes(-len(self.binary) % 4)
        self.views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": array.nbytes})
        self.binary += array.tobytes()
        return len(self.views) - 1

    def accessor(self, **entries: Any) -> int:
        self.accessors.append(entries)
        return len(self.accessors) - 1

    def vectors(self, array: np.ndarray) -> int:
        values = array.astype("<f4")
        low, high = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        return self.accessor(
            bufferView=self.view(values), componentType=5126, count=len(values), type="VEC3", min=low, max=high
        )

    def moves(self, array: np.ndarray) -> int:
        """Return an accessor that holds only the points that move."""
        some = np.flatnonzero(np.linalg.norm(array, axis=1) > _STILL / 100)
        if not len(some) and len(array) in self._still:
            return self._still[len(array)]
        values = array[some].astype("<f4")
        every = np.concatenate([values, np.zeros((1, 3), "<f4")])
        low, high = every.min(axis=0).tolist(), every.max(axis=0).tolist()
        entries: dict[str, Any] = {"componentType": 5126, "count": len(array), "type": "VEC3", "min": low, "max": high}
        if len(some):
            entries["sparse"] = {
                "count": len(some),
                "indices": {"bufferView": self.view(some.astype("<u2")), "componentType": 5123},
                "values": {"bufferView": self.view(values)},
            }
        else:
            self._still[len(array)] = len(self.accessors)
        return self.accessor(**entries)


def write_glb(path: Path, made: Sequence[Piece], names: Sequence[str]) -> None:
    """Write the pieces as one mesh with morph targets, in metres."""
    file, primitives, materials = _Writer(), [], []
    for number, piece in enumerate(made):
        attributes = {"POSITION": file.vectors(piece.points / 100), "NORMAL": file.vectors(_normals(piece))}
        corners = piece.triangles.reshape(-1).astype("<u2")
        indices = file.accessor(bufferView=file.view(corners), componentType=5123, count=len(corners), type="SCALAR")
        targets = [{"POSITION": file.moves(piece.shapes[i] / 100)} for i in range(len(names))]
        primitives.append({"attributes": attributes, "indices": indices, "material": number, "targets": targets})
        materials.append(
            {
                "name": piece.name,
                "doubleSided": True,
                "pbrMetallicRoughness": {
                    "baseColorFactor": [*piece.colour, 1],
                    "metallicFactor": 0,
                    "roughnessFactor": piece.roughness,
                },
            }
        )
    file.binary += bytes(-len(file.binary) % 4)
    description = {
        "asset": {"version": "2.0", "generator": "kinecast recipes/make_head.py"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "Head", "mesh": 0}],
        "meshes": [
            {
                "name": "head",
                "primitives": primitives,
                "extras": {"targetNames": list(names)},
                "weights": [0] * len(names),
            }
        ],
        "materials": materials,
        "accessors": file.accessors,
        "bufferViews": file.views,
        "buffers": [{"byteLength": len(file.binary)}],
    }
    text = json.dumps(description, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = (
        struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(file.binary), b"BIN\0") + file.binary
    )
    with atomic_path(path) as temporary:
        temporary.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
