"""The identity of a stream's weights: motion of one model means nothing to another.

If a network learned the motion's numbers, only that network can interpret them: the stream's identity is that of the
whole model. If a few tensors define them, as the mean face and basis of `mesh` do, it is that of those tensors: the
network that renders may change.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

_COUNTERS = "num_batches_tracked"  # of batch norms: no effect at inference


class Model(Protocol):
    """The part of a network that determines its identity."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return arrays or tensors by name, on any device."""

    def settings(self) -> Mapping[str, Any]:
        """Return settings that affect results but not tensors, where they differ from the published ones."""


class MotionModel(Model, Protocol):
    """The part of a network that defines the meaning of its motion."""

    def motion_tensors(self) -> Mapping[str, Any] | None:
        """Return the tensors, by name, that define what its numbers mean; None if the whole model does."""


def model_identity(model: Model) -> bytes:
    """Return the sha256 (32 bytes) of a model: names, shapes and float32 values of its tensors, and its settings.

    Neither the order of names nor the file that they were in matters. Settings at their published values add nothing,
    so weights keep their identity when a later version adds a setting.
    """
    digest = hashlib.sha256(b"kinecast model 1\n")
    _add_tensors(digest, model.state_dict())
    for name, value in sorted(model.settings().items()):
        digest.update(f"{name}={json.dumps(value)}\n".encode())
    return digest.digest()


def stream_identity(model: MotionModel) -> bytes:
    """Return the sha256 (32 bytes) of what gives a model's motion its meaning, as in a stream's header.

    It is `model_identity`, unless the model names tensors that define its motion: then it is theirs, without settings.

    Example:
        >>> from kinecast.zoo import load_backbone
        >>> len(stream_identity(load_backbone("mesh")))
        32
    """
    tensors = model.motion_tensors()
    if tensors is None:
        return model_identity(model)
    digest = hashlib.sha256(b"kinecast motion 1\n")
    _add_tensors(digest, tensors)
    return digest.digest()


def _add_tensors(digest: "hashlib._Hash", tensors: Mapping[str, Any]) -> None:
    """Digest names, shapes and float32 values, in order of names."""
    for name in sorted(tensors):
        if name.endswith(_COUNTERS):
            continue
        value = tensors[name]
        if hasattr(value, "detach"):
            value = value.detach().cpu().float().numpy()  # numpy has no bfloat16
        array = np.ascontiguousarray(value, dtype="<f4")
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
