"""`auto`: measure the engines on a few frames, take the fastest within the tolerance, and remember it.

The choice depends on the machine, so it is measured there; it is kept in the cache folder, so that repeated runs do not
measure again. The measurements are in `reason` and in the log `kinecast.runtime`.
"""

import json
import logging
import time
import warnings
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.codec.identity import model_identity
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import atomic_path, make_folder
from kinecast.machine.cache import cache_folder, key_of
from kinecast.models.base import Backbone
from kinecast.models.fomm import FOMM
from kinecast.models.mesh.model import Mesh
from kinecast.runtime import PRECISIONS, SUPPORTED, TOLERANCES, builder, check_able

Pair = tuple[str, str]  # engine, precision

LOG = logging.getLogger("kinecast.runtime")
_FRAMES = 5  # timed, after one that is not
_WORTH = 0.95  # a later candidate must take at most this share of the best time so far
_VERSION = 2  # of the engines: raise it when a change makes old choices wrong


@dataclass(frozen=True)
class Measured:
    """One candidate on the warm-up frames: milliseconds to detect and animate a frame, differences from plain torch."""

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
    """The cached choice: engine and precision, the reason, and why the requested precision is unavailable, if so."""

    engine: str
    precision: str
    reason: str
    lack: str


def choose(model: Backbone, precision: str) -> Backbone:
    """Return the model run by the fastest engine that keeps `precision`.

    A request for int8 may give bf16 or exact, and one for bf16 exact, never the other way round. An unavailable
    precision gives a warning each time, with the reason.
    """
    if isinstance(model, Mesh) and model.device.type == "cpu":
        return _unmeasured(model, precision)
    if not isinstance(model, FOMM) or model.device.type != "cpu":
        model.reason = f"auto: the only engine for {model.name} on {model.device.type}"
        if precision != "exact":
            warn_of_lack(precision, f"{model.name} on {model.device.type} has none", model)
        return model
    lack = lack_of(model, precision)
    path = cache_folder() / "choices" / f"{_key(model, precision, lack)}.json"
    known = _remembered(path, precision)
    chosen = None if known is None else _chosen_earlier(model, known)
    if chosen is None or known is None:
        chosen, known = _measured_choice(model, precision)
        _remember(path, known)
    if lack or known.lack:
        warn_of_lack(precision, lack or known.lack, chosen)
    return chosen


def _unmeasured(model: Mesh, precision: str) -> Backbone:
    """Return a mesh run by `fast`: it needs frames with a face in them, which there are none of to measure with."""
    lack = lack_of(model, precision)
    level = precision if not lack else "bf16" if precision == "int8" and not lack_of(model, "bf16") else "exact"
    chosen = builder("fast")(model, level)
    chosen.reason = "auto: the fastest engine for mesh"
    if lack:
        warn_of_lack(precision, lack, chosen)
    return chosen


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


def _chosen_earlier(model: FOMM, known: _Choice) -> Backbone | None:
    try:
        chosen = builder(known.engine)(model, known.precision)
    except KinecastError as error:  # a converted model was removed since: measure again
        LOG.info("auto: %s can no longer be used: %s", known.engine, error)
        return None
    chosen.reason = f"{known.reason} (measured earlier)"
    LOG.info("%s", chosen.reason)
    return chosen


def _measured_choice(model: FOMM, precision: str) -> tuple[Backbone, _Choice]:
    frames = _warm_up_frames(model)
    able: dict[Pair, Backbone] = {("eager", "exact"): model}
    rendered = {("eager", "exact"): _render(model, frames)}
    missing = []
    for engine, level in _candidates(precision):
        try:
            candidate = builder(engine)(model, level)
            rendered[engine, level] = _render(candidate, frames)  # OpenVINO compiles at the first run
            able[engine, level] = candidate
        except KinecastError as error:
            LOG.info("auto: %s %s: %s", engine, level, error)
            if level == precision:
                missing.append(str(error))
    times = _times(able, frames)
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


def _times(able: dict[Pair, Backbone], frames: Tensor) -> dict[Pair, float]:
    """Return milliseconds to detect and animate one frame: medians over interleaved rounds."""
    started = {pair: (each.encode_source(frames[:1]), each.detect(frames[:1])) for pair, each in able.items()}
    times: dict[Pair, list[float]] = {pair: [] for pair in able}
    for turn in range(_FRAMES + 1):
        for pair, each in able.items():
            begun = time.perf_counter()
            each.animate(*started[pair], each.detect(frames[turn % len(frames)][None]))
            times[pair].append(1000 * (time.perf_counter() - begun))
    return {pair: sorted(each[1:])[_FRAMES // 2] for pair, each in times.items()}


def _render(model: Backbone, frames: Tensor) -> Tensor:
    motion = model.detect(frames)
    return model.animate(model.encode_source(frames[:1]), motion[:1], motion)


def _warm_up_frames(model: Backbone) -> Tensor:
    """Return three pictures (3, 3, H, W) of smooth colours, each a little further to the side."""
    height, width = model.frame_size
    coarse = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
    wide = F.interpolate(coarse, size=(height, width + 16), mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.cat([wide[..., shift : shift + width] for shift in (0, 4, 8)])


def _key(model: FOMM, precision: str, lack: str) -> str:
    from kinecast.machine.processor import processor

    identity, threads = model_identity(model).hex(), torch.get_num_threads()
    versions = [_installed(package) for package in ("torch", "openvino")]
    return key_of(_VERSION, identity, precision, processor(), threads, *versions, lack)


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
        return None  # missing or edited: measured again
    allowed = PRECISIONS[: PRECISIONS.index(precision) + 1]
    fits = known.precision in SUPPORTED.get(known.engine, ()) and known.precision in allowed
    return known if fits else None


def _remember(path: Path, choice: _Choice) -> None:
    try:
        make_folder(path.parent)
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(asdict(choice)) + "\n")
    except KinecastError as error:
        LOG.info("auto: the choice could not be cached: %s", error)
