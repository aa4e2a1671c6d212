"""Sizes of a FOMM, inferred from its tensors."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kinecast.models.blocks.states import count_blocks, hourglass_sizes, sizes_of


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a FOMM's sizes from its tensors.

    Raises:
        KinecastError: a tensor that every FOMM has is missing.
    """
    with sizes_of("FOMM"):
        points = len(state["kp_detector.kp.bias"])
        jacobian = state.get("kp_detector.jacobian.bias")
        dense = "generator.dense_motion_network"
        down_blocks = count_blocks(state, "generator.down_blocks.")
        widths = [len(state[f"generator.down_blocks.{i}.conv.bias"]) for i in range(down_blocks)]
        first, pixels = state["generator.first.conv.weight"].shape[:2]
        return {
            "num_keypoints": points,
            "estimate_jacobian": jacobian is not None,
            "single_jacobian_map": jacobian is not None and len(jacobian) == 4 and points > 1,
            "estimate_occlusion": f"{dense}.occlusion.weight" in state,
            "detector": hourglass_sizes(state, "kp_detector.predictor", "kp_detector.down.weight"),
            "dense_motion": hourglass_sizes(state, f"{dense}.hourglass", f"{dense}.down.weight"),
            "generator": {
                "block_expansion": first,
                "max_features": max([first, *widths]),
                "num_down_blocks": down_blocks,
                "num_bottleneck_blocks": count_blocks(state, "generator.bottleneck."),
                "shuffle": math.isqrt(pixels // 3),
                "skips": "generator.skips.0.weight" in state,
                "num_refine_blocks": count_blocks(state, "generator.refine."),
                "pass_through": len(state.get("generator.final.bias", ())) > pixels,
            },
        }
