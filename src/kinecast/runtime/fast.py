"""The `fast` engine: folded parts, run by torch."""

from kinecast.errors import KinecastError
from kinecast.machine.processor import processor
from kinecast.models.base import Backbone
from kinecast.runtime.convolution import bfloat16_available
from kinecast.runtime.offers import Offer, no_offer, offer_of


def build_fast(model: Backbone, precision: str) -> Backbone:
    """Fold a backbone on the CPU.

    Raises:
        KinecastError: a backbone that offers no parts, another device, or a processor without bfloat16.
    """
    offer = check_fast(model, precision)
    engined = offer.run(model, offer.fold(model, precision, True))
    engined.engine, engined.precision, engined.reason = "fast", precision, "requested"
    return engined


def check_fast(model: Backbone, precision: str) -> Offer:
    """Return what a model offers if this engine can run it here.

    Raises:
        KinecastError: as `build_fast`.
    """
    offer = needs_offer(model, "fast")
    if precision == "bf16":
        needs_bfloat16()
    return offer


def needs_bfloat16() -> None:
    """Check that the processor has bfloat16 convolutions. OpenVINO would compute in float32 without a word.

    Raises:
        KinecastError: it has none.
    """
    if not bfloat16_available():
        raise KinecastError(
            f"precision bf16: expected a processor with AVX-512 or AMX, found {processor()}: use precision exact"
        )


def needs_offer(model: Backbone, engine: str) -> Offer:
    """Return what a model offers to the engines of the CPU.

    Raises:
        KinecastError: nothing, or it is on another device.
    """
    offer = offer_of(model)
    if offer is None:
        raise no_offer(f"engine {engine}", model, "use engine eager or auto")
    if model.device.type != "cpu":
        raise KinecastError(f"engine {engine}: expected device cpu, found {model.device}: use engine eager or auto")
    return offer
