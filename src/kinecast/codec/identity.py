"""Which weights a stream was made with: motion of one model means nothing to another.

Where the numbers of a motion are what a network finds, they mean something to that network only: the identity of a
stream is that of the whole model. Where a few tensors define them, as the mean face and the basis of `mesh` do, it is
that of those tensors: whatever network draws the pictures may change.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

_COUNTERS = "num_batches_tracked"  # of batch norms: decides nothing at inference


class Model(Protocol):
    """A network as far as its identity goes."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return arrays or tensors by name, on any device."""

    def settings(self) -> Mapping[str, Any]:
        """Return what decides its results, leaves no trace in the tensors, and is not as published."""


class MotionModel(Model, Protocol):
    """A network as far as the meaning of its motion goes."""

    def motion_tensors(self) -> Mapping[str, Any] | None:
        """Return the tensors by name that define what its numbers mean; None where the whole model does."""


def model_identity(model: Model) -> bytes:
    """Return the sha256 (32 bytes) of a model: names, shapes and float32 values of its tensors, and its settings.

    Neither the order of names nor the file that they were in matters. A setting that is as published adds nothing, so
    weights keep their identity when a later version has one more setting.
    """
    digest = hashlib.sha256(b"kinecast model 1\n")
    _add_tensors(digest, model.state_dict())
    for name, value in sorted(model.settings().items()):
        digest.update(f"{name}={json.dumps(value)}\n".encode())
    return digest.digest()


def stream_identity(model: MotionModel) -> bytes:
    """Return the sha256 (32 bytes) of what gives a model's motion its meaning: what a stream's header holds.

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
            value = value.detach().cpu().float().numpy()  # bfloat16 has no numpy type
        array = np.ascontiguousarray(value, dtype="<f4")
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
