"""int8: the renderer's ranges are calibrated on representative frames, and its weights and features quantised.

By NNCF's post-training quantisation: weights with one scale a channel, features with one scale a tensor, biases
corrected. The sums of the residual blocks are not quantised (that alone takes a third off the error), nor what blends
the warped source in, nor the last convolution, whose errors nothing smooths, and which oneDNN computes wrongly in int8
(as `folded._SAFE_CHANNELS`).
The quantised network is kept beside the converted one, in the cache folder.
"""

import json
import logging
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.files import atomic_path
from kinecast.machine.openvino import openvino
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.packages import optional
from kinecast.runtime.compiled import converted, quantised_path
from kinecast.runtime.fast import needs_fomm_on_cpu
from kinecast.runtime.fomm import EngineFOMM
from kinecast.runtime.parts import Parts, folded_parts

_FINAL = r".*final[./].*Convolution"  # its own or, of the compact generator, the module itself
_SOURCE_EVERY = 64  # frames per source picture, so that the ranges do not come from one face


def calibrate(model: Backbone, frames: Iterable[Tensor], limit: int = 300) -> Path:
    """Quantise the renderer of a FOMM and keep it; `load_backbone(..., engine="openvino", precision="int8")` finds it.

    Args:
        model: plain torch or an engine's.
        frames: batches (B, 3, H, W) in [0, 1] of the user's clips, as `kinecast.media.video.read_batches` gives them.
        limit: frames to use; 100 to 300 are enough.

    Returns:
        The quantised network's file. Made anew if it was there.

    Raises:
        KinecastError: the extra is missing, another backbone, or no frames.
    """
    network = needs_fomm_on_cpu(model.model if isinstance(model, EngineFOMM) else model, "openvino")
    nncf, package = _nncf(), openvino()
    inputs = renderer_inputs(network, frames, limit)
    if not inputs:
        raise KinecastError("calibration: expected at least one frame, found none: name a clip that can be read")
    sums = ["Add", "Subtract", "Multiply"] if network.config.generator.pass_through else ["Add"]
    plain = package.Core().read_model(converted(network) / "renderer.xml")
    with redirect_stdout(sys.stderr):  # its progress: stdout is for results
        quantised = nncf.quantize(
            plain,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(patterns=[_FINAL], types=sums),
        )
    path = quantised_path(network)
    with atomic_path(path.with_suffix(".bin")) as temporary:
        package.save_model(quantised, temporary.with_suffix(".xml"), compress_to_fp16=False)
        temporary.with_suffix(".xml").replace(path)
    path.with_suffix(".json").write_text(json.dumps({"frames": len(inputs), "nncf": nncf.__version__}) + "\n")
    return path


@torch.inference_mode()
def renderer_inputs(model: FOMM, frames: Iterable[Tensor], limit: int) -> list[list[np.ndarray]]:
    """Return the warped features, each (1, C, h, w), of up to `limit` frames, each animated from an earlier one."""
    parts = folded_parts(model)
    seen: list[list[np.ndarray]] = []

    def keep(*features: Tensor) -> Tensor:
        for frame in zip(*(maps.split(1) for maps in features), strict=True):
            seen.append([maps.contiguous().numpy() for maps in frame])
        return torch.zeros(len(features[0]), 3, *features[0].shape[2:])  # nothing is drawn

    watched = EngineFOMM(model, Parts(parts.detector, parts.encoder, parts.hourglass, keep), "fast", "exact")
    state: Any = None
    for batch in frames:
        batch = batch[: limit - len(seen)]
        if state is None or len(seen) % _SOURCE_EVERY < len(batch):
            state, source = watched.encode_source(batch[:1]), watched.detect(batch[:1])
        watched.animate(state, source, watched.detect(batch))
        if len(seen) >= limit:
            break
    return seen


def _nncf() -> Any:
    with redirect_stdout(sys.stderr):  # its log captures stdout at import
        nncf = optional("calibration", "nncf")
    logging.getLogger("nncf").setLevel(logging.WARNING)
    return nncf
