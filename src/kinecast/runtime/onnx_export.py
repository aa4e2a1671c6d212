"""ONNX files of a backbone's parts, for other run-times.

What is exported: the parts that a backbone offers to the engines (`kinecast.runtime.offers`), float32, with any batch,
height and width that the weights take. What is not: the algebra between them, which must stay float32 (of a FOMM:
inverse 2x2 matrices, heatmaps, the warping of the source; a page of arithmetic in `kinecast.runtime.fomm`). How the
warping of a FOMM reads its grid is `align_corners` of the config in `model.json`.
"""

import json
import warnings
from pathlib import Path

import torch

from kinecast.files import atomic_path
from kinecast.models.base import Backbone
from kinecast.packages import optional
from kinecast.runtime.offers import no_offer, offer_of, plain

_OPSET = 18


def export_onnx(model: Backbone, folder: str | Path) -> dict[str, Path]:
    """Write each part, of a FOMM `detector.onnx`, `encoder.onnx`, `hourglass.onnx`, `renderer.onnx`, and `model.json`.

    Returns:
        The files by part.

    Raises:
        KinecastError: a backbone that offers no parts, or the extra is missing.
    """
    network = plain(model)
    offer = offer_of(network)
    if offer is None:
        raise no_offer("onnx", model, "its parts cannot be exported yet")
    optional("onnx", "onnx")
    parts, inputs_of = offer.fold(network, "exact", False), offer.examples(network)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for part, known in offer.parts.items():
        module = parts[part]
        inputs = list(inputs_of[part])
        examples = tuple(example.to(network.device) for example in inputs_of[part].values())
        with torch.inference_mode():
            result = module(*examples)
        names = list(known.outputs[: len(result) if isinstance(result, tuple) else 1])
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
