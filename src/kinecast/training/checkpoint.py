"""The state of a training run on disk, written atomically, so that a kill at any moment leaves a valid one."""

from pathlib import Path
from typing import Any

from kinecast.files.weights import read_torch, write_torch


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values."""
    write_torch(path, state)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, tensors and plain values only.

    Raises:
        KinecastError: the file is damaged or of another kind.
    """
    state: dict[str, Any] = read_torch(path, "a training checkpoint", advice="delete it to start again")
    return state
