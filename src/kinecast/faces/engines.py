"""How the three networks run: plain torch, torch traced and frozen, or OpenVINO.

Always float32: bfloat16 (OpenVINO) would move the landmarks of the 59 reference pictures by 0.26 pixels of 256 on
average and 1.1 at most, and blendshapes by up to 0.25, to save a millisecond.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.faces.networks import CROP_PIXELS, DETECTOR_PIXELS, BlendshapeNetwork
from kinecast.faces.weights import SHA256, load_blendshapes, load_detector, load_landmarks
from kinecast.machine.cache import cache_folder, key_of
from kinecast.machine.engines import check
from kinecast.machine.openvino import CompiledPart, openvino, stored

# name, loader, and input shape
_PARTS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "detector": (load_detector, (1, 3, DETECTOR_PIXELS, DETECTOR_PIXELS)),
    "landmarks": (load_landmarks, (1, 3, CROP_PIXELS, CROP_PIXELS)),
    "blendshapes": (load_blendshapes, (1, BlendshapeNetwork.points, 2)),
}


@dataclass(frozen=True)
class Networks:
    """The networks, called like the modules of `kinecast.faces.networks`, and the engine that runs them."""

    detector: Callable[[Tensor], Any]
    landmarks: Callable[[Tensor], Any]
    blendshapes: Callable[[Tensor], Any]
    engine: str


def build(device: torch.device, engine: str = "auto") -> Networks:
    """Return the networks on a device.

    Args:
        device: where they run; engines other than eager need the CPU.
        engine: eager, fast (traced and frozen), openvino, or auto: the fastest that is installed, on the CPU.

    Raises:
        KinecastError: an unknown engine, one this device does not support, or a missing extra.
    """
    check(engine, "exact")
    if engine == "auto":
        engine = "eager" if device.type != "cpu" else "openvino" if find_spec("openvino") else "fast"
    if engine == "eager":
        return Networks(**{name: load().to(device) for name, (load, _) in _PARTS.items()}, engine=engine)
    if device.type != "cpu":
        raise KinecastError(f"engine {engine}: expected device cpu, found {device}: use engine eager or auto")
    return Networks(**(_traced() if engine == "fast" else _compiled()), engine=engine)


@torch.inference_mode()
def _traced() -> dict[str, Callable[[Tensor], Any]]:
    found: dict[str, Callable[[Tensor], Any]] = {}
    for name, (load, shape) in _PARTS.items():
        network, example = load(), torch.zeros(shape)
        if example.ndim == 4:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            example = example.contiguous(memory_format=torch.channels_last)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            found[name] = torch.jit.freeze(torch.jit.trace(network, example, check_trace=False))
    return found


def _compiled() -> dict[str, Callable[[Tensor], Any]]:
    openvino()
    folder = cache_folder() / "openvino" / key_of("faces", version("openvino"), SHA256)
    stored(folder, tuple(_PARTS), lambda: {name: (load(), [torch.zeros(s)]) for name, (load, s) in _PARTS.items()})
    return {name: CompiledPart(folder / f"{name}.xml", "f32", single=name == "blendshapes") for name in _PARTS}
