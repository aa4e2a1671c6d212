"""Small networks of the published designs, their weights by rule, and what they give: golden vectors for everyone.

The weights are not stored: each tensor is drawn from its own name, by the rule of the shared reference folder
(`fill.py`), with which the published networks too were run. Those vectors are of 256x256 and megabytes; these are of
the same depths, kernels and constants at an eighth of the widths. `tests/golden/make_backbones.py` writes them, and
only where the full networks agree with the published ones.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.models import FOMM, TPS, Backbone, FaceVid2Vid
from kinecast.models.face_vid2vid import FaceVid2VidConfig
from kinecast.models.fomm import FOMMConfig
from kinecast.models.tps import TPSConfig

_SIDE = 128
_VALUES = 128  # kept of each output, evenly spaced
_POWER_ITERATIONS = 30

_HOURGLASS = {"num_blocks": 5, "max_features": 128}
_FOMM = {
    "frame_size": (_SIDE, _SIDE),
    "detector": {**_HOURGLASS, "block_expansion": 4, "scale_factor": 0.25},
    "dense_motion": {**_HOURGLASS, "block_expansion": 8, "scale_factor": 0.25},
    "generator": {"block_expansion": 8, "max_features": 64, "num_down_blocks": 2, "num_bottleneck_blocks": 6},
}
_TPS = {
    "frame_size": (_SIDE, _SIDE),
    "detector": 8,
    "background": 8,
    "dense_motion": {**_HOURGLASS, "block_expansion": 8, "scale_factor": 0.25},
    "inpainting": {"block_expansion": 8, "max_features": 64, "num_down_blocks": 3},
    "avd": {"hidden": (32, 64, 128), "identity": 16, "pose": 16},
}
_FACE = {
    "frame_size": (_SIDE, _SIDE),
    "detector": {**_HOURGLASS, "block_expansion": 4, "depth": 16, "scale_factor": 0.25},
    "head_pose": {"width": 8, "bins": 66, "blocks": (3, 3, 5, 2)},
    "dense_motion": {**_HOURGLASS, "block_expansion": 4, "compress": 4},
    "generator": {"block_expansion": 8, "max_features": 64, "channels": 8, "spade": 16},
}
_ORIGINAL = {**_FACE, "generator": {"block_expansion": 8, "max_features": 64, "channels": 8, "spade": None}}

NETWORKS: dict[str, Callable[[], Backbone]] = {
    "fomm": lambda: FOMM(FOMMConfig.from_dict(_FOMM)),
    "fomm-single-map": lambda: FOMM(FOMMConfig.from_dict({**_FOMM, "single_jacobian_map": True})),
    "fomm-corners-aligned": lambda: FOMM(FOMMConfig.from_dict({**_FOMM, "align_corners": True})),
    "tps": lambda: TPS(TPSConfig.from_dict(_TPS)),
    "face-vid2vid": lambda: FaceVid2Vid(FaceVid2VidConfig.from_dict(_FACE)),
    "face-vid2vid-original": lambda: FaceVid2Vid(FaceVid2VidConfig.from_dict(_ORIGINAL)),
}


def network(name: str) -> Backbone:
    """Return a network of `NETWORKS` with its weights."""
    model = NETWORKS[name]()
    model.load_state_dict(by_rule(model.name, model.state_dict()))
    return model.eval()


def by_rule(kind: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return every tensor of a state dict drawn from its name; kernels that no training changes stay."""
    arrays = {name: _drawn(name, tuple(tensor.shape)) for name, tensor in state.items()}
    for name in arrays:
        if name.endswith("weight_orig"):
            stem = name.removesuffix("_orig")
            arrays[f"{stem}_u"], arrays[f"{stem}_v"] = _singular_vectors(arrays[name])
    _tame(kind, arrays)
    return {
        name: tensor.clone() if name.endswith("down.weight") else torch.from_numpy(arrays[name])
        for name, tensor in state.items()
    }


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    random, flat = np.random.RandomState(zlib.crc32(name.encode())), len(shape) <= 1
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("running_mean"):
        values = 0.05 * random.standard_normal(shape)
    elif name.endswith("running_var"):
        values = 1 + 0.1 * random.random_sample(shape)
    elif flat and name.endswith("bias"):
        values = 0.02 * random.standard_normal(shape)
    elif flat:
        values = 1 + 0.1 * random.standard_normal(shape)
    else:
        values = random.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:]))
    return np.asarray(values, np.float32)


