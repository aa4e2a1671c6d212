"""Engines for backbones: one contract, several engines, each within a stated tolerance of plain torch.

| engine | precisions | what |
|---|---|---|
| eager | exact | the network as written, plain torch, any device |
| fast | exact, bf16 | folded and rewritten convolutions, motion algebra in fewer passes (CPU) |
| openvino | exact, bf16, int8 | the parts compiled by OpenVINO, motion algebra as in fast (CPU, extra `engine`) |

Coordinates are never computed in less than float32: detector, heads of heatmaps and motion algebra are exact always.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinecast.machine.engines import ENGINES, PRECISIONS, SUPPORTED, check

if TYPE_CHECKING:
    from kinecast.models.base import Backbone


@dataclass(frozen=True)
class Tolerance:
    """Tolerance of frames in [0, 1] against plain torch: the largest and the mean absolute difference."""

    largest: float
    mean: float


TOLERANCES = {
    "exact": Tolerance(1e-3, 1e-4),
    "bf16": Tolerance(1.0, 1 / 255),  # one pixel at an edge may differ; the mean must stay below half a grey level
    "int8": Tolerance(1.0, 2 / 255),
}


def accelerate(model: "Backbone", engine: str = "auto", precision: str = "exact") -> "Backbone":
    """Return a backbone of the same contract and weights, run by an engine.

    Args:
        model: as loaded; of one that an engine runs already, its plain model is taken.
        engine: one of `ENGINES`; "auto" measures what there is and takes the fastest within the tolerance.
        precision: one of `PRECISIONS`, the least that is wanted.

    Raises:
        KinecastError: a pair that does not exist, an extra that is missing, a device or a backbone without this engine,
            int8 without calibration.
    """
    from kinecast.runtime.offers import plain

    check(engine, precision)
    model = plain(model)
    if engine == "auto":
        from kinecast.runtime.auto import choose

        return choose(model, precision)
    return builder(engine)(model, precision)


def builder(engine: str) -> "Callable[[Backbone, str], Backbone]":
    """Return the function that builds a backbone's engine, by name."""
    if engine == "eager":
        return lambda model, precision: model
    if engine == "fast":
        from kinecast.runtime.fast import build_fast

        return build_fast
    from kinecast.runtime.compiled import build_openvino

    return build_openvino


def check_able(engine: str, model: "Backbone", precision: str) -> None:
    """Check that an engine can run a model at a precision on this machine, without building anything.

    Raises:
        KinecastError: it cannot, and why.
    """
    if engine == "fast":
        from kinecast.runtime.fast import check_fast

        check_fast(model, precision)
    elif engine == "openvino":
        from kinecast.runtime.compiled import check_openvino

        check_openvino(model, precision)


__all__ = [
    "ENGINES",
    "PRECISIONS",
    "SUPPORTED",
    "TOLERANCES",
    "Tolerance",
    "accelerate",
    "builder",
    "check",
    "check_able",
]
