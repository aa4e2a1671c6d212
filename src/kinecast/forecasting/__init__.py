"""Forecasters of motion vectors: one contract (`base`), one file per model, one table of names.

They depend on motion vectors only, not on backbones, clips or metrics.
"""

from dataclasses import replace
from typing import Any

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.baselines import Climatology, ConstantVelocity, DampedVelocity, RepeatLast
from kinecast.forecasting.direct import Direct
from kinecast.forecasting.gru import GRUForecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.linear import VAR, Ridge
from kinecast.forecasting.nf import NF
from kinecast.forecasting.vae import VAE
from kinecast.forecasting.vrnn import VRNN
from kinecast.forecasting.vrnn_released import ReleasedVRNN

FORECASTERS: dict[str, type[Forecaster]] = {
    "repeat": RepeatLast,
    "velocity": ConstantVelocity,
    "damped": DampedVelocity,
    "climatology": Climatology,
    "ridge": Ridge,
    "var": VAR,
    "gru": GRUForecaster,
    "vae": VAE,
    "nf": NF,
    "gru-nf": GRUNF,
    "gru-snf": GRUSNF,
    "vrnn": VRNN,
    "vrnn-released": ReleasedVRNN,
    "direct": Direct,
}

_FORMER = {"small": "kinecast"}  # preset names of version 0.1

__all__ = ["FORECASTERS", "Forecaster", "ForecasterConfig", "build_forecaster", "forecaster_class"]


def forecaster_class(name: str) -> type[Forecaster]:
    """Return the class of a name.

    Raises:
        KinecastError: unknown name.
    """
    if name not in FORECASTERS:
        raise KinecastError(f"forecaster {name!r}: expected one of {', '.join(FORECASTERS)}")
    return FORECASTERS[name]


def build_forecaster(name: str, motion_dim: int, preset: str | None = None, **overrides: Any) -> Forecaster:
    """Build an untrained forecaster of D = `motion_dim` numbers per frame.

    Args:
        name: of the table above.
        motion_dim: D.
        preset: a named config of the class: `kinecast` (ours, the default), `paper` (as printed) or others; `small` is
            the name of `kinecast` in 0.1.
        overrides: config values that replace the preset's.

    Raises:
        KinecastError: an unknown name, preset or key, or a value out of range.
    """
    kind = forecaster_class(name)
    preset = next(iter(kind.presets)) if preset is None else _FORMER.get(preset, preset)
    if preset not in kind.presets:
        raise KinecastError(f"{name}: expected a preset of {', '.join(kind.presets)}; found {preset!r}")
    config = kind.presets[preset]
    kind.config_type.from_dict(config.to_dict() | overrides)  # reports unknown keys, where `replace` raises TypeError
    return kind(motion_dim, replace(config, **overrides))
