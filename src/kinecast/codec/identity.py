"""Which weights a stream was made with: motion of one model means nothing to another."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

_COUNTERS = "num_batches_tracked"  # of batch norms: decides nothing at inference


def model_identity(state: Mapping[str, Any]) -> bytes:
    """Return the sha256 (32 bytes) of a state dict: names, shapes and float32 values, whatever file they were in.

    `state` maps names to arrays or tensors on any device; their order does not matter.
    """
    digest = hashlib.sha256(b"kinecast model 1\n")
    for name in sorted(state):
        if name.endswith(_COUNTERS):
            continue
        value = state[name]
        if hasattr(value, "detach"):
            value = value.detach().cpu().float().numpy()  # bfloat16 has no numpy type
        array = np.ascontiguousarray(value, dtype="<f4")
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()
