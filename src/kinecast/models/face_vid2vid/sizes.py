"""Sizes of a face-vid2vid, inferred from its tensors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kinecast.models.blocks.layers import AntiAliasDownsample
from kinecast.models.blocks.states import count_blocks, hourglass_sizes, sizes_of
from kinecast.models.face_vid2vid.config import GeneratorConfig


def infer_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read a face-vid2vid's sizes from its tensors.

    Raises:
        KinecastError: a tensor that every face-vid2vid has is missing.
    """
    with sizes_of("face-vid2vid"):
        generator, dense = "generator", "generator.dense_motion_network"
        return {
            "num_keypoints": len(state["kp_detector.kp.bias"]),
            "detector": _detector_sizes(state),
            "head_pose": {
                "width": len(state["he_estimator.conv1.bias"]),
                "bins": len(state["he_estimator.fc_yaw.bias"]),
                "blocks": tuple(count_blocks(state, f"he_estimator.block{i}.b{i}_") for i in (1, 3, 5, 7)),
            },
            "dense_motion": {
                **hourglass_sizes(state, f"{dense}.hourglass"),
                "compress": len(state[f"{dense}.compress.bias"]),
            },
            "generator": _generator_sizes(state, generator),
        }


def _detector_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    prefix = "kp_detector.predictor"
    blocks = count_blocks(state, f"{prefix}.down_blocks.")
    widths = [len(state[f"{prefix}.down_blocks.down{i}.conv.bias"]) for i in range(blocks)]
    return {
        "block_expansion": len(state[f"{prefix}.up_blocks.up{blocks - 1}.conv.bias"]),
        "num_blocks": blocks,
        "max_features": max(widths),
        "depth": len(state[f"{prefix}.conv.bias"]) // widths[-1],
        "scale_factor": AntiAliasDownsample.scale_of(state.get("kp_detector.down.weight")),
    }


def _generator_sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    downs = count_blocks(state, f"{prefix}.down_blocks.")
    first = len(state[f"{prefix}.first.conv.bias"])
    widths = [first, *(len(state[f"{prefix}.down_blocks.{i}.conv.bias"]) for i in range(downs))]
    lifted = len(state[f"{prefix}.second.bias"])
    hidden = state.get(f"{prefix}.decoder.up_0.norm_0.mlp_shared.0.bias")
    # Without blocks in the volume, the compressing network still determines its channels.
    channels = state[f"{prefix}.dense_motion_network.compress.weight"].shape[1]
    spade = None if hidden is None else len(hidden)
    side = state[f"{prefix}.first.conv.weight"].shape[-1]
    return {
        "block_expansion": first,
        "max_features": max(widths),
        "num_down_blocks": downs,
        "channels": channels,
        "depth": lifted // channels,
        "volume_blocks": count_blocks(state, f"{prefix}.resblocks_3d."),
        "blocks": count_blocks(state, f"{prefix}.decoder.G_middle_")
        if hidden is not None
        else count_blocks(state, f"{prefix}.resblocks_2d."),
        "spade": spade,
        "first_kernel": None if side == GeneratorConfig(spade=spade).published_side else side,
        "estimate_occlusion": f"{prefix}.dense_motion_network.occlusion.weight" in state,
    }
