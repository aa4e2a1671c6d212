"""Forecasters on disk: safetensors with the config in the metadata. Such a file cannot run code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kinecast.errors import KinecastError, one_line
from kinecast.files import existing_file
from kinecast.files.weights import read_tensors, without_wrappers, write_tensors
from kinecast.forecasting import FORECASTERS, Forecaster, build_forecaster, forecaster_class
from kinecast.forecasting.vrnn_released import ReleasedVRNN

_KIND = "forecaster"
_FORMAT = "1"
_RELEASED_MARK = "posterior_net.fc1.weight"  # the released files have no metadata
WEIGHTLESS = ("repeat", "velocity")  # baselines that need no file


def save_forecaster(model: Forecaster, path: str | Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a forecaster: tensors, name, D, config, and facts on its training (`about`, JSON values).

    Raises:
        KinecastError: the path cannot be written.
    """
    metadata = {
        "kinecast": _KIND,
        "format": _FORMAT,
        "name": model.name,
        "motion_dim": str(model.motion_dim),
        "config": json.dumps(model.config.to_dict()),
        "about": json.dumps(dict(about if about is not None else model.about)),
    }
    write_tensors(path, model.state_dict(), metadata)


def load_forecaster_file(path: str | Path) -> Forecaster:
    """Read what `save_forecaster` wrote, or the released VRNN's weights; in evaluation mode, on the CPU.

    Raises:
        KinecastError: the file is missing, damaged, not a forecaster, or of a later format, or its tensors do not fit
            its config or hold NaN.
    """
    path = existing_file(path, "forecaster file (.safetensors)")
    metadata, tensors = read_tensors(path)
    tensors = without_wrappers(tensors)
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise KinecastError(f"{path}: expected finite weights, found NaN or infinity in {name}: train it again")
    if not metadata and _RELEASED_MARK in tensors:
        return ReleasedVRNN.from_state_dict(tensors)
    if metadata.get("kinecast") != _KIND:
        found = f"one of kind {metadata['kinecast']!r}" if "kinecast" in metadata else "foreign tensors"
        raise KinecastError(
            f"{path}: expected a forecaster of `kinecast train forecaster`, found {found} "
            f"({', '.join(list(tensors)[:3]) or 'none'}): name another file"
        )
    if metadata["format"] != _FORMAT:
        raise KinecastError(f"{path}: expected format {_FORMAT}, found {metadata['format']}: update kinecast")
    try:
        kind = forecaster_class(metadata["name"])
        config = kind.config_type.from_dict(json.loads(metadata["config"]))
        model = kind(int(metadata["motion_dim"]), config)
        model.about = json.loads(metadata["about"])
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:  # KinecastError is a ValueError
        found = f"found: {one_line(error)}"
        raise KinecastError(f"{path}: expected tensors that fit the config in the file, {found}") from error
    return model.eval()


def motion_dim_of(path: str | Path) -> int | None:
    """Return D of the forecaster in a file, without loading it; None if the file does not state it.

    Raises:
        KinecastError: it is missing or damaged.
    """
    found = read_tensors(existing_file(path, "forecaster file (.safetensors)"))[0].get("motion_dim", "")
    return int(found) if found.isdecimal() else None


def open_forecaster(name_or_path: str, motion_dim: int) -> Forecaster:
    """Return the forecaster in a file, or by name a baseline that needs no file.

    Raises:
        KinecastError: no such file or name, or the file has another D.
    """
    if name_or_path in WEIGHTLESS:
        return build_forecaster(name_or_path, motion_dim).eval()
    if not Path(name_or_path).exists():
        known = f"a file, or one of {', '.join(WEIGHTLESS)} by name"
        hint = "train it: kinecast train forecaster" if name_or_path in FORECASTERS else "check the path"
        raise KinecastError(f"forecaster {name_or_path!r}: expected {known}; found neither: {hint}")
    model = load_forecaster_file(name_or_path)
    if model.motion_dim != motion_dim:
        raise KinecastError(
            f"{name_or_path}: expected a forecaster of {motion_dim} numbers per frame, found one of "
            f"{model.motion_dim}: train one on motion of this backbone"
        )
    return model
