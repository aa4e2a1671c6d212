"""What a backbone offers to the engines: its parts, and what runs them. A backbone of your own is registered here.

A part is a network from tensors to tensors, small enough to be rewritten, converted and compiled alone. What lies
between parts, the algebra of coordinates, is the backbone's own: an engine's backbone is the backbone with other parts.
An engine knows parts by name and nothing else of a backbone.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone


@dataclass(frozen=True)
class Part:
    """How one part is run.

    Attributes:
        exact: float32 at every precision, for coordinates come of it.
        single: it returns one tensor, not a tuple.
        outputs: their names in an exported file, of which a backbone may have fewer.
    """

    exact: bool = False
    single: bool = False
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Offer:
    """A backbone's parts, and the backbone that runs them.

    Attributes:
        parts: by name.
        fold: of a backbone, a precision ("exact" or "bf16") and whether torch's packed kernels may be used (not where a
            part is exported), each part as a network for inference. Inputs and outputs are float32.
        examples: of a backbone, for each part its inputs by name, (1, ...), at the size that it was trained at.
        run: of a backbone and its parts by name, an `Engined` backbone.
        quantised: the part that int8 is for, if any.
        full: what of that part is not quantised: patterns of operations' names.
        full_types: likewise, by type of operation.
    """

    parts: Mapping[str, Part]
    fold: Callable[[Any, str, bool], Mapping[str, nn.Module]]
    examples: Callable[[Any], Mapping[str, Mapping[str, Tensor]]]
    run: "Callable[[Any, Mapping[str, nn.Module]], Engined]"
    quantised: str | None = None
    full: tuple[str, ...] = ()
    full_types: tuple[str, ...] = ()


class Engined(Backbone):
    """A backbone whose parts an engine runs; comes before the backbone's own class among the bases.

    Everything else is shared with the model that it was made of: configuration, other modules, and weights, so that
    `state_dict` and identity are the model's.
    """

    model: Any

    def __init__(self, model: Backbone) -> None:
        nn.Module.__init__(self)
        for name, value in vars(model).items():
            self.__dict__[name] = copy.copy(value) if name in ("_parameters", "_buffers", "_modules") else value
        self.model = model

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> Any:
        """Refuse: an engine's backbone is made of one that files hold."""
        raise KinecastError(f"{cls.__name__}: expected a backbone that files hold: load the model that it runs")

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the model's own tensors under their own names."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Refuse: the parts are made of the weights and would not follow."""
        raise KinecastError("an engine's weights are fixed: load them into the model and build the engine again")


OFFERS: dict[type[Backbone], Offer] = {}  # registered, beside those of the package


def register_engine(kind: type[Backbone], offer: Offer) -> None:
    """Let the engines run a class of backbones.

    Example: `register_engine(Toy, Offer({"mixer": Part(single=True)}, fold, examples, FastToy))`, where `fold(model,
    precision, native)` returns `{"mixer": ...}` and `FastToy(Engined, Toy)` puts it in the mixer's place.

    Raises:
        KinecastError: the class has another offer.
    """
    if offers().get(kind, offer) is not offer:
        raise KinecastError(f"engine of {kind.name}: expected to be registered once, found another offer of it")
    OFFERS[kind] = offer


def offers() -> dict[type[Backbone], Offer]:
    """Return what engines can run: the package's backbones and those that were registered."""
    from kinecast.runtime.bundled import BUNDLED

    return BUNDLED | OFFERS


def offer_of(model: Backbone) -> Offer | None:
    """Return what a backbone's class offers, if anything."""
    return offers().get(type(model))


def no_offer(what: str, model: Backbone, instead: str) -> KinecastError:
    """Return the error that a backbone offers no parts."""
    able = " or ".join(kind.name for kind in offers())
    return KinecastError(f"{what}: expected a {able}, found {model.name}: {instead}")


def plain(model: Backbone) -> Backbone:
    """Return the model that an engine was made of, or the model itself."""
    return model.model if isinstance(model, Engined) else model
