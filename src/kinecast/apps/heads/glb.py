"""glTF heads: files that are checked before anything shows them, and their shapes as arrays.

A head is one GLB file (glTF 2.0) with morph targets that bear ARKit's names (`jawOpen`, also `mouthSmile_L`). Nothing
outside the file is ever read: one that names other files or addresses is refused. V points, F triangles.
"""

import hashlib
import json
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.heads.expression import SHAPES
from kinecast.errors import KinecastError

OWN = Path(__file__).parent / "data" / "head.glb"
MAX_BYTES = 24 << 20
MAX_POINTS = 200_000
MAX_PIECES = 256
LEAST_SHAPES = 8  # of ARKit's names that a head must have
_MAX_JSON = 4 << 20
_MAX_DEPTH = 64
_KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
# Extensions that need no other program to be read: what is compressed by others is refused.
_READ = ("KHR_mesh_quantization", "KHR_texture_transform", "KHR_materials_unlit")


@dataclass(frozen=True)
class Part:
    """One mesh of a head: `points` (V, 3), `triangles` (F, 3), `colours` (V, 3) in [0, 1], `shapes` by index (V, 3)."""

    points: np.ndarray
    triangles: np.ndarray
    colours: np.ndarray
    shapes: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Head:
    """A head that has been checked: the file's bytes and its parts. `digest` names the file."""

    data: bytes
    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        """The file's SHA-256."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def shapes(self) -> list[str]:
        """Those of ARKit's names that it has."""
        return [SHAPES[i] for i in sorted({i for part in self.parts for i in part.shapes})]


@cache
def own_head() -> Head:
    """Return the head that comes with kinecast."""
    return read_head(OWN)


