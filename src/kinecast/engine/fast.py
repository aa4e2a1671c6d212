"""The `fast` engine: folded parts, run by torch."""

from kinecast.backbones.base import Backbone
from kinecast.backbones.fomm import FOMM
from kinecast.engine.convolution import bfloat16_available
from kinecast.engine.fomm import EngineFOMM
from kinecast.engine.machine import processor
from kinecast.engine.parts import folded_parts
from kinecast.errors import KinecastError


def build_fast(model: Backbone, precision: str) -> EngineFOMM:
    """Fold a FOMM on the CPU.

    Raises:
        KinecastError: another backbone or another device, or a processor without bfloat16.
    """
    model = check_fast(model, precision)
    return EngineFOMM(model, folded_parts(model, precision), "fast", precision)


def check_fast(model: Backbone, precision: str) -> FOMM:
    """Return the model if this engine can run it here.

    Raises:
        KinecastError: as `build_fast`.
    """
    model = needs_fomm_on_cpu(model, "fast")
    if precision == "bf16":
        needs_bfloat16()
    return model


def needs_bfloat16() -> None:
    """Check that the processor has bfloat16 convolutions. OpenVINO would compute in float32 without a word.

    Raises:
        KinecastError: it has none.
    """
    if not bfloat16_available():
        raise KinecastError(
            f"precision bf16: expected a processor with AVX-512 or AMX, found {processor()}: use precision exact"
        )


def needs_fomm_on_cpu(model: Backbone, engine: str) -> FOMM:
    """Return the model if these engines can run it.

    Raises:
        KinecastError: another backbone or another device.
    """
    if not isinstance(model, FOMM):
        raise KinecastError(f"engine {engine}: expected a fomm, found {model.name}: use engine eager or auto")
    if model.device.type != "cpu":
        raise KinecastError(f"engine {engine}: expected device cpu, found {model.device}: use engine eager or auto")
    return model
