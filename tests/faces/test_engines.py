"""Every engine gives the landmarks of plain torch."""

import numpy as np
import pytest
import torch

from faces.golden import pictures
from kinecast.errors import KinecastError
from kinecast.faces import Landmarker
from kinecast.faces.engines import build


@pytest.fixture(scope="module")
def plain():
    return Landmarker("cpu", "eager")


# slow: see tests/runtime/conftest.py
@pytest.mark.parametrize("engine", ["fast", pytest.param("openvino", marks=pytest.mark.slow)])
def test_engines_agree(engine, plain):
    if engine == "openvino":
        pytest.importorskip("openvino")
    landmarker = Landmarker("cpu", engine)
    assert landmarker.networks.engine == engine
    frames = list(pictures().values())
    for found, wanted in zip(landmarker.detect_all(frames), plain.detect_all(frames), strict=True):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert np.abs(one.landmarks - other.landmarks).max() < 0.01
            assert np.abs(one.blendshapes - other.blendshapes).max() < 1e-3
            assert abs(one.presence - other.presence) < 1e-4


def test_an_engine_that_is_not_there_is_refused():
    with pytest.raises(KinecastError, match="engine: expected one of"):
        Landmarker("cpu", "tflite")
    with pytest.raises(KinecastError, match="engine fast: expected device cpu, found meta"):
        build(torch.device("meta"), "fast")
