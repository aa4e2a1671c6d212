"""The `fast` engine: folded parts, run by torch. Each backbone that it can run has an entry in `FAST`."""

from collections.abc import Callable
from typing import Any

from kinecast.errors import KinecastError
from kinecast.machine.processor import processor
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.models.mesh.model import Mesh
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.fomm import EngineFOMM
from kinecast.runtime.mesh import FastMesh
from kinecast.runtime.parts import folded_parts

# How a backbone of a class is run, at a precision.
FAST: dict[type[Backbone], Callable[[Any, str], Backbone]] = {
    FOMM: lambda model, precision: EngineFOMM(model, folded_parts(model, precision), "fast", precision),
    Mesh: FastMesh,
}


def build_fast(model: Backbone, precision: str) -> Backbone:
    """Fold a backbone on the CPU.

    Raises:
        KinecastError: another backbone or another device, or a processor without bfloat16.
    """
    check_fast(model, precision)
    return FAST[type(model)](model, precision)


def check_fast(model: Backbone, precision: str) -> None:
    """Check that this engine can run a model here.

    Raises:
        KinecastError: as `build_fast`.
    """
    if type(model) not in FAST:
        able = " or ".join(kind.name for kind in FAST)
        raise KinecastError(f"engine fast: expected a {able}, found {model.name}: use engine eager or auto")
    needs_cpu(model, "fast")
    if precision == "bf16":
        needs_bfloat16()


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
    needs_cpu(model, engine)
    return model


def needs_cpu(model: Backbone, engine: str) -> None:
    """Check that a model is on the CPU.

    Raises:
        KinecastError: it is elsewhere.
    """
    if model.device.type != "cpu":
        raise KinecastError(f"engine {engine}: expected device cpu, found {model.device}: use engine eager or auto")
