"""The `openvino` engine: a backbone's parts compiled by OpenVINO, the algebra between them float32 in torch.

| precision | exact parts | other parts | the quantised part |
|---|---|---|---|
| exact | float32 | float32 | float32 |
| bf16 | float32 | bfloat16 | bfloat16 |
| int8 | float32, by `fast` | bfloat16, by `fast` | int8 (`kinecast.runtime.calibration`), the rest of it bfloat16 |

With int8 only the quantised part is OpenVINO's: for the others the packed kernels of `fast` took less time. Where the
processor has no bfloat16, float32 takes its place beside int8.
Conversion takes seconds and is kept in the cache folder, under the identity of the weights.
"""

from importlib.metadata import version
from pathlib import Path

from torch import Tensor, nn

from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError
from kinecast.machine.cache import cache_folder, key_of
from kinecast.machine.openvino import CompiledPart, openvino, stored
from kinecast.models.base import Backbone
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.fast import needs_bfloat16, needs_offer
from kinecast.runtime.offers import Offer

_VERSION = 3  # of the parts: raise it when they change


def build_openvino(model: Backbone, precision: str) -> Backbone:
    """Compile a backbone for the CPU; converts it first if the cache does not hold it.

    Raises:
        KinecastError: the extra is missing, a backbone that offers no parts, another device, bf16 on a processor
            without it, int8 that was not calibrated.
    """
    offer = check_openvino(model, precision)
    parts = _quantised(model, offer) if precision == "int8" else _compiled(model, offer, precision)
    engined = offer.run(model, parts)
    engined.engine, engined.precision, engined.reason = "openvino", precision, "requested"
    return engined


def check_openvino(model: Backbone, precision: str) -> Offer:
    """Return what a model offers if this engine can run it here.

    Raises:
        KinecastError: as `build_openvino`.
    """
    offer = needs_offer(model, "openvino")
    openvino()
    if precision == "bf16":
        needs_bfloat16()
    if precision == "int8" and not quantised_path(model, needs_quantised(model, offer)).exists():
        raise KinecastError(
            "precision int8: expected a calibrated model, found none for these weights: calibrate it on your clips "
            "with `kinecast benchmark --calibrate CLIP` or kinecast.runtime.calibration.calibrate"
        )
    return offer


def needs_quantised(model: Backbone, offer: Offer) -> str:
    """Return the part that int8 is for.

    Raises:
        KinecastError: there is none.
    """
    if offer.quantised is None:
        raise KinecastError(
            f"precision int8: expected a backbone with a part to quantise, found {model.name}: use bf16"
        )
    return offer.quantised


def _compiled(model: Backbone, offer: Offer, precision: str) -> dict[str, nn.Module]:
    folder, hint = converted(model, offer), "bf16" if precision == "bf16" else "f32"
    return {
        name: CompiledPart(folder / f"{name}.xml", "f32" if part.exact else hint, part.single)
        for name, part in offer.parts.items()
    }


def _quantised(model: Backbone, offer: Offer) -> dict[str, nn.Module]:
    precision, hint = ("bf16", "bf16") if bfloat16_available() else ("exact", "f32")
    name = needs_quantised(model, offer)
    compiled = CompiledPart(quantised_path(model, name), hint, offer.parts[name].single)
    return {**offer.fold(model, precision, True), name: compiled}


def converted(model: Backbone, offer: Offer) -> Path:
    """Return the folder with the model's parts as OpenVINO IR, converting them if they are not there."""

    def parts() -> dict[str, tuple[nn.Module, list[Tensor]]]:
        found, examples = offer.fold(model, "exact", False), offer.examples(model)
        return {name: (found[name], list(examples[name].values())) for name in offer.parts}

    return stored(model_folder(model), tuple(offer.parts), parts)


def model_folder(model: Backbone) -> Path:
    """Return where the cache keeps what is made of these weights by this version of OpenVINO."""
    return (
        cache_folder() / "openvino" / key_of(_VERSION, version("openvino"), model_identity(model).hex(), model.config)
    )


def quantised_path(model: Backbone, part: str) -> Path:
    """Return where the part of these weights is in int8, or would be."""
    return model_folder(model) / f"{part}-int8.xml"
