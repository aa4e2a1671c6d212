"""Defects that never happened: sampled futures of normal motion, changed as a fault would change them.

Each begins with frames of a normal clip. What follows is a sampled future:

    normal   as it was sampled: what a detector must not take for a defect because a model made it
    tail     the least typical of S futures: the largest mean distance from the others, in whitened units
    freeze   a part of the numbers stops where it is
    drift    a part goes away from where it should be, by the same step each frame
    shake    a part swings about where it should be

A part is `part` numbers in a row, such as one joint or one keypoint; parts that moved in the normal frames are chosen
more often. Steps and swings are in units of a number's own root-mean-square change from frame to frame in normal
clips. What each sample is depends on the seed and its number alone.

Notation: T frames, N observed, K frames of future, D numbers per frame, S samples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.anomaly.scorer import Whitening
from kinecast.data.windows import Series
from kinecast.errors import KinecastError

Kind = Literal["normal", "tail", "freeze", "drift", "shake"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_DRIFTS = (0.3, 2.0)  # units a frame
_SWINGS = (0.7, 5.0)  # units
_PERIODS = (2.2, 8.0)  # frames
_FLOOR = 1e-3  # of the mean unit: a number that never moves in normal clips


class Futures(Protocol):
    """What synthesis needs of a scorer: `ForecastScorer` has it."""

    whitening: Whitening

    def futures(self, observed: Tensor, horizon: int, samples: int, seed: int) -> Tensor:
        """Sample (S, R, H, D) after motion (R, N, D)."""


@dataclass(frozen=True)
class SynthesisConfig:
    """`count` of each kind, of N + K frames. `samples` are the futures of which a tail is the least typical."""

    count: int = 50
    kinds: tuple[Kind, ...] = KINDS
    observed: int = 8
    ahead: int = 16
    part: int = 1
    samples: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("observed", 2), ("ahead", 1), ("part", 1), ("samples", 2), ("seed", 0)):
            if getattr(self, name) < least:
                raise KinecastError(f"synthesis: expected {name} of at least {least}, found {getattr(self, name)}")
        foreign = [kind for kind in self.kinds if kind not in KINDS]
        if foreign or not self.kinds or len(set(self.kinds)) < len(self.kinds):
            found = ", ".join(self.kinds) or "none"
            raise KinecastError(f"kinds: expected some of {', '.join(KINDS)}, each once; found {found}")


@dataclass(frozen=True)
class Planned:
    """One sample, before anything was sampled: its name, kind, normal clip with the first frame taken, and the change.

    `onset` is the first frame of the future, where a defect begins. `first` is the first number of the part that is
    changed, `amount` how far in units (a frame, of a drift), `period` frames of a swing; None where there is none.
    """

    name: str
    kind: Kind
    clip: str
    start: int
    onset: int
    first: int | None
    amount: float | None
    period: float | None
    seed: int

    def row(self) -> list[str]:
        """Return the cells of a table whose columns are `COLUMNS`: `label` is 1 of a defect, 0 of a normal future."""
        told = [getattr(self, column) for column in COLUMNS[2:]]
        cells = ["" if v is None else f"{v:.4g}" if isinstance(v, float) else str(v) for v in told]
        return [self.name, str(int(self.kind != "normal")), *cells]


COLUMNS = ("name", "label", "kind", "onset", "clip", "start", "first", "amount", "period", "seed")


def plan(normal: Series, config: SynthesisConfig) -> Iterator[Planned]:
    """Yield what is to be made, kind by kind; of more samples the first ones stay the same.

    Raises:
        KinecastError: no clip is long enough, or parts do not divide D.
    """
    usable = {name: motion for name, motion in sorted(normal.items()) if len(motion) >= config.observed}
    if not usable:
        raise KinecastError(
            f"normal clips: expected one of at least {config.observed} frames, found none: observe fewer frames"
        )
    names, dim = list(usable), next(iter(usable.values())).shape[1]
    if dim % config.part:
        raise KinecastError(f"part: expected a number that divides the {dim} numbers of a frame, found {config.part}")
    units = units_of(normal).numpy()
    for kind in config.kinds:
        for i in range(config.count):
            random = np.random.default_rng([config.seed, KINDS.index(kind), i])
            clip = names[int(random.integers(len(names)))]
            start = int(random.integers(len(usable[clip]) - config.observed + 1))
            seed = int(random.integers(2**31))
            seen = usable[clip][start : start + config.observed].double().numpy()
            first = _part(seen, units, config.part, random)
            yield Planned(
                f"{kind}-{i:05d}",
                kind,
                clip,
                start,
                config.observed,
                first=first if kind in ("freeze", "drift", "shake") else None,
                amount=_amount(kind, random),
                period=float(_log_uniform(_PERIODS, random)) if kind == "shake" else None,
                seed=seed,
            )


def units_of(normal: Series) -> Tensor:
    """Return each number's root-mean-square change from frame to frame in normal clips, (D,)."""
    steps = torch.cat([motion.double().diff(dim=0) for motion in normal.values()])
    units = steps.square().mean(dim=0).sqrt()
    return units.clamp_min(max(_FLOOR * float(units.mean()), 1e-12))


def make(model: Futures, normal: Series, planned: Planned, config: SynthesisConfig) -> Tensor:
    """Return the motion (N + K, D) of one sample, raw."""
    seen = normal[planned.clip][planned.start : planned.start + config.observed].float()
    count = config.samples if planned.kind == "tail" else 1
    drawn = model.futures(seen[None], config.ahead, count, planned.seed)[:, 0]
    future = drawn[least_typical(model.whitening(drawn))] if planned.kind == "tail" else drawn[0]
    return torch.cat([seen, changed(future, seen[-1], planned, units_of(normal).float(), config.part)])


def least_typical(futures: Tensor) -> int:
    """Return which of futures (S, K, D) has the largest mean distance from the others."""
    rows = futures.flatten(1).double()
    return int(torch.cdist(rows, rows).mean(dim=1).argmax())


def changed(future: Tensor, last: Tensor, planned: Planned, units: Tensor, part: int) -> Tensor:
    """Return a future (K, D) after frame `last` (D,), changed as planned."""
    if planned.first is None:
        return future
    which = slice(planned.first, planned.first + part)
    steps = torch.arange(1, len(future) + 1, dtype=future.dtype)[:, None]
    result = future.clone()
    amount, period = planned.amount or 0.0, planned.period or 1.0
    if planned.kind == "freeze":
        result[:, which] = last[which]
    elif planned.kind == "drift":
        result[:, which] += amount * units[which] * steps
    else:
        result[:, which] += amount * units[which] * torch.sin(2 * torch.pi * steps / period)
    return result


def _part(seen: np.ndarray, units: np.ndarray, part: int, random: np.random.Generator) -> int:
    """Draw a part by how much its numbers moved in frames (N, D), in their units."""
    moved = (np.abs(np.diff(seen, axis=0)) / units).mean(axis=0).reshape(-1, part).mean(axis=1) + 1e-6
    return part * int(random.choice(len(moved), p=moved / moved.sum()))


def _amount(kind: Kind, random: np.random.Generator) -> float | None:
    if kind == "drift":
        return float(_log_uniform(_DRIFTS, random)) * float(random.choice([-1, 1]))
    return float(_log_uniform(_SWINGS, random)) if kind == "shake" else None


def _log_uniform(bounds: Sequence[float], random: np.random.Generator) -> Any:
    return np.exp(random.uniform(*np.log(bounds)))
