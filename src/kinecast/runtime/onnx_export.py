"""ONNX files of a backbone's parts, for other run-times.

What is exported: the four parts of a FOMM (`kinecast.runtime.parts`), float32, with any batch, height and width that
the weights take. What is not: the motion algebra between them (inverse 2x2 matrices, heatmaps, the warping of the
source), which is a page of arithmetic in `kinecast.runtime.fomm` that must stay float32, and backbones other than FOMM.
How the warping reads its grid is `align_corners` of the config in `model.json`.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from kinecast.errors import KinecastError
from kinecast.files import atomic_path
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.packages import optional
from kinecast.runtime.compiled import PARTS, example_inputs
from kinecast.runtime.fomm import EngineFOMM
from kinecast.runtime.parts import folded_parts

_OPSET = 18
_SKIPS = [f"skip{i}" for i in range(8)]  # those that a generator has
_INPUTS = {"detector": ["frame"], "encoder": ["source"], "hourglass": ["maps"], "renderer": ["features", *_SKIPS]}
_PASSED = "source_warped"  # the renderer's last input, if the source's pixels are passed through
_OUTPUTS = {
    "detector": ["value", "jacobian"],
    "encoder": ["features", *_SKIPS],
    "hourglass": ["mask", "occlusion"],
    "renderer": ["frame_rendered"],
}


def export_onnx(model: Backbone, folder: str | Path) -> dict[str, Path]:
    """Write `detector.onnx`, `encoder.onnx`, `hourglass.onnx`, `renderer.onnx` and `model.json` (sizes, temperature).

    Returns:
        The files by part.

    Raises:
        KinecastError: another backbone than FOMM, or the extra is missing.
    """
    network = model.model if isinstance(model, EngineFOMM) else model
    if not isinstance(network, FOMM):
        raise KinecastError(f"onnx: expected a fomm, found {model.name}: its parts cannot be exported yet")
    optional("onnx", "onnx")
    parts = folded_parts(network, native=False)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part in PARTS:
        module: Any = getattr(parts, part)
        examples = tuple(example.to(network.device) for example in example_inputs(network, part))
        with torch.inference_mode():
            result = module(*examples)
        inputs = _INPUTS[part][: len(examples)]
        if part == "renderer" and network.config.generator.pass_through:
            inputs[-1] = _PASSED
        names = _OUTPUTS[part][: len(result) if isinstance(result, tuple) else 1]
        path = folder / f"{part}.onnx"
        with atomic_path(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing tells of branches on shapes, which are the same for every size
            torch.onnx.export(
                module,
                examples,
                str(temporary),
                input_names=inputs,
                output_names=names,
                dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in inputs},
                opset_version=_OPSET,
                dynamo=False,
            )
        written[part] = path
    with atomic_path(folder / "model.json") as temporary:
        temporary.write_text(
            json.dumps({"backbone": network.name, "config": network.config.to_dict()}, indent=2) + "\n"
        )
    return written
