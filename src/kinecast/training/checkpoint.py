"""State of a training run on disk: written beside and renamed, so that a kill at any moment leaves a good one."""

from pathlib import Path
from typing import Any

import torch

from kinecast.errors import KinecastError
from kinecast.files import atomic_path


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote, tensors and plain values only.

    Raises:
        KinecastError: the file is damaged or foreign.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise KinecastError(
            f"{path}: expected a training checkpoint, found {error}: delete it to start anew"
        ) from error
    return state