def read_head(path: Path) -> Head:
    """Read and check a head's file.

    Raises:
        KinecastError: it cannot be read, or is no such head: see `parse_head`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise KinecastError(f"{path}: expected a 3-D head (.glb), found {error.strerror}") from error
    return parse_head(data, path.name)


def parse_head(data: bytes, name: str = "3-D head") -> Head:
    """Check a head's bytes.

    Raises:
        KinecastError: no GLB, damaged, too large, without ARKit's morph targets, compressed by an extension, or one
            that names files or addresses outside itself.
    """
    try:
        return Head(data, _parts(_File(data, name)))
    except KinecastError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise KinecastError(f"{name}: expected a whole GLB file, found damaged parts: export it again") from error


def shape_of(name: str) -> int | None:
    """Return which of `SHAPES` a morph target's name means, None for another one.

    Exporters write `jawOpen`, `eyeBlink_L` or `face.mouthSmileLeft`.
    """
    return _known().get(_plain(name))


@cache
def _known() -> dict[str, int]:
    return {_plain(name): i for i, name in enumerate(SHAPES)}


def _plain(name: str) -> str:
    name = re.sub(r"_l(eft)?$", "left", name.rsplit(".", 1)[-1].lower())
    return re.sub(r"[^a-z0-9]", "", re.sub(r"_r(ight)?$", "right", name))


class _File:
    """The two chunks of a GLB, and arrays out of them."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        if len(data) > MAX_BYTES:
            raise KinecastError(f"{name}: expected at most {MAX_BYTES >> 20} MB, found more: make it smaller")
        if len(data) < 20 or data[:4] != b"glTF":
            raise KinecastError(f"{name}: expected a 3-D head as GLB (binary glTF 2.0), found another file: export one")
        _, version, length, size, kind = struct.unpack_from("<4sIII4s", data)
        if version != 2 or kind != b"JSON" or length != len(data) or not 0 < size <= min(len(data) - 20, _MAX_JSON):
            raise KinecastError(f"{name}: expected a whole GLB file of version 2, found another or part of one")
        self.json: dict[str, Any] = json.loads(data[20 : 20 + size].decode())
        rest = data[20 + size :]
        self.binary = b""
        if len(rest) >= 8 and rest[4:8] == b"BIN\0":
            self.binary = rest[8 : 8 + struct.unpack_from("<I", rest)[0]]
        self._check()

    def _check(self) -> None:
        name = self.name
        for key, value in _entries(self.json):
            if key == "uri" and value is not None:
                raise KinecastError(
                    f"{name}: expected everything inside the file, found a name of something outside it: embed buffers "
                    "and textures when you export"
                )
        foreign = sorted(set(map(str, self.json.get("extensionsRequired", []))) - set(_READ))
        if foreign:
            raise KinecastError(f"{name}: expected no compression, found {foreign[0][:40]}: export without it")

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return one of the file's tables."""
        rows = self.json.get(name, [])
        if not isinstance(rows, list):
            raise ValueError(name)
        return rows

    def array(self, index: int, scaled: bool = True) -> np.ndarray:
        """Return an accessor's values (count, width), sparse ones filled in; `scaled` as float32."""
        accessor = self._row("accessors", index)
        count, width = int(accessor["count"]), _WIDTHS[accessor["type"]]
        if not 0 < count <= 6 * MAX_POINTS:
            raise KinecastError(f"{self.name}: expected at most {MAX_POINTS} points, found more: make it simpler")
        kind = np.dtype(_KINDS[accessor["componentType"]])
        values = np.zeros((count, width), kind)
        if "bufferView" in accessor:
            values = self._view(accessor["bufferView"], int(accessor.get("byteOffset", 0)), count, width, kind)
        if (sparse := accessor.get("sparse")) is not None:
            some = int(sparse["count"])
            where, what = sparse["indices"], sparse["values"]
            which = np.dtype(_KINDS[where["componentType"]])
            places = self._view(where["bufferView"], int(where.get("byteOffset", 0)), some, 1, which)[:, 0]
            values = values.copy()
            values[places] = self._view(what["bufferView"], int(what.get("byteOffset", 0)), some, width, kind)
        if not scaled:
            return values
        out = values.astype(np.float32)
        if accessor.get("normalized"):
            out = np.maximum(out / np.iinfo(kind).max, -1)
        if not np.isfinite(out).all():
            raise ValueError("not finite")
        return out

    def _row(self, table: str, index: Any) -> dict[str, Any]:
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise ValueError(table)
        return self.rows(table)[index]

    def _view(self, index: int, offset: int, count: int, width: int, kind: np.dtype[Any]) -> np.ndarray:
        view = self._row("bufferViews", index)
        if view.get("buffer", 0) != 0 or not 0 < count <= 6 * MAX_POINTS or offset < 0:
            raise ValueError("buffer view")
        begin, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        stride = int(view.get("byteStride", width * kind.itemsize))
        needed = offset + (count - 1) * stride + width * kind.itemsize
        if begin < 0 or stride < width * kind.itemsize or needed > length or begin + length > len(self.binary):
            raise ValueError("buffer view")
        block = np.frombuffer(self.binary, np.uint8, needed - offset, begin + offset)
        rows = np.lib.stride_tricks.as_strided(block, (count, width * kind.itemsize), (stride, 1), writeable=False)
        return np.ascontiguousarray(rows).view(kind)


