from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make what compiles OpenVINO models slow.

    On two cores its compilation was once seen to wait for ever (a lost wake-up among TBB's threads) in a process that
    had run hundreds of other tests; beside that it is most of these tests' time.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent and "openvino" in item.nodeid:
            item.add_marker(pytest.mark.slow)


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
