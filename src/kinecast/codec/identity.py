"""Which weights a stream was made with: motion of one model means nothing to another."""

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


def model_identity(model: Model) -> bytes:
    """Return the sha256 (32 bytes) of a model: names, shapes and float32 values of its tensors, and its settings.

    Neither the order of names nor the file that they were in matters. A setting that is as published adds nothing, so
    weights keep their identity when a later version has one more setting.
    """
    digest, state = hashlib.sha256(b"kinecast model 1\n"), model.state_dict()
    for name in sorted(state):
        if name.endswith(_COUNTERS):
            continue
        value = state[name]
        if hasattr(value, "detach"):
            value = value.detach().cpu().float().numpy()  # bfloat16 has no numpy type
        array = np.ascontiguousarray(value, dtype="<f4")
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    for name, value in sorted(model.settings().items()):
        digest.update(f"{name}={json.dumps(value)}\n".encode())
    return digest.digest()
