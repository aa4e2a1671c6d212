from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Choices and converted models stay out of the user's cache; one folder a worker, so that each converts once."""
    folder = tmp_path_factory.getbasetemp() / "engine-cache"
    monkeypatch.setenv("KINECAST_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def extra(request: pytest.FixtureRequest) -> None:
    """Skip a test of the OpenVINO engine where the extra is not installed."""
    if "engine" in request.fixturenames and request.getfixturevalue("engine") == "openvino":
        pytest.importorskip("openvino")
