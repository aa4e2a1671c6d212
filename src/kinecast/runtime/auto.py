"""`auto`: measure the engines on a few frames, take the fastest within the tolerance, and remember it.

The choice depends on the machine, so it is measured there; it is kept in the cache folder, for a program that starts
every minute should not measure every minute. What was measured is in `reason` and in the log `kinecast.runtime`.
"""

import json
import logging
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import atomic_path, make_folder
from kinecast.machine.cache import cache_folder, key_of
from kinecast.machine.processor import instruction_sets, processor
from kinecast.models.base import Backbone
from kinecast.runtime import PRECISIONS, SUPPORTED, TOLERANCES, builder, check_able
from kinecast.runtime.offers import offer_of

Pair = tuple[str, str]  # engine, precision
Clip = Callable[[int], Tensor]  # as `Backbone.rehearse` returns it

LOG = logging.getLogger("kinecast.runtime")
_FRAMES = 5  # timed, after one that is not
_SECONDS = 2.0  # after which no more frames are timed than two
_WORTH = 0.95  # a later candidate must take at most this share of the best time so far
_VERSION = 3  # of the engines: raise it when a change makes old choices wrong


@dataclass(frozen=True)
class Measured:
    """One candidate on the frames of `Backbone.rehearse`: milliseconds per frame, differences from plain torch."""

    engine: str
    precision: str
    ms: float
    largest: float
    mean: float

    @property
    def good(self) -> bool:
        """Whether it keeps the tolerance of its precision."""
        limit = TOLERANCES[self.precision]
        return self.largest <= limit.largest and self.mean <= limit.mean

    def __str__(self) -> str:
        verdict = "" if self.good else ", outside its tolerance"
        return f"{self.engine} {self.precision} {self.ms:.1f} ms (mean difference {self.mean:.1e}{verdict})"


@dataclass(frozen=True)
class _Choice:
    """What is remembered: a pair, why it was taken, and what was found wrong with all of the precision asked for."""

    engine: str
    precision: str
    reason: str
    lack: str


def choose(model: Backbone, precision: str) -> Backbone:
    """Return the model run by the fastest engine that keeps `precision`.

    A wish for int8 may be answered by bf16 or exact, for bf16 by exact, never the other way round. That a precision
    cannot be had here is warned of every time, with the reason.
    """
    if offer_of(model) is None or model.device.type != "cpu":
        model.reason = f"auto: the only engine for {model.name} on {model.device.type}"
        if precision != "exact":
            warn_of_lack(precision, f"{model.name} on {model.device.type} has none", model)
        return model
    lack = lack_of(model, precision)
    path = _path(model, precision, lack)
    known = _remembered(path, precision)
    chosen = None if known is None else _chosen_earlier(model, known)
    if chosen is None or known is None:
        chosen, known = _measured_choice(model, precision)
        _remember(path, known)
    if lack or known.lack:
        warn_of_lack(precision, lack or known.lack, chosen)
    return chosen


def remembered(model: Backbone, precision: str) -> str:
    """Return why an engine was taken for a model at a precision on this machine; nothing if none was measured yet."""
    known = _remembered(_path(model, precision, lack_of(model, precision)), precision)
    return "" if known is None else known.reason


def lack_of(model: Backbone, precision: str) -> str:
    """Return why no engine can run a model on the CPU at a precision, or nothing if one can."""
    reasons = []
    for engine in (name for name, levels in SUPPORTED.items() if precision in levels):
        try:
            check_able(engine, model, precision)
        except KinecastError as error:
            reasons.append(str(error).removeprefix(f"precision {precision}: "))
        else:
            return ""
    return reasons[0]


def warn_of_lack(precision: str, lack: str, chosen: Backbone) -> None:
    """Warn that a precision is unavailable, why, and what is used instead."""
    warnings.warn(
        f"precision {precision} is unavailable: {lack}; using {chosen.engine} {chosen.precision}",
        KinecastWarning,
        stacklevel=5,
    )


