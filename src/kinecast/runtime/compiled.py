"""The `openvino` engine: the four parts compiled by OpenVINO, the motion algebra between them float32 in torch.

| precision | detector, encoder | hourglass | renderer |
|---|---|---|---|
| exact | float32 | float32 | float32 |
| bf16 | float32 | bfloat16 | bfloat16 |
| int8 | float32, by `fast` | bfloat16, by `fast` | int8 (`kinecast.runtime.calibration`), the rest of it bfloat16 |

With int8 only the renderer is OpenVINO's: for the other parts the packed kernels of `fast` took less time. Where the
processor has no bfloat16, float32 takes its place beside int8.
Conversion takes seconds and is kept in the cache folder, under the identity of the weights.
"""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError
from kinecast.machine.cache import cache_folder, key_of
from kinecast.machine.openvino import CompiledPart, openvino, stored
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.fast import needs_bfloat16, needs_fomm_on_cpu
from kinecast.runtime.fomm import EngineFOMM
from kinecast.runtime.parts import Parts, folded_parts

PARTS = ("detector", "encoder", "hourglass", "renderer")
_VERSION = 2  # of the parts: raise it when they change


def build_openvino(model: Backbone, precision: str) -> EngineFOMM:
    """Compile a FOMM for the CPU; converts it first if the cache does not hold it.

    Raises:
        KinecastError: the extra is missing, another backbone or device, bf16 on a processor without it, int8 that was
            not calibrated.
    """
    model = check_openvino(model, precision)
    if precision == "int8":
        return EngineFOMM(model, _int8_parts(model), "openvino", precision)
    folder, hint = converted(model), "bf16" if precision == "bf16" else "f32"
    parts = Parts(
        CompiledPart(folder / "detector.xml", "f32"),
        CompiledPart(folder / "encoder.xml", "f32"),
        CompiledPart(folder / "hourglass.xml", hint),
        CompiledPart(folder / "renderer.xml", hint, single=True),
    )
    return EngineFOMM(model, parts, "openvino", precision)


def check_openvino(model: Backbone, precision: str) -> FOMM:
    """Return the model if this engine can run it here.

    Raises:
        KinecastError: as `build_openvino`.
    """
    model = needs_fomm_on_cpu(model, "openvino")
    openvino()
    if precision == "bf16":
        needs_bfloat16()
    if precision == "int8" and not quantised_path(model).exists():
        raise KinecastError(
            "precision int8: expected a calibrated model, found none for these weights: calibrate it on your clips "
            "with `kinecast benchmark --calibrate CLIP` or kinecast.runtime.calibration.calibrate"
        )
    return model


def _int8_parts(model: FOMM) -> Parts:
    precision, hint = ("bf16", "bf16") if bfloat16_available() else ("exact", "f32")
    return replace(folded_parts(model, precision), renderer=CompiledPart(quantised_path(model), hint, single=True))


def converted(model: FOMM) -> Path:
    """Return the folder with the model's four parts as OpenVINO IR, converting them if they are not there."""

    def parts() -> dict[str, tuple[nn.Module, list[Tensor]]]:
        found = folded_parts(model, native=False)
        return {part: (getattr(found, part), example_inputs(model, part)) for part in PARTS}

    return stored(model_folder(model), PARTS, parts)


def example_inputs(model: FOMM, part: str) -> list[Tensor]:
    """Return zeros of the shapes that a part takes at the size the weights were trained at."""
    height, width = model.frame_size
    config = model.config
    coarse_to_fine = config.generator.widths[::-1]
    levels = [(channels, config.generator.stride >> i) for i, channels in enumerate(coarse_to_fine)]
    passed = [(3, 1)] if config.generator.pass_through else []
    shapes = {
        "detector": [(3, 1)],
        "encoder": [(3, 1)],
        "hourglass": [(4 * (config.num_keypoints + 1), model.generator.dense_motion_network.down.stride)],
        "renderer": (levels if config.generator.skips else levels[:1]) + passed,
    }[part]
    return [torch.zeros(1, channels, height // stride, width // stride) for channels, stride in shapes]


def model_folder(model: FOMM) -> Path:
    """Return where the cache keeps what is made of these weights by this version of OpenVINO."""
    return (
        cache_folder() / "openvino" / key_of(_VERSION, version("openvino"), model_identity(model).hex(), model.config)
    )


def quantised_path(model: FOMM) -> Path:
    """Return where the int8 renderer of these weights is, or would be."""
    return model_folder(model) / "renderer-int8.xml"
