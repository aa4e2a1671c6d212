"""Rows of a table as something that forecasts the windows of a clip, and the files they are loaded from.

An honest row is given the observed frames of its windows and nothing else. The as-released readings are given whole
windows, later ones of the clip too: they are listed for comparison.

Notation: W windows, N observed, H horizon, D numbers per frame, S samples.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinecast.data.windows import Horizon, Windows
from kinecast.errors import KinecastError
from kinecast.files import make_folder
from kinecast.forecasting import Forecaster, forecaster_class
from kinecast.forecasting.families import differences, family_of
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.forecasting.vrnn_released import ReleasedVRNN
from kinecast.jobs.tasks import digest
from kinecast.research.protocol import released_samples
from kinecast.research.study import BASELINES, Row, RunConfig, Study, label_of
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster

_LOADED = 8  # forecasters that a worker holds
_TRAINING_VERSION = 1  # part of a model's key: raise it when training changes what it makes of the same config


def predict(row: Row, windows: Windows, picked: Sequence[int], samples: int, seed: int) -> Tensor:
    """Return forecasts (S, W, H, D) of the picked windows of one clip; S is 1 for a row without randomness."""
    index = list(picked)
    if row.kind == "previous":
        observed = windows.horizon.observed
        return windows.frames[index, observed - 1 : -1].unsqueeze(0)
    assert row.path is not None
    model = _loaded(str(row.path), row.digest)
    if row.kind == "as-released":
        assert isinstance(model, ReleasedVRNN)
        return released_samples(model, windows, samples, seed)[:, index]
    count = 1 if model.deterministic else samples
    return model.forecast(windows.observed[index], windows.horizon.forecast, count, seed=seed).cpu()


def seeded_rows(config: RunConfig, horizon: Horizon, models: Mapping[tuple[str, int], Path]) -> list[tuple[Row, int]]:
    """Return every row with every seed that it is measured with; rows without randomness have the first alone.

    `models` holds the file of each forecaster and seed, in the order of the table.
    """
    rows: list[tuple[Row, int]] = []
    for (label, seed), path in models.items():
        row = _file_row(label, path)
        if row.seeded or seed == config.seeds[0]:
            rows.append((row, seed))
    for seed in config.seeds:
        rows += _released_rows(config, horizon, seed)
    return rows


def row_labels(config: RunConfig, study: Study) -> list[str]:
    """Return the names of the forecasters of a table that have a file: baselines, then models."""
    models = study.models if config.protocol == "honest" else ()
    return [*BASELINES, *(name for name in models if name not in BASELINES)]


def _file_row(label: str, path: Path) -> Row:
    weights = file_digest(path)
    model = _loaded(str(path), weights)
    stochastic = not model.deterministic
    trained = any(True for _ in model.parameters())
    seeded, family = stochastic or trained, family_of(model)
    return Row(label_of(label), "forecaster", path, weights, seeded, family=family, differences=differences(model))


def _released_rows(config: RunConfig, horizon: Horizon, seed: int) -> list[tuple[Row, int]]:
    """The released VRNN free-running is an honest row; as released, and the frame before, are of the other protocol."""
    if config.released is None:
        return []
    path = config.released / f"vrnn_vox_{horizon}.safetensors"
    if not path.exists():
        if config.protocol == "as-released":
            raise KinecastError(
                f"{path}: expected released weights of horizon {horizon}, found none: choose 6-6 or 12-12"
            )
        return []
    name, which = file_digest(path), "vrnn released"
    rows = [(Row(f"{which}, free-running", "forecaster", path, name, seeded=True, family="released"), seed)]
    if config.protocol == "as-released":
        as_released = Row(f"{which}, as released", "as-released", path, name, True, True, "released")
        rows.append((as_released, seed))
        if seed == config.seeds[0]:
            rows.append((Row("previous true frame", "previous", None, "", seeded=False, reads_future=True), seed))
    return rows


def check_released(config: RunConfig, backbone: str, motion_dim: int) -> None:
    """Refuse released weights for motion that they are not of.

    Raises:
        KinecastError: another backbone or another D.
    """
    if config.released is not None and (backbone, motion_dim) != ("fomm", 60):
        raise KinecastError(
            f"released weights: expected FOMM motion of 60 numbers per frame, which they were trained on, found "
            f"{backbone} with {motion_dim}: use a FOMM backbone of 10 keypoints, or drop --released"
        )


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=_LOADED)
def _loaded(path: str, weights: str) -> Forecaster:
    return load_forecaster_file(path)


# --- training on the training side -------------------------------------------------------------------------------


def model_path(
    folder: Path, name: str, horizon: Horizon, seed: int, training: Mapping[str, Any], data: str
) -> tuple[Path, ForecasterTrainingConfig | None]:
    """Return the file of a trained model, named by all that it depends on, and its training; None for a given file.

    `name` is one of the registry, `name:preset`, or a .safetensors file, which is taken as it is.
    """
    if name.endswith(".safetensors"):
        return Path(name), None
    kind, _, preset = name.partition(":")
    forecaster_class(kind)
    config = ForecasterTrainingConfig(
        model=kind,
        preset=preset or None,
        observed=horizon.observed,
        forecast=horizon.forecast,
        seed=seed,
        **training,
    )
    key = digest(asdict(config), data, _TRAINING_VERSION)
    return folder / f"{kind}_{horizon}_seed{seed}_{key[:12]}.safetensors", config


def train_to(path: Path, config: ForecasterTrainingConfig, series: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Train a model and write it, unless the file is there."""
    if path.exists():
        return
    make_folder(path.parent)
    with torch.random.fork_rng(devices=[]):
        model = train_forecaster(series, config).model
    save_forecaster(model, path, about | {"training": asdict(config), "clips": sorted(series)})
