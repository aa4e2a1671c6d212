"""The models of the table of keypoint forecasts: what is trained, on whom, until when, and where it is kept.

All trained models of a table may have one rule of when to stop (`KeypointTableConfig.stop_early`): every tenth training
person is left out of the gradient, and the weights that forecast these people best, by CRPS, are taken. So a model that
learns slowly is not judged at the time of one that learns fast, and nobody who is evaluated on has a say.
"""

import hashlib
import json
import multiprocessing
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from kinecast.data.video_folder import PERSON_PATTERN, person_of
from kinecast.data.windows import Horizon, Series
from kinecast.errors import KinecastError
from kinecast.forecasting import FORECASTERS, Forecaster, build_forecaster
from kinecast.forecasting.gru_nf import GRUNF
from kinecast.forecasting.gru_snf import GRUSNF
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.research.selection import CANDIDATES, Candidates, choose_settings
from kinecast.training.forecaster import GENERAL, ForecasterTrainingConfig, train_forecaster
from kinecast.zoo import load_forecaster

BASELINES = ("repeat", "velocity", "damped", "climatology", "ridge", "var")
MODELS = ("gru", "vae", "nf", "vrnn", "gru-nf", "gru-snf", "direct", "transformer")
COMPARED = {"mae": "damped", "crps": "climatology"}  # what each row is held against
GENERAL_PRESET = "general"  # of models for every horizon: trained once, as `training.forecaster.GENERAL` says
_ONE_IN = 10
_LEARNT = ("chosen", "trained")  # what a training finds out, of what is kept with its weights


@dataclass(frozen=True)
class KeypointTableConfig:
    """What the table is made of. `training` holds values of `ForecasterTrainingConfig` for all trained models.

    `models` are names of the registry, `name` or `name:preset`, trained here, or of bundled weights, taken as they
    are: of a training that kept out the same people. Those of the preset `general` are trained once for all horizons,
    as the bundled ones are, whatever `training` says. With `folds` everybody is kept out once, in so many groups of
    people, and `validate` is not looked at. `candidates` are settings by model, of which one is chosen on the training
    people.
    """

    horizons: tuple[Horizon, ...] = (Horizon(6, 6), Horizon(12, 12))
    validate: str = "id10291"
    person: str = PERSON_PATTERN
    models: tuple[str, ...] = MODELS
    baselines: tuple[str, ...] = BASELINES  # with what rows are held against, at least
    samples: int = 100
    seeds: tuple[int, ...] = (0,)
    training: Mapping[str, Any] | None = None
    workers: int = 1  # processes that train, each on one thread; 1 trains in this process, on all threads
    folds: int | None = None
    every: int = 1  # windows are of every k-th frame
    candidates: Mapping[str, Candidates] = field(default_factory=lambda: dict(CANDIDATES))
    stop_early: bool = False  # each model when every tenth training person is forecast no better

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise KinecastError(f"keypoint table: expected at least 1 worker, found {self.workers}")
        needed = {*COMPARED.values()}
        if not needed <= {*self.baselines} <= {*BASELINES}:
            raise KinecastError(
                f"keypoint table: expected baselines of {', '.join(BASELINES)}, {' and '.join(sorted(needed))} among "
                f"them, found {', '.join(self.baselines)}"
            )
        if not self.horizons or not self.seeds or self.samples < 2:
            raise KinecastError(
                f"keypoint table: expected a horizon, a seed and at least 2 samples, found {len(self.horizons)}, "
                f"{len(self.seeds)} and {self.samples}"
            )


