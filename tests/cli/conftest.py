"""A command line that runs in the test's own process, on a tiny model with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kinecast.cli import main
from kinecast.models.checkpoints import save_backbone
from tiny import tiny_fomm


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("kinecast: ") and "warning" not in line]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Result(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a FOMM of 3 keypoints at 32x32."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_backbone(tiny_fomm(frame_size=(32, 32), num_keypoints=3), path, {})
    return path
