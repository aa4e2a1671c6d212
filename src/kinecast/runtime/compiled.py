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

import tempfile
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError, one_line
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.packages import optional
from kinecast.runtime.cache import cache_folder, key_of
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.fast import needs_bfloat16, needs_fomm_on_cpu
from kinecast.runtime.fomm import EngineFOMM
from kinecast.runtime.machine import processor
from kinecast.runtime.parts import Parts, folded_parts

PARTS = ("detector", "encoder", "hourglass", "renderer")
_VERSION = 2  # of the parts: raise it when they change

_Sizes = tuple[tuple[int, ...], ...]  # channels, height, width of each input


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


def openvino() -> Any:
    """Import OpenVINO.

    Raises:
        KinecastError: it is not installed.
    """
    return optional("engine openvino", "openvino")


class CompiledPart:
    """One part, compiled for each size of input when it first comes. Frames of a batch run one by one.

    Args:
        path: the part as OpenVINO IR.
        hint: "f32" or "bf16".
        single: whether it returns one tensor, not a tuple.
    """

    def __init__(self, path: Path, hint: str, single: bool = False) -> None:
        self.path, self.hint, self.single = path, hint, single
        self._compiled: dict[_Sizes, Any] = {}
        self._own = threading.local()  # requests hold buffers: each thread has its own

    def __call__(self, *inputs: Tensor) -> Any:
        """Run inputs (B, C, h, w); returns a tensor, or a tuple of tensors."""
        request = self._request(tuple(tuple(x.shape[1:]) for x in inputs))
        frames = []
        for frame in zip(*(x.split(1) for x in inputs), strict=True):
            arrays = [np.ascontiguousarray(x.numpy()) for x in frame]
            result = request.infer(arrays, share_inputs=True, share_outputs=True)
            frames.append([torch.from_numpy(values).clone() for values in result.values()])  # the next run overwrites
        outputs = tuple(torch.cat(tensors) for tensors in zip(*frames, strict=True))
        return outputs[0] if self.single else outputs

    def _request(self, sizes: _Sizes) -> Any:
        requests = self._own.__dict__.setdefault("requests", {})
        if sizes not in requests:
            if sizes not in self._compiled:
                self._compiled[sizes] = self._compile(sizes)
            requests[sizes] = self._compiled[sizes].create_infer_request()
        return requests[sizes]

    def _compile(self, sizes: _Sizes) -> Any:
        core = openvino().Core()
        model = core.read_model(self.path)
        model.reshape({i: (1, *size) for i, size in enumerate(sizes)})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self.hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # Otherwise threads of every process that has one are bound to the first core, and share it.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            return core.compile_model(model, "CPU", settings)
        except RuntimeError as error:  # it has no kernel for a layer on this processor
            raise KinecastError(
                f"engine openvino: expected to compile {self.path.stem} for {processor()}, found "
                f"{one_line(error)}: use engine fast or auto"
            ) from error


def converted(model: FOMM) -> Path:
    """Return the folder with the model's four parts as OpenVINO IR, converting them if they are not there."""

    def parts() -> dict[str, tuple[nn.Module, list[Tensor]]]:
        found = folded_parts(model, native=False)
        return {part: (getattr(found, part), example_inputs(model, part)) for part in PARTS}

    return stored(model_folder(model), PARTS, parts)


def stored(folder: Path, names: Sequence[str], make: Callable[[], dict[str, tuple[nn.Module, list[Tensor]]]]) -> Path:
    """Return a folder with networks as OpenVINO IR, converting them if they are not there.

    Args:
        folder: where they are kept.
        names: of the networks, and their files.
        make: what gives each network, by name, and example inputs.
    """
    if all((folder / f"{name}.xml").exists() for name in names):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name, (network, examples) in make().items():
            _convert(network, examples, Path(temporary) / f"{name}.xml")
        for name in names:  # weights before the description: a half-moved part is not taken for a whole one
            for suffix in (".bin", ".xml"):
                (Path(temporary) / name).with_suffix(suffix).replace((folder / name).with_suffix(suffix))
    return folder


def _convert(network: nn.Module, examples: list[Tensor], path: Path) -> None:
    package = openvino()
    # number and size of pictures are left open; of anything else only the number is
    shapes = [(-1, x.shape[1], *((-1,) * 2 if x.ndim == 4 else x.shape[2:])) for x in examples]
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # tracing tells of branches on shapes, which are the same for every size
        converted_network = package.convert_model(network, example_input=tuple(examples), input=shapes)
    package.save_model(converted_network, path, compress_to_fp16=False)


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
