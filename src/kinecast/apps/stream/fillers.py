"""Concealment of missing frames, by name: `hold`, `damped`, or a forecaster of the zoo.

Notation: N observed, H horizon, D numbers per frame.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from kinecast.codec.filling import FILLERS, Forecast, hold
from kinecast.errors import KinecastError
from kinecast.forecasting import Forecaster
from kinecast.forecasting.median import sample_median
from kinecast.zoo import forecaster_for, names

SAMPLES = 16  # of a forecaster that samples; the median is shown, since a single sample is not an expectation


def filler_names() -> list[str]:
    """Return the names that need no file."""
    return [*FILLERS, *names("forecaster")]


def load_filler(name: str | Path, motion_dim: int, seed: int = 0) -> Forecast:
    """Return what fills frames, by name or from a forecaster's file.

    Raises:
        KinecastError: neither, or the forecaster is of another D.
    """
    if str(name) in FILLERS:
        return FILLERS[str(name)]
    if str(name) not in names("forecaster") and not Path(name).exists():
        raise KinecastError(
            f"forecast {str(name)!r}: expected {', '.join(filler_names())} or a forecaster's file: choose one"
        )
    return of_forecaster(forecaster_for(name, motion_dim, "cpu"), seed)


def advised_filler(name: str, motion_dim: int, seed: int = 0) -> Forecast | None:
    """Return the filler that a stream's header names, None if unavailable: unknown, or of another D.

    A forecaster's file is looked for in the current folder only, so that a stream cannot choose where this machine
    reads.
    """
    if Path(name).name != name:
        return None
    try:
        return load_filler(name, motion_dim, seed)
    except KinecastError:
        return None


def load_fillers(chosen: Iterable[str] | None, motion_dim: int, seed: int = 0) -> dict[str, Forecast]:
    """Return several by name; all that are bundled for this D if none is chosen."""
    if chosen is not None:
        return {"hold": hold} | {name: load_filler(name, motion_dim, seed) for name in chosen}
    found = {}
    for name in filler_names():
        try:
            found[name] = load_filler(name, motion_dim, seed)
        except KinecastError:
            if name in FILLERS:
                raise  # only a forecaster may be of another D
    return found


def of_forecaster(model: Forecaster, seed: int = 0) -> Forecast:
    """Return a forecaster's expectation: the median of its samples, number by number. Too short a past is held."""

    def forecast(observed: np.ndarray, horizon: int) -> np.ndarray:
        if len(observed) < model.min_observed:
            return hold(observed, horizon)
        samples = 1 if model.deterministic else SAMPLES
        futures = model.forecast(torch.from_numpy(observed)[None], horizon, samples, seed)
        return sample_median(futures)[0].numpy()

    return forecast
