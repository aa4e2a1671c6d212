"""Small GLB files, good and bad."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from kinecast.apps.heads.expression import SHAPES, HeadPose


def glb(description: Mapping[str, Any], binary: bytes = b"") -> bytes:
    """Return a GLB file of JSON and a chunk of numbers."""
    text = json.dumps(description).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        chunks += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def triangle_head(names: tuple[str, ...] = SHAPES, move: float = 1.0) -> tuple[dict[str, Any], bytes]:
    """Return the JSON and the numbers of one triangle whose first point every target moves to the right."""
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4")
    moved = np.array([[move, 0, 0]], "<f4")
    binary = points.tobytes() + moved.tobytes() + np.zeros(1, "<u2").tobytes()
    sparse = {
        "count": 1,
        "indices": {"bufferView": 2, "componentType": 5123},
        "values": {"bufferView": 1},
    }
    accessors = [
        {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
        {"componentType": 5126, "count": 3, "type": "VEC3", "sparse": sparse},
    ]
    return {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [{"attributes": {"POSITION": 0}, "targets": [{"POSITION": 1}] * len(names)}],
                "extras": {"targetNames": list(names)},
            }
        ],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 12},
            {"buffer": 0, "byteOffset": 48, "byteLength": 2},
        ],
        "buffers": [{"byteLength": len(binary)}],
    }, binary


def pose(rotation: tuple[float, float, float] = (0, 0, 0), **shapes: float) -> HeadPose:
    """Return what a head does, blendshapes by name."""
    weights = np.array([shapes.get(name, 0.0) for name in SHAPES], np.float32)
    return HeadPose(weights, np.array(rotation, np.float32), np.zeros(2, np.float32), 1.0)
