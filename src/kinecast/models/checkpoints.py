"""Weight files of backbones: our safetensors files, and published `.pth.tar` files, read as tensors only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinecast.errors import KinecastError, one_line
from kinecast.files import existing_file
from kinecast.files.weights import read_tensors, read_torch, without_wrappers, write_tensors
from kinecast.models import BACKBONES
from kinecast.models.base import Backbone

KIND = "kinecast-backbone-1"


@dataclass(frozen=True)
class _Published:
    """Contents of a published checkpoint: required `parts`, optional `extras`. Anything else is for training."""

    title: str
    parts: tuple[str, ...]
    extras: tuple[str, ...] = ()
    corners: bool = False  # whether its config has `align_corners`


# Distinguished by a part that only they have; without any it is treated as a FOMM.
_MARKS = {"inpainting_network": "tps", "he_estimator": "face-vid2vid"}
_PUBLISHED = {
    "fomm": _Published("FOMM", ("generator", "kp_detector"), corners=True),
    "tps": _Published(
        "TPS", ("kp_detector", "dense_motion_network", "inpainting_network"), ("bg_predictor", "avd_network")
    ),
    "face-vid2vid": _Published("face-vid2vid", ("generator", "kp_detector", "he_estimator")),
}
_HOLDERS = ("state_dict", "model")  # key of the network in Lightning and many training loops


def save_backbone(model: Backbone, path: str | Path, info: Mapping[str, str], half: bool = False) -> None:
    """Write weights and config as safetensors.

    Args:
        model: the model to save.
        path: the file.
        info: added to the metadata: licence, provenance, ...
        half: store floating-point tensors as float16; they are read back as float32.
    """
    state = {name: t.half() if half and t.is_floating_point() else t for name, t in model.state_dict().items()}
    metadata = {**info, "kind": KIND, "backbone": model.name, "config": json.dumps(model.config.to_dict())}
    write_tensors(path, state, metadata)


def load_backbone_file(path: str | Path) -> Backbone:
    """Read a backbone from a `.safetensors` file of `save_backbone`, or a published `.pth.tar` checkpoint.

    Raises:
        KinecastError: missing, not weights, truncated, of another model, with NaN, or a pickle that would execute code.
    """
    path = existing_file(path, "weights file")
    if path.suffix.lower() != ".safetensors":
        return import_published(path)
    metadata, state = read_safetensors(path, KIND, "kinecast zoo import")
    name = metadata.get("backbone", "")
    if name not in BACKBONES:
        raise KinecastError(f"{path}: expected a backbone of {', '.join(BACKBONES)}, found {name!r}: update kinecast")
    try:
        config = dict(json.loads(metadata["config"]))
    except (KeyError, TypeError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
        raise KinecastError(f"{path}: expected a config in the metadata, found {found}") from error
    return _build(path, name, state, config)


def read_safetensors(path: Path, kind: str, maker: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Read a file's metadata and tensors, floating point as float32, after checking the kind of file.

    Raises:
        KinecastError: not a safetensors file, of another kind, or with NaN.
    """
    metadata, state = read_tensors(path)
    if metadata.get("kind") != kind:
        raise KinecastError(
            f"{path}: expected weights of kind {kind}, found {metadata.get('kind', 'none named')}: "
            f"use a file that `{maker}` wrote"
        )
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    _check_finite(path, state)
    return metadata, state


def import_published(path: str | Path, frame_size: int = 256, align_corners: bool | None = None) -> Backbone:
    """Read a published checkpoint of FOMM, TPS or face-vid2vid: state dicts by part, and others that are not needed.

    Args:
        path: the `.pth.tar` file.
        frame_size: height and width of training, which the tensors do not determine.
        align_corners: how a FOMM's weights were trained to read the sampling grid, which the tensors do not determine
            either. None is True, since the published ones were trained under torch 1.0, where that was the default; use
            False for weights trained under torch 1.3 or later. TPS and face-vid2vid have a fixed value.

    Raises:
        KinecastError: a pickle that would execute code, a checkpoint of another model, missing or unknown tensors, NaN,
            or `align_corners` given for a backbone other than FOMM.
    """
    path = existing_file(path, "checkpoint")
    checkpoint = _parts(path, read_torch(path))
    found = list(checkpoint) if isinstance(checkpoint, dict) else [type(checkpoint).__name__]
    name = next((name for mark, name in _MARKS.items() if mark in found), "fomm")
    kind = _PUBLISHED[name]
    if not set(kind.parts) <= set(found):
        raise KinecastError(
            f"{path}: expected a {kind.title} checkpoint with {', '.join(kind.parts[:-1])} and {kind.parts[-1]}, "
            f"found {', '.join(map(str, found[:6])) or 'nothing'}: name a checkpoint of FOMM, TPS or face-vid2vid"
        )
    parts = [part for part in (*kind.parts, *kind.extras) if part in found]
    for part in parts:
        tensors = checkpoint[part]
        if not isinstance(tensors, dict) or not all(
            isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in tensors.items()
        ):
            raise KinecastError(f"{path}: expected {part} to be a state dict of tensors, found other values in it")
    state = {
        f"{part}.{key}": tensor.float() if tensor.is_floating_point() else tensor
        for part in parts
        for key, tensor in _unwrapped(path, checkpoint[part]).items()
    }
    _check_finite(path, state)
    extras: dict[str, Any] = {"frame_size": (frame_size, frame_size)}
    if kind.corners:
        extras["align_corners"] = True if align_corners is None else align_corners
    elif align_corners is not None:
        raise KinecastError(f"{path}: expected align_corners for a FOMM only, found a {kind.title}: drop it")
    return _build(path, name, state, extras)


def _parts(path: Path, checkpoint: Any) -> Any:
    """Return state dicts by part, also for a checkpoint that is, or holds, a single state dict of the whole network."""
    if not isinstance(checkpoint, dict) or not all(isinstance(name, str) for name in checkpoint):
        return checkpoint
    inner = next((checkpoint[name] for name in _HOLDERS if isinstance(checkpoint.get(name), dict)), None)
    if inner is not None and not any(part in checkpoint for kind in _PUBLISHED.values() for part in kind.parts):
        return _parts(path, inner)
    checkpoint = _unwrapped(path, checkpoint)
    if not all(isinstance(value, Tensor) and "." in name for name, value in checkpoint.items()):
        return checkpoint
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in checkpoint.items():
        part, _, key = name.partition(".")
        parts.setdefault(part, {})[key] = tensor
    return parts


def _unwrapped(path: Path, state: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return without_wrappers(state)
    except KinecastError as error:
        raise KinecastError(f"{path}: {error}") from error


def _build(path: Path, name: str, state: Mapping[str, Tensor], extras: Mapping[str, Any]) -> Backbone:
    try:
        return BACKBONES[name].from_state_dict(state, extras)
    except KinecastError as error:
        raise KinecastError(f"{path}: {error}") from error
    except RuntimeError as error:  # load_state_dict lists missing and unexpected tensors, one per line
        raise KinecastError(f"{path}: {one_line(error)}") from error


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise KinecastError(f"{path}: expected finite weights, found NaN or infinity in {bad[0]}: get the file again")


__all__ = ["Backbone", "import_published", "load_backbone_file", "read_safetensors", "save_backbone"]