def _entries(value: Any, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Return every key and value of JSON, however deep.

    Raises:
        ValueError: deeper than any exporter writes.
    """
    if depth > _MAX_DEPTH:
        raise ValueError("depth")
    for key, inner in value.items() if isinstance(value, dict) else (("", each) for each in value):
        yield key, inner
        if isinstance(inner, dict | list):
            yield from _entries(inner, depth + 1)


def _parts(file: _File) -> tuple[Part, ...]:
    found: set[int] = set()
    parts: list[Part] = []
    points = 0
    for node, place in _placed(file):
        mesh = file._row("meshes", node["mesh"])
        names = mesh.get("extras", {}).get("targetNames", [])
        for primitive in mesh["primitives"]:
            if len(parts) == MAX_PIECES:
                raise KinecastError(f"{file.name}: expected at most {MAX_PIECES} pieces, found more: join some")
            part, named = _part(file, primitive, names, place)
            found |= named
            points += len(part.points)
            if points > MAX_POINTS:
                raise KinecastError(f"{file.name}: expected at most {MAX_POINTS} points, found more: make it simpler")
            parts.append(part)
    if len(found) < LEAST_SHAPES:
        raise KinecastError(
            f"{file.name}: expected morph targets with ARKit's names (jawOpen, eyeBlinkLeft, ...), found {len(found)} "
            f"of {len(SHAPES)}: choose a head made for them, or export it with its shape keys"
        )
    return tuple(parts)


def _placed(file: _File) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Return each node that has a mesh, and where it lies: a matrix (4, 4)."""
    nodes = file.rows("nodes")
    inside = {child for node in nodes for child in node.get("children", [])}
    waiting = [(i, np.eye(4)) for i in range(len(nodes)) if i not in inside]
    seen: set[int] = set()
    while waiting:
        index, above = waiting.pop()
        if index in seen:
            raise ValueError("nodes in a circle")
        seen.add(index)
        node = file._row("nodes", index)
        place = above @ _matrix(node)
        if "mesh" in node:
            yield node, np.eye(4) if "skin" in node else place  # a skin's bones place it
        waiting += [(child, place) for child in node.get("children", [])]


def _matrix(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    x, y, z, w = np.array(node.get("rotation", (0, 0, 0, 1)), float)
    turned = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    out = np.eye(4)
    out[:3, :3] = turned * np.array(node.get("scale", (1, 1, 1)), float)
    out[:3, 3] = np.array(node.get("translation", (0, 0, 0)), float)
    if not np.isfinite(out).all():
        raise ValueError("matrix")
    return out


def _part(file: _File, primitive: dict[str, Any], names: list[Any], place: np.ndarray) -> tuple[Part, set[int]]:
    attributes = primitive["attributes"]
    raw = file.array(attributes["POSITION"])
    count, linear = len(raw), place[:3, :3].T
    points = raw @ linear + place[:3, 3]
    if count > MAX_POINTS or not np.isfinite(points).all():
        raise ValueError("points")
    corners = np.arange(count) if "indices" not in primitive else file.array(primitive["indices"], scaled=False)[:, 0]
    if primitive.get("mode", 4) != 4 or len(corners) % 3 or corners.max(initial=0) >= count:
        raise ValueError("triangles")
    shapes: dict[int, np.ndarray] = {}
    found: set[int] = set()
    for name, target in zip(names, primitive.get("targets", []), strict=False):
        shape = shape_of(str(name))
        if shape is None or shape in found or "POSITION" not in target:
            continue
        moved = file.array(target["POSITION"])
        if moved.shape != raw.shape:
            raise ValueError("morph target")
        found.add(shape)
        if moved.any():
            shapes[shape] = (moved @ linear).astype(np.float32)
    colours = _colours(file, primitive, count)
    return Part(points.astype(np.float32), corners.reshape(-1, 3).astype(np.int64), colours, shapes), found


def _colours(file: _File, primitive: dict[str, Any], count: int) -> np.ndarray:
    """Return the points' colours: the material's times their own. Textures are the page's alone."""
    factor = np.array([0.8, 0.7, 0.65])
    if "material" in primitive:
        material = file._row("materials", primitive["material"])
        factor = np.array(material.get("pbrMetallicRoughness", {}).get("baseColorFactor", (1, 1, 1, 1)), float)[:3]
    colours = np.ones((count, 3)) * factor
    if "COLOR_0" in primitive["attributes"]:
        own = file.array(primitive["attributes"]["COLOR_0"])[:, :3]
        colours = colours * own
    return colours.clip(0, 1).astype(np.float32)
