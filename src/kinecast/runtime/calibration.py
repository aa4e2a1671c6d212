"""int8: a part's ranges are measured on frames like those it will draw, and its weights and features quantised.

By NNCF's post-training quantisation: weights with one scale a channel, features with one scale a tensor, biases
corrected. Which part, and what of it stays as it is, the backbone says in its `Offer`.
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
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.files import atomic_path
from kinecast.machine.openvino import openvino
from kinecast.models.base import Backbone
from kinecast.packages import optional
from kinecast.runtime.compiled import converted, needs_quantised, quantised_path
from kinecast.runtime.fast import needs_offer
from kinecast.runtime.offers import Offer, plain

_SOURCE_EVERY = 64  # frames after which another source is taken, so that not one face gives all ranges


def calibrate(model: Backbone, frames: Iterable[Tensor], limit: int = 300) -> Path:
    """Quantise a part of a backbone and keep it; `load_backbone(..., engine="openvino", precision="int8")` finds it.

    Args:
        model: plain torch or an engine's.
        frames: batches (B, 3, H, W) in [0, 1] of the user's clips, as `kinecast.media.video.read_batches` gives them.
        limit: frames to use; 100 to 300 are enough.

    Returns:
        The quantised network's file. Made anew if it was there.

    Raises:
        KinecastError: the extra is missing, a backbone that has no such part, or no frames.
    """
    network = plain(model)
    offer = needs_offer(network, "openvino")
    part = needs_quantised(network, offer)
    nncf, package = _nncf(), openvino()
    inputs = part_inputs(network, offer, part, frames, limit)
    if not inputs:
        raise KinecastError("calibration: expected at least one frame, found none: name a clip that can be read")
    whole = package.Core().read_model(converted(network, offer) / f"{part}.xml")
    with redirect_stdout(sys.stderr):  # its progress: stdout is for results
        quantised = nncf.quantize(
            whole,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(patterns=list(offer.full), types=list(offer.full_types), validate=False),
        )
    path = quantised_path(network, part)
    with atomic_path(path.with_suffix(".bin")) as temporary:
        package.save_model(quantised, temporary.with_suffix(".xml"), compress_to_fp16=False)
        temporary.with_suffix(".xml").replace(path)
    path.with_suffix(".json").write_text(json.dumps({"frames": len(inputs), "nncf": nncf.__version__}) + "\n")
    return path


class _Watched(nn.Module):
    """A part that keeps what it is given."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part
        self.seen: list[list[np.ndarray]] = []

    def forward(self, *inputs: Tensor) -> Any:
        for frame in zip(*(maps.split(1) for maps in inputs), strict=True):
            self.seen.append([maps.contiguous().numpy() for maps in frame])
        return self.part(*inputs)


@torch.inference_mode()
def part_inputs(
    model: Backbone, offer: Offer, part: str, frames: Iterable[Tensor], limit: int
) -> list[list[np.ndarray]]:
    """Return what a part is given for up to `limit` frames, each animated from an earlier one: (1, C, h, w) each."""
    parts = dict(offer.fold(model, "exact", True))
    watched = parts[part] = _Watched(parts[part])
    backbone = offer.run(model, parts)
    follow = backbone.follow()
    started: tuple[Any, Any] | None = None
    for batch in frames:
        batch = batch[: limit - len(watched.seen)]
        motion = follow(batch)
        if started is None or len(watched.seen) % _SOURCE_EVERY < len(batch):
            try:
                started = backbone.encode_source(batch[:1]), motion[:1]
            except KinecastError:  # no face in it, where one is needed: an earlier source serves on
                if started is None:
                    continue
        state, own = started
        backbone.animate(state, own, motion)
        if len(watched.seen) >= limit:
            break
    return watched.seen


def _nncf() -> Any:
    with redirect_stdout(sys.stderr):  # its log takes the stdout that it finds
        nncf = optional("calibration", "nncf")
    logging.getLogger("nncf").setLevel(logging.WARNING)
    return nncf
