"""Sizes of a TPS, inferred from its tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kinecast.models.blocks.states import count_blocks, hourglass_sizes, sizes_of


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a TPS's sizes from its tensors.

    Raises:
        KinecastError: a tensor that every TPS has is missing.
    """
    with sizes_of("TPS"):
        dense = "dense_motion_network"
        downs = count_blocks(state, "inpainting_network.down_blocks.")
        first = len(state["inpainting_network.first.conv.bias"])
        widths = [len(state[f"inpainting_network.down_blocks.{i}.conv.bias"]) for i in range(downs)]
        background, avd = state.get("bg_predictor.bg_encoder.conv1.weight"), None
        if "avd_network.decoder.0.weight" in state:
            widths_of = {
                part: [len(t) for n, t in state.items() if n.startswith(f"avd_network.{part}.") and t.ndim == 2]
                for part in ("id_encoder", "pose_encoder")
            }
            *hidden, identity = widths_of["id_encoder"]
            avd = {"hidden": hidden, "identity": identity, "pose": widths_of["pose_encoder"][-1]}
        return {
            "num_splines": len(state[f"{dense}.maps.bias"]) - 1,
            "detector": len(state["kp_detector.fg_encoder.conv1.weight"]),
            "background": None if background is None else len(background),
            "dense_motion": hourglass_sizes(state, f"{dense}.hourglass", f"{dense}.down.weight"),
            "inpainting": {
                "block_expansion": first,
                "max_features": max([first, *widths]),
                "num_down_blocks": downs,
            },
            "avd": avd,
        }
