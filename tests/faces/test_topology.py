"""What the points are: groups that mirror each other, triangles, and names."""

import numpy as np
import pytest

from faces.golden import pictures
from kinecast.faces import Landmarker, topology
from kinecast.faces.weights import mean_face

LOOPS = ("LIPS_OUTER", "LIPS_INNER", "RIGHT_EYE", "LEFT_EYE", "FACE_OVAL")


def doubled_areas(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return twice the areas (N,) of triangles of points whose y points up: positive if anticlockwise."""
    a, b, c = (points[triangles[:, i], :2] for i in range(3))
    return (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]


def test_mirroring_twice_changes_nothing_and_swaps_sides():
    other = topology.mirrored()
    assert len(other) == topology.NUM_POINTS and np.array_equal(other[other], np.arange(478))
    for left, right in (("LEFT_EYE", "RIGHT_EYE"), ("LEFT_BROW", "RIGHT_BROW"), ("LEFT_IRIS", "RIGHT_IRIS")):
        assert set(other[list(getattr(topology, left))]) == set(getattr(topology, right))
    for name in ("LIPS_OUTER", "LIPS_INNER", "FACE_OVAL", "NOSE"):
        assert set(other[list(getattr(topology, name))]) == set(getattr(topology, name))
    assert other[topology.LEFT_IRIS[0]] == topology.RIGHT_IRIS[0]


@pytest.mark.parametrize("name", LOOPS)
def test_loops_follow_edges_of_the_mesh(name):
    loop, triangles = getattr(topology, name), topology.mesh_triangles()
    edges = {
        frozenset(edge) for corners in triangles.tolist() for edge in zip(corners, np.roll(corners, 1), strict=True)
    }
    assert len(set(loop)) == len(loop)
    assert all(frozenset(edge) in edges for edge in zip(loop, np.roll(loop, 1), strict=True))


@pytest.mark.parametrize("name", ["LIPS_INNER", "RIGHT_EYE", "LEFT_EYE"])
def test_openings_are_filled(name):
    loop = getattr(topology, name)
    assert len(topology.opening_triangles(loop)) == len(loop) - 2


def test_triangles_are_anticlockwise_from_the_front():
    assert topology.mesh_triangles().shape == (898, 3)
    assert (doubled_areas(mean_face().vertices, topology.mesh_triangles()) > 0).mean() > 0.95
    (face,) = Landmarker("cpu", "eager").detect(pictures()["one"])
    upright = face.landmarks * (1, -1, 1)
    assert topology.iris_triangles().shape == (8, 3)
    assert (doubled_areas(upright, topology.iris_triangles()) > 0).all()


def test_blendshapes_have_the_names_of_arkit():
    assert len(topology.BLENDSHAPES) == len(set(topology.BLENDSHAPES)) == 52
    assert len(topology.BLENDSHAPE_POINTS) == len(set(topology.BLENDSHAPE_POINTS)) == 146
    sides = [name for name in topology.BLENDSHAPES if name.endswith("Left")]
    assert all(name.removesuffix("Left") + "Right" in topology.BLENDSHAPES for name in sides)
