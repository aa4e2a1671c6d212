"""One codec against others on the same people: rate saved, who is nearer at a rate, and what more rate gives.

People are the unit, each with one clip; intervals are of 95 %, bootstrapped over people.

Notation: R ratios or differences, one a person. A point is rate and distortion, less of which is better.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kinecast.research.bjontegaard import Points, distortion_at, envelope
from kinecast.research.people import LEVEL, RESAMPLES

Verdict = Literal["ours", "other", "unable", "unknown"]
_FEWEST = 3  # people, of whom an interval is drawn


@dataclass(frozen=True)
class Mean:
    """A mean over people with its interval (NaN for fewer than three people), and how many they are."""

    value: float
    low: float
    high: float
    people: int

    def percent(self) -> str:
        """Return it in percent."""
        text = f"{100 * self.value:+.0f} %"
        return text if np.isnan(self.low) else f"{text} ({100 * self.low:+.0f} to {100 * self.high:+.0f})"


def mean_ratio(changes: Sequence[float]) -> Mean | None:
    """Return the geometric mean of relative changes (R,), each above -1: half and double are none. None of no one.

    >>> mean_ratio([-0.5, 1.0]).value
    0.0
    """
    if not changes:
        return None
    logs = np.log1p(np.asarray(changes, float))
    if len(logs) < _FEWEST:
        return Mean(float(np.expm1(logs.mean())), np.nan, np.nan, len(logs))
    drawn = np.random.default_rng(0).integers(len(logs), size=(RESAMPLES, len(logs)))
    ends = np.quantile(logs[drawn].mean(axis=1), ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    value, low, high = np.expm1([logs.mean(), *ends]).tolist()
    return Mean(value, low, high, len(logs))


def nearer(ours: tuple[float, float], theirs: Points) -> Verdict:
    """Return who is nearer to the truth at the rate of our point.

    Where the other has no setting of so low a rate, we win if even its coarsest, for more rate, is further off, and it
    is "unable" otherwise. Where all its settings take less, it wins if its finest is nearer; otherwise the answer is
    "unknown", since it has rate left to spend.
    """
    rate, distortion = ours
    curve = envelope(theirs)
    if rate < curve[0][0]:
        return "ours" if distortion < curve[0][1] else "unable"
    other = distortion_at(theirs, rate)
    if other is None:
        return "unknown" if distortion < curve[-1][1] else "other"
    return "ours" if distortion < other else "other"


def complete(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows (`clip`, `curve`, `setting`) of settings that count, of clips that have all of their curve's.

    A run that was ended early leaves settings that few clips have: those of fewer than all but one of a curve's clips
    do not count, so that all people's curves have the same settings.
    """
    rows = list(rows)
    counts = Counter((row["curve"], row["setting"]) for row in rows)
    most = defaultdict[str, int](int)
    for (curve, _), count in counts.items():
        most[curve] = max(most[curve], count)
    rows = [row for row in rows if counts[row["curve"], row["setting"]] >= max(most[row["curve"]] - 1, 1)]
    wanted, found = defaultdict[str, set[str]](set), defaultdict[tuple[str, str], set[str]](set)
    for row in rows:
        wanted[row["curve"]].add(row["setting"])
        found[row["curve"], row["clip"]].add(row["setting"])
    return [row for row in rows if found[row["curve"], row["clip"]] == wanted[row["curve"]]]