class Models:
    """The trained models of a fold, in a folder; a file there is used if it is of the same training and config."""

    def __init__(self, series: Series, config: KeypointTableConfig, cache: Path, tag: str) -> None:
        self.series, self.config, self.cache, self.tag = series, config, cache, tag

    def train(self, log: Callable[[str], None]) -> None:
        """Train what is missing; a training that was stopped goes on."""
        jobs = list({job.path: job for job in self._jobs() if not is_trained(job, self.series)}.values())
        if self.config.workers == 1:
            for job in jobs:
                _train(job, self.series, log)
            return
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        with ProcessPoolExecutor(self.config.workers, context, torch.set_num_threads, (1,)) as pool:
            waiting = {pool.submit(_train, job, self.series): job.path for job in jobs}
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    future.result()
                    log(f"trained {waiting[future].stem} ({done} of {len(jobs)})")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def load(self, name: str, horizon: Horizon, seed: int) -> Forecaster:
        """Return a trained model. A GRU-SNF is the GRU-NF of the table, refined: the same weights.

        Raises:
            KinecastError: bundled weights of a training that saw the people evaluated on.
        """
        if name.partition(":")[0] not in FORECASTERS:
            return self._bundled(name)
        shared = self._shared(name)
        model = load_forecaster_file(self._job(shared or name, horizon, seed).path)
        return GRUSNF.from_gru_nf(model) if shared and isinstance(model, GRUNF) else model

    def _shared(self, name: str) -> str | None:
        """Return the GRU-NF of the table whose weights a GRU-SNF has, if it is there."""
        kind, colon, preset = name.partition(":")
        plain = f"gru-nf{colon}{preset}"
        return plain if kind == "gru-snf" and plain in self.config.models else None

    def _bundled(self, name: str) -> Forecaster:
        model = load_forecaster(name, "cpu")
        kept_out = model.about.get("kept_out")
        if self.config.folds is not None or kept_out != self.config.validate:
            wanted = "each fold's people" if self.config.folds is not None else self.config.validate
            raise KinecastError(
                f"{name}: expected weights of a training that kept {wanted} out, found {kept_out!r}: "
                "evaluate on those people, or train the model here"
            )
        return model

    def _jobs(self) -> "Iterator[Job]":
        for horizon in self.config.horizons:
            for name in (*self.config.baselines, *self.config.models):
                for seed in self.config.seeds:
                    if name.partition(":")[0] in FORECASTERS and self._shared(name) is None:
                        yield self._job(name, horizon, seed)

    def _one_in_ten(self) -> str | None:
        """Return a pattern of every tenth training person, who say when a general model stops, and how wide it is."""
        people = sorted({person_of(clip, self.config.person) for clip in self.series})
        chosen = people[::_ONE_IN] if len(people) >= 2 * _ONE_IN else []
        return f"^({'|'.join(map(re.escape, chosen))})$" if chosen else None

    def _judges(self) -> str:
        """Return the pattern of the training people who say when each model stops.

        Raises:
            KinecastError: too few people.
        """
        chosen = self._one_in_ten()
        if chosen is None:
            count = len({person_of(clip, self.config.person) for clip in self.series})
            raise KinecastError(
                f"early stopping: expected at least {2 * _ONE_IN} training people, found {count}: train without it"
            )
        return chosen

    def _job(self, name: str, horizon: Horizon, seed: int) -> "Job":
        kind, _, preset = name.partition(":")
        values: dict[str, Any] = {
            "observed": horizon.observed,
            "forecast": horizon.forecast,
            "every": self.config.every,
        }
        values |= self.config.training or {}
        if preset == GENERAL_PRESET:
            values |= {**GENERAL[kind], "person": self.config.person, "early_stop": self._one_in_ten()}
        elif self.config.stop_early and kind not in BASELINES:
            values |= {"person": self.config.person, "early_stop": self._judges()}
        training = ForecasterTrainingConfig(model=kind, preset=preset or None, seed=seed, **values)
        file = f"{name.replace(':', '-')}_{training.horizon}_seed{seed}{self.tag}.safetensors"
        candidates = tuple(self.config.candidates.get(name, ()))
        return Job(self.cache / file, training, candidates, self.config.person)


@dataclass(frozen=True)
class Job:
    """A model to train, and the settings that one is chosen of."""

    path: Path
    training: ForecasterTrainingConfig
    candidates: Candidates
    person: str

    def about(self, series: Series) -> dict[str, Any]:
        """Return what tells this training from others."""
        told = {"candidates": [dict(c) for c in self.candidates]} if self.candidates else {}
        return {"training": self.training.to_json(), "clips": sorted(series), **told}


def is_trained(job: Job, series: Series) -> bool:
    """Tell whether a file is of this training of these clips."""
    if not job.path.exists():
        return False
    model = load_forecaster_file(job.path)
    about = {key: value for key, value in model.about.items() if key not in _LEARNT}
    overrides = {**job.training.overrides, **model.about.get("chosen", {})}
    expected = build_forecaster(job.training.model, model.motion_dim, job.training.preset, **overrides)
    return about == job.about(series) and model.config == expected.config


def _train(job: Job, series: Series, log: Callable[[str], None] = lambda line: None) -> None:
    training, about = job.training, job.about(series)
    if job.candidates:
        about["chosen"] = choose_settings(series, training, job.candidates, job.person, log)
        training = replace(training, overrides={**training.overrides, **about["chosen"]})
    # Named by the training and its people: what was begun on others must not go on here.
    told = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    state = job.path.with_suffix(f".{told}.state")
    result = train_forecaster(series, training, state, log)
    weights = sum(p.numel() for p in result.model.parameters())
    about["trained"] = {"steps": result.steps, "seconds": round(result.seconds), "weights": weights}
    about["trained"]["curve"] = [asdict(point) for point in result.curve]
    save_forecaster(result.model, job.path, about)
    state.unlink(missing_ok=True)