def _chosen_earlier(model: Backbone, known: _Choice) -> Backbone | None:
    try:
        chosen = builder(known.engine)(model, known.precision)
    except KinecastError as error:  # a converted model was removed since: measure again
        LOG.info("auto: %s can no longer be used: %s", known.engine, error)
        return None
    chosen.reason = f"{known.reason} (measured earlier)"
    LOG.info("%s", chosen.reason)
    return chosen


def _measured_choice(model: Backbone, precision: str) -> tuple[Backbone, _Choice]:
    able: dict[Pair, Backbone] = {("eager", "exact"): model}
    clips = {("eager", "exact"): model.rehearse()}
    rendered = {("eager", "exact"): _rendered(clips["eager", "exact"])}
    missing = []
    for engine, level in _candidates(precision):
        try:
            candidate = builder(engine)(model, level)
            clip = candidate.rehearse()
            rendered[engine, level] = _rendered(clip)  # OpenVINO compiles at the first run
            able[engine, level], clips[engine, level] = candidate, clip
        except KinecastError as error:
            LOG.info("auto: %s %s: %s", engine, level, error)
            if level == precision:
                missing.append(str(error))
    times = _times(clips)
    found = []
    for pair in able:
        difference = (rendered[pair] - rendered["eager", "exact"]).abs()
        found.append(Measured(*pair, times[pair], float(difference.max()), float(difference.mean())))
    fastest = found[0]
    for measured in found[1:]:
        if measured.good and measured.ms < _WORTH * fastest.ms:
            fastest = measured
    chosen = able[fastest.engine, fastest.precision]
    chosen.reason = f"auto: {fastest.engine} {fastest.precision} was fastest of {'; '.join(map(str, found))}"
    LOG.info("%s", chosen.reason)
    asked = [measured for measured in found if measured.precision == precision]
    lack = "" if any(measured.good for measured in asked) else "; ".join([*map(str, asked), *missing])
    return chosen, _Choice(fastest.engine, fastest.precision, chosen.reason, lack)


def _candidates(precision: str) -> list[Pair]:
    levels = PRECISIONS[: PRECISIONS.index(precision) + 1]
    # In float32 OpenVINO took 1.3 to 1.5 times as long as `fast` where it was measured; converting takes seconds.
    engines = ["fast"] + (["openvino"] if precision != "exact" and _installed("openvino") else [])
    return [(engine, level) for engine in engines for level in levels if level in SUPPORTED[engine]]


def _times(clips: dict[Pair, Clip]) -> dict[Pair, float]:
    """Return milliseconds per frame: medians of rounds in which all take turns."""
    times: dict[Pair, list[float]] = {pair: [] for pair in clips}
    started = time.perf_counter()
    for turn in range(_FRAMES + 1):
        if turn > 2 and time.perf_counter() - started > _SECONDS:
            break
        for pair, clip in clips.items():
            begun = time.perf_counter()
            clip(turn)
            times[pair].append(1000 * (time.perf_counter() - begun))
    return {pair: sorted(each[1:])[(len(each) - 1) // 2] for pair, each in times.items()}


def _rendered(clip: Clip) -> Tensor:
    return torch.cat([clip(i) for i in range(3)])


def _path(model: Backbone, precision: str, lack: str) -> Path:
    return cache_folder() / "choices" / f"{_key(model, precision, lack)}.json"


def _key(model: Backbone, precision: str, lack: str) -> str:
    identity, threads = model_identity(model).hex(), torch.get_num_threads()
    versions = [_installed(package) for package in ("torch", "openvino")]
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    return key_of(_VERSION, identity, precision, processor(), *instruction_sets(), limit, threads, *versions, lack)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _remembered(path: Path, precision: str) -> _Choice | None:
    try:
        values = json.loads(path.read_text())
        known = _Choice(*(str(values[field.name]) for field in fields(_Choice)))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not measured yet, or by a hand: it is measured anew
    allowed = PRECISIONS[: PRECISIONS.index(precision) + 1]
    fits = known.precision in SUPPORTED.get(known.engine, ()) and known.precision in allowed
    return known if fits else None


def _remember(path: Path, choice: _Choice) -> None:
    try:
        make_folder(path.parent)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(choice)) + "\n")
    except KinecastError as error:
        LOG.info("auto: the choice is not remembered: %s", error)
