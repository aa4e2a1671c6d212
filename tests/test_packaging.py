"""What is released: one version everywhere, and wheels that hold every file that the code reads."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from kinecast import __version__

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def data_files() -> set[Path]:
    """Return what lies in the package beside its modules."""
    found = (path for path in (SOURCE / "kinecast").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path for path in found if path.suffix != ".py"}


def test_one_version_everywhere():
    assert PROJECT["project"]["dynamic"] == ["version"] and "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "kinecast.__version__"}
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [__version__]
    assert re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == __version__


def test_every_file_in_the_package_is_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["kinecast"]
    packaged = {path for pattern in patterns for path in (SOURCE / "kinecast").glob(pattern)}
    assert data_files() <= packaged


@pytest.mark.slow
def test_a_wheel_holds_all_of_it(tmp_path):
    project = tmp_path / "project"
    shutil.copytree(SOURCE, project / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, project)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    (project / "dist").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=project, check=True, capture_output=True)
    (wheel,) = (project / "dist").glob("*.whl")
    assert wheel.name == f"kinecast-{__version__}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = set((SOURCE / "kinecast").rglob("*.py"))
    assert {str(path.relative_to(SOURCE)) for path in modules | data_files()} <= names
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names}
