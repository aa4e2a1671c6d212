"""The studies that make the published tables of a data set, at its own horizons ([A] Tables 1-10 and [B])."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kinecast.data.windows import Horizon, parse_horizon
from kinecast.errors import KinecastError
from kinecast.forecasting import forecaster_class
from kinecast.research.published import (
    DIVERSE_HORIZONS,
    DIVERSE_MODELS,
    REFINED_HORIZON,
    REFINED_MODELS,
    SINGLE_HORIZONS,
    SINGLE_MODELS,
)
from kinecast.research.study import MODES, Study

FAMILIES = ("kinecast", "paper")


@dataclass(frozen=True)
class PaperPlan:
    """What of the published tables is made. None takes what was published: models, and the data set's horizons.

    `family` is the preset of every model that is named without one.
    """

    data_set: str
    family: str = "kinecast"
    horizons: tuple[Horizon, ...] | None = None
    models: tuple[str, ...] | None = None
    diverse_models: tuple[str, ...] | None = None
    windows: int | None = None
    diverse_windows: int | None = None
    samples: int = 100
    diverse_samples: int = 100
    keep: int = 20

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise KinecastError(f"family: expected one of {', '.join(FAMILIES)}; found {self.family!r}")
        if self.data_set not in SINGLE_HORIZONS:
            raise KinecastError(f"data set: expected one of {', '.join(SINGLE_HORIZONS)}; found {self.data_set!r}")


def paper_studies(plan: PaperPlan) -> list[Study]:
    """Return single and diverse studies of both modes, and, at the published horizons, that of refinement ([B]).

    The second paper's table is made for reconstruction: the same weights, plain and refined.
    """
    single = _horizons(SINGLE_HORIZONS[plan.data_set]) if plan.horizons is None else plan.horizons
    diverse = _horizons(DIVERSE_HORIZONS[plan.data_set]) if plan.horizons is None else plan.horizons
    models = _of_family(plan.models or SINGLE_MODELS, plan.family)
    sampled = _of_family(plan.diverse_models or DIVERSE_MODELS, plan.family)
    kept: dict[str, Any] = {"windows": plan.diverse_windows, "samples": plan.diverse_samples, "keep": plan.keep}
    studies = [Study("single", mode, single, models, plan.windows, plan.samples, 1) for mode in MODES]  # type: ignore[arg-type]
    if diverse:
        studies += [Study("diverse", mode, diverse, sampled, **kept) for mode in MODES]  # type: ignore[arg-type]
    if plan.horizons is None and plan.data_set in REFINED_HORIZON:
        text, every = REFINED_HORIZON[plan.data_set]
        refined = _of_family(REFINED_MODELS, plan.family)
        horizon = (parse_horizon(text),)
        studies.append(Study("diverse", "reconstruction", horizon, refined, **kept, every=every, about="refinement"))
    return studies


def _horizons(texts: Sequence[str]) -> tuple[Horizon, ...]:
    return tuple(parse_horizon(text) for text in texts)


def _of_family(models: Sequence[str], family: str) -> tuple[str, ...]:
    """Return names with the family's preset, where one is named without and the model has it."""
    named = []
    for model in models:
        plain = ":" not in model and not model.endswith(".safetensors")
        named.append(f"{model}:paper" if plain and family == "paper" and _has_paper(model) else model)
    return tuple(dict.fromkeys(named))


def _has_paper(model: str) -> bool:
    return "paper" in forecaster_class(model).presets
