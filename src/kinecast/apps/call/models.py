"""The models of a call, loaded and warmed up before it starts."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from kinecast.apps.blendshapes import face_of
from kinecast.apps.call.config import CallConfig
from kinecast.apps.call.heads import AS_HEAD, Heads, heads_of
from kinecast.apps.heads.expression import needs_mesh
from kinecast.apps.stream.fillers import load_filler, of_forecaster
from kinecast.codec import stream_identity
from kinecast.codec.filling import FILLERS, Forecast
from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster
from kinecast.machine.process_state import threads
from kinecast.models.base import Backbone
from kinecast.runtime import accelerate
from kinecast.runtime.auto import lack_of, warn_of_lack
from kinecast.runtime.offers import offer_of
from kinecast.zoo import FORECASTERS, forecaster_for, load_backbone

SAMPLER = "direct"  # for weights that are not bundled, if their motion has as many numbers


@dataclass(frozen=True)
class Models:
    """The loaded models of a call.

    A backbone with its engine, its identity, the concealment of frames, the sampler of an idle avatar's futures, and
    the avatar's picture (H, W, 3) of any size, or "head"; what draws 3-D heads, if the backbone has faces.
    """

    backbone: Backbone
    identity: bytes
    forecast: Forecast
    sampler: Forecaster | None
    avatar: np.ndarray | Literal["head"] | None
    heads: Heads | None = None


def load_models(config: CallConfig) -> Models:
    """Load all models and run each once: an engine's first run is slow.

    Raises:
        KinecastError: an unknown name, an invalid file, or an avatar that is not a picture.
    """
    with threads(_share()):  # engines compile for the threads that will run them
        return _load(config)


def _load(config: CallConfig) -> Models:
    backbone = _backbone(config)
    sampler = _sampler(config.model, backbone.motion_dim)
    if config.forecaster == "auto":
        forecast = of_forecaster(sampler, config.seed) if sampler is not None else FILLERS["damped"]
    else:
        forecast = load_filler(config.forecaster, backbone.motion_dim, config.seed)
    if config.avatar == AS_HEAD:
        needs_mesh(backbone)
    if config.blendshapes is not None:
        face_of(backbone, backbone.warm_up())
    models = Models(
        backbone, stream_identity(backbone), forecast, sampler, _avatar(config), heads_of(backbone, config.head)
    )
    warm_up(models)
    return models


def _backbone(config: CallConfig) -> Backbone:
    """Load the backbone.

    `auto` does not measure, so that the call starts at once: it is `fast` if that can run. OpenVINO's bfloat16 needs
    less of a core (docs/results/live.md), but headless calls with it have ended unexpectedly.
    """
    if config.engine != "auto":
        return load_backbone(config.model, "auto", config.engine, config.precision)
    plain = load_backbone(config.model, "auto", "eager")
    if offer_of(plain) is None or plain.device.type != "cpu":
        return plain
    wanted = "exact" if config.precision == "exact" else "bf16"
    lack = lack_of(plain, wanted)
    chosen = accelerate(plain, "fast", "exact" if lack else wanted)
    if lack or config.precision != wanted:
        warn_of_lack(config.precision, lack or "auto selects the engine fast in a call, which has none", chosen)
    return chosen


def warm_up(models: Models) -> None:
    """Run each model once."""
    motion = models.backbone.warm_up()
    vectors = motion.to("cpu").vectors().numpy()
    models.forecast(np.repeat(vectors, 12, axis=0), 12)


class Worker(ThreadPoolExecutor):
    """A thread that computes with half of the cores: there is one per direction.

    torch passes a thread's setting to every thread new to it, so the creator's number of threads is restored.
    """

    def __init__(self, name: str) -> None:
        self._before = torch.get_num_threads()
        super().__init__(1, name, torch.set_num_threads, (_share(),))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        torch.set_num_threads(self._before)


def worker(name: str) -> Worker:
    """Return the worker thread of a direction."""
    return Worker(name)


def _share() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    return max(1, cores // 2)


def _sampler(model: str, motion_dim: int) -> Forecaster | None:
    try:
        return forecaster_for(FORECASTERS.get(model, (SAMPLER,))[0], motion_dim, "cpu")
    except KinecastError:  # of another D: `auto` says that damped velocity is taken then
        return None


def _avatar(config: CallConfig) -> np.ndarray | Literal["head"] | None:
    if config.avatar is None or config.avatar == AS_HEAD:
        return None if config.avatar is None else AS_HEAD
    from kinecast.files import existing_file
    from kinecast.media.pictures import open_picture

    picture = open_picture(existing_file(Path(config.avatar), "picture"))
    if picture is None:
        raise KinecastError(f"{config.avatar}: expected a picture (png, jpg, webp), found another file: choose one")
    return picture
