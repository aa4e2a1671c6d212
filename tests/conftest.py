"""Fixtures for every test: one small clip, the shared data where it is, one thread and one seed."""

import atexit
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import make_clip

torch.set_num_threads(1)  # pytest-xdist runs one worker a core
# What engines measure and calibrate is kept in a folder, which must be neither the user's nor another worker's.
os.environ["KINECAST_CACHE"] = tempfile.mkdtemp(prefix="kinecast-tests-")
atexit.register(shutil.rmtree, os.environ["KINECAST_CACHE"], ignore_errors=True)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    torch.set_num_threads(1)  # also where a test before left another number; before any fixture of a module is made


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mp4 of 12 frames, 64x64, 25 fps. Read it, do not change it."""
    return make_clip(tmp_path_factory.mktemp("clip") / "blob.mp4")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="kinecast-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The shared data, named by KINECAST_DATA; without it the test is skipped, but in CI a wrong name is a failure."""
    name = os.environ.get("KINECAST_DATA")
    if not name:
        pytest.skip("KINECAST_DATA is not set")
    folder = Path(name)
    if not folder.is_dir():
        message = f"KINECAST_DATA names {name}, which is no folder"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured (`record_property("measured", line)`): pytest-xdist swallows what they print."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    measured = [line for r in reports for name, line in getattr(r, "user_properties", []) if name == "measured"]
    if measured:
        terminalreporter.section("measured")
    for line in dict.fromkeys(measured):
        terminalreporter.write_line(line)
