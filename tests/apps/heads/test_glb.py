"""Heads as files: what is read of good ones, and the one line that bad ones get."""

import copy
import struct

import numpy as np
import pytest

from apps.heads.heads_of_tests import glb, triangle_head
from kinecast.apps.heads.expression import SHAPES
from kinecast.apps.heads.glb import MAX_BYTES, OWN, own_head, parse_head, read_head, shape_of
from kinecast.errors import KinecastError


def test_own_head_is_small_and_moves():
    head = own_head()
    assert len(head.data) == OWN.stat().st_size < 1 << 20
    assert {"jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "mouthSmileLeft", "browInnerUp", "eyeLookInLeft"} <= set(
        head.shapes
    )
    reach = {i: max(np.linalg.norm(p.shapes[i], axis=1).max() for p in head.parts if i in p.shapes) for i in range(51)
             if any(i in p.shapes for p in head.parts)}  # fmt: skip
    assert 0.005 < reach[SHAPES.index("jawOpen")] < 0.08  # metres
    points = np.concatenate([part.points for part in head.parts])
    assert 0.2 < np.ptp(points[:, 1]) < 0.4


def test_own_head_is_symmetric():
    skin = own_head().parts[0]
    left, right = SHAPES.index("mouthSmileLeft"), SHAPES.index("mouthSmileRight")
    mirrored = skin.points * [-1, 1, 1]
    other = np.linalg.norm(mirrored[:, None] - skin.points[None], axis=2).argmin(axis=1)
    assert np.abs(skin.shapes[left][other] * [-1, 1, 1] - skin.shapes[right]).max() < 3e-4


def test_names_as_exporters_write_them():
    for name in ("eyeBlinkLeft", "eyeBlink_L", "EyeBlinkLeft", "face.eyeBlinkLeft", "eye_blink_left"):
        assert SHAPES[shape_of(name) or -1] == "eyeBlinkLeft"
    assert SHAPES[shape_of("mouthSmile_R") or -1] == "mouthSmileRight"
    assert SHAPES[shape_of("mouthLeft") or -1] == "mouthLeft"
    assert shape_of("viseme_aa") is None and shape_of("") is None


def test_sparse_targets_and_places_are_read(tmp_path):
    description, binary = triangle_head()
    description["nodes"] = [{"children": [1], "scale": [2, 2, 2]}, {"mesh": 0, "translation": [0, 1, 0]}]
    path = tmp_path / "head.glb"
    path.write_bytes(glb(description, binary))
    (part,) = read_head(path).parts
    assert part.points.tolist() == [[0, 2, 0], [2, 2, 0], [0, 4, 0]]
    assert part.shapes[0].tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 0]] and len(part.shapes) == len(SHAPES)


def changed(**entries):
    description, binary = triangle_head()
    description = copy.deepcopy(description)
    description.update(entries)
    return glb(description, binary)


def in_accessor(number, **entries):
    description, binary = triangle_head()
    accessors = copy.deepcopy(description["accessors"])
    accessors[number].update(entries)
    return changed(accessors=accessors)


def deep():
    text = b'{"a":' + b'{"a":' * 5000 + b"1" + b"}" * 5001
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


GOOD = glb(*triangle_head())
BAD = {
    "empty": (b"", "GLB"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "GLB"),
    "glTF as text": (b'{"asset": {"version": "2.0"}, "nodes": []}   ', "GLB"),
    "cut off": (GOOD[:-10], "whole"),
    "version 1": (GOOD[:4] + struct.pack("<I", 1) + GOOD[8:], "version 2"),
    "no JSON": (GOOD[:20] + b"\xff" * 40 + GOOD[60:], "damaged"),
    "deep JSON": (deep(), "damaged"),
    "a list": (changed() and glb([]), "damaged"),  # type: ignore[arg-type]
    "no meshes": (changed(nodes=[]), "morph targets"),
    "other names": (glb(*triangle_head(("smile", "frown"))), "found 0 of 51"),
    "few names": (glb(*triangle_head(SHAPES[:3])), "found 3 of 51"),
    "a buffer elsewhere": (changed(buffers=[{"byteLength": 50, "uri": "https://a.example/b.bin"}]), "inside the file"),
    "a file beside it": (changed(images=[{"uri": "../../etc/passwd"}]), "inside the file"),
    "data as text": (changed(images=[{"uri": "data:image/png;base64,AAAA"}]), "inside the file"),
    "an address in an extension": (changed(extensions={"X": {"uri": "http://example.org"}}), "inside the file"),
    "compressed": (changed(extensionsRequired=["KHR_draco_mesh_compression"]), "compression"),
    "beyond its numbers": (in_accessor(0, count=40), "damaged"),
    "endless": (in_accessor(0, count=10**9), "points"),
    "no count": (in_accessor(0, count=-1), "points"),
    "before its numbers": (in_accessor(0, byteOffset=-12), "damaged"),
    "sparse beyond": (
        in_accessor(1, sparse={"count": 1, "indices": {"bufferView": 0, "componentType": 5125, "byteOffset": 12},
                               "values": {"bufferView": 1}}), "damaged"),
    "of another kind": (in_accessor(0, componentType=9), "damaged"),
    "not finite": (glb(*triangle_head(move=float("inf"))), "damaged"),
    "in a circle": (changed(nodes=[{"children": [1]}, {"children": [2], "mesh": 0}, {"children": [1]}]), "damaged"),
    "many pieces": (changed(nodes=[{"mesh": 0}] * 300), "at most 256 pieces"),
    "endlessly far": (changed(nodes=[{"mesh": 0, "translation": [1e400, 0, 0]}]), "damaged"),
    "no such mesh": (changed(nodes=[{"mesh": 7}]), "damaged"),
    "lines": (changed(meshes=[{**triangle_head()[0]["meshes"][0], "primitives": [
        {"attributes": {"POSITION": 0}, "mode": 1}]}]), "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_head_gets_one_line(name, tmp_path):
    data, said = BAD[name]
    path = tmp_path / "head.glb"
    path.write_bytes(data)
    with pytest.raises(KinecastError, match=said) as caught:
        read_head(path)
    line = str(caught.value)
    assert line.startswith("head.glb: expected") and "\n" not in line and len(line) < 250


def test_a_huge_head_is_not_read(tmp_path):
    path = tmp_path / "huge.glb"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES * 100)  # a file with a hole, of 2.4 GB
    with pytest.raises(KinecastError, match="at most 24 MB"):
        read_head(path)
    with pytest.raises(KinecastError, match="No such file"):
        read_head(tmp_path / "none.glb")


def test_no_damaged_byte_brings_it_down():
    data = bytearray(OWN.read_bytes()[:30_000])
    random = np.random.default_rng(0)
    good = glb(*triangle_head())
    for number in range(400):
        broken = bytearray(good if number % 2 else data)
        for place in random.integers(0, len(broken), 8):
            broken[place] = random.integers(256)
        try:
            parse_head(bytes(broken))
        except KinecastError as error:
            assert "\n" not in str(error)