def _singular_vectors(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    matrix = kernel.astype(np.float64).reshape(len(kernel), -1)
    u = np.full(len(matrix), len(matrix) ** -0.5)
    for _ in range(_POWER_ITERATIONS):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    return u.astype(np.float32), v.astype(np.float32)


def _tame(kind: str, arrays: dict[str, np.ndarray]) -> None:
    """Bring the few tensors that decide points and poses into the range that training gives them."""
    factors = {
        "fomm": {"kp_detector.kp": 0.5, "kp_detector.jacobian": 0.2},
        "tps": {"kp_detector.fg_encoder.fc": 0.05, "bg_predictor.bg_encoder.fc": 0.01},
        "face-vid2vid": {
            **{f"he_estimator.fc_{head}": 0.05 for head in ("yaw", "pitch", "roll")},
            **{f"he_estimator.fc_{head}": 0.0005 for head in ("t", "exp")},
        },
    }[kind]
    for layer, factor in factors.items():
        if f"{layer}.weight" in arrays:
            arrays[f"{layer}.weight"] *= np.float32(factor)
    if "kp_detector.jacobian.bias" in arrays:
        bias = arrays["kp_detector.jacobian.bias"]
        bias += np.tile(np.array([1, 0, 0, 1], np.float32), bias.size // 4)
    if "bg_predictor.bg_encoder.fc.bias" in arrays:
        arrays["bg_predictor.bg_encoder.fc.bias"] = np.array([1, 0, 0, 0, 1, 0], np.float32)


def images() -> Tensor:
    """Return a source and a driving picture (2, 3, 128, 128): waves of three colours, the second a little further."""
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    pictures = []
    for shift in (0.0, 0.07):
        waves = [np.sin(7 * (x - shift) + a) * np.cos(5 * y + 2 * a + shift) for a in (0.0, 1.0, 2.0)]
        blob = np.exp(-((x - 0.4 - shift) ** 2 + (y - 0.5) ** 2) / 0.02)
        pictures.append(0.5 + 0.25 * np.stack(waves) + 0.25 * blob * np.array([1, -1, 0.5])[:, None, None])
    return torch.from_numpy(np.stack(pictures).astype(np.float32))


@torch.inference_mode()
def outputs(model: Any) -> dict[str, Tensor]:
    """Return what a network makes of `images`, by name: motion, dense motion and the picture."""
    source, driving = images().split(1)
    moved, still = model.detect(driving), model.detect(source)
    motions = {"source": still, "driving": moved}
    found = {f"{who}_{part}": t for who, motion in motions.items() for part, t in motion.components.items()}
    state = model.encode_source(source)
    found["prediction"] = model.animate(state, still, moved)
    dense = _dense(model, state, source, driving)
    return found | {name: t for name, t in dense.items() if t is not None}


def _dense(model: Any, state: Any, source: Tensor, driving: Tensor) -> dict[str, Tensor | None]:
    if isinstance(model, FOMM):
        points = model.kp_detector(driving), model.kp_detector(source)
        motion: Any = model.generator.dense_motion_network(state.small_image, *points)
        return {"deformation": motion.deformation, "mask": motion.mask, "occlusion": motion.occlusion_map}
    if isinstance(model, TPS):
        points = model.kp_detector(driving), model.kp_detector(source)
        background = model.background(source, driving)
        prediction, motion = model(source, *points, background)
        occlusion = {f"occlusion_{i}": maps for i, maps in enumerate(motion.occlusion_maps)}
        avd = model.avd_motion(model.detect(source), model.detect(driving)).components["value"]
        dense = {"deformation": motion.deformation, "mask": motion.contribution_maps, "background": background}
        return {**dense, **occlusion, "prediction_with_background": prediction, "avd": avd}
    return {"canonical": state.canonical, "volume": state.volume, "compressed": state.compressed}


def names_of(state: Mapping[str, Any]) -> str:
    """Return the sha256 of the names and shapes in a state dict, whatever their order."""
    lines = sorted(f"{name} {tuple(value.shape)}" for name, value in state.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def parts_of(state: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a state dict by part, as published checkpoints have it."""
    parts: dict[str, dict[str, Any]] = {}
    for name, value in state.items():
        part, rest = name.split(".", 1)
        parts.setdefault(part, {})[rest] = value
    return parts


def sampled(tensor: Tensor) -> np.ndarray:
    """Return some numbers of a tensor, evenly spaced over all of it, and its mean and spread."""
    flat = tensor.flatten().double()
    picked = flat[torch.linspace(0, len(flat) - 1, min(_VALUES, len(flat))).long()]
    return torch.cat([picked, flat.mean()[None], flat.std()[None]]).float().numpy()
