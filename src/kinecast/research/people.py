"""People as the unit: means over people, how they spread, the worst, and intervals bootstrapped by person and clip.

Windows of one clip are not independent, and clips of one person hardly are. So a figure is first averaged over the
windows of each person, then over people, every person alike; and an interval is drawn by resampling people, and within
each drawn person their clips (the bootstrap of nested data: Davison & Hinkley 1997, section 3.8). Two models are
compared on the same draws, as the mean over people of the ratio of their figures: where its interval holds 1, the
difference is not resolved.

Notation: W windows, P people, R resamples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from kinecast.data.video_folder import PERSON_PATTERN, person_of
from kinecast.errors import KinecastError

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure over people: mean, standard deviation over people, the largest with its person, and an interval."""

    mean: float
    deviation: float
    worst: float
    worst_person: str
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """One model against another: the mean over people of the ratio of their figures minus 1, with its interval.

    `resolved` is whether the interval leaves 0 out; `worse` the share of people of whom the ratio is above 1.
    """

    mean: float
    low: float
    high: float
    resolved: bool
    worse: float
    worst: float
    worst_person: str

    def __str__(self) -> str:
        text = f"{100 * self.mean:+.1f} % [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return text if self.resolved else f"{text}, not resolved"


class People:
    """The people behind windows, and the draws that all figures of a table share.

    Example:
        people = People(windows.clips)
        people.estimate(errors), people.difference(errors, errors_of_another_model)
    """

    def __init__(
        self, clips: Sequence[str], pattern: str = PERSON_PATTERN, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        """Take the clip (W) that each window is from; the person is in its name, as in `split_by_person`.

        Raises:
            KinecastError: no windows.
        """
        if not len(clips):
            raise KinecastError("people: expected at least one window, found none")
        owner = {clip: person_of(clip, pattern) for clip in dict.fromkeys(clips)}
        self.names = sorted(set(owner.values()))
        self.clips = [[clip for clip in owner if owner[clip] == name] for name in self.names]
        place = {clip: i for i, clip in enumerate(clip for of in self.clips for clip in of)}
        self._clip_of = np.array([place[clip] for clip in clips])
        self._sizes = np.bincount(self._clip_of, minlength=len(place)).astype(float)
        ends = np.cumsum([len(of) for of in self.clips])
        self._spans = [slice(end - len(of), end) for end, of in zip(ends, self.clips, strict=True)]
        random = np.random.default_rng(seed)
        count = len(self.names)
        self._who = random.integers(count, size=(resamples, count))
        self._column = random.integers(resamples, size=(resamples, count))
        self._weights = [
            random.multinomial(len(of), np.full(len(of), 1 / len(of)), size=resamples).astype(float)
            for of in self.clips
        ]

    def means(self, values: np.ndarray) -> np.ndarray:
        """Return the mean of values (W,) over the windows of each person, (P,)."""
        sums = self._sums(values)
        return np.array([sums[span].sum() / self._sizes[span].sum() for span in self._spans])

    def estimate(self, values: np.ndarray) -> Estimate:
        """Return the estimate for values (W,), larger being worse."""
        means = self.means(values)
        low, high = _interval(self._resampled(values).mean(axis=1))
        worst = int(means.argmax())
        return Estimate(float(means.mean()), _deviation(means), float(means[worst]), self.names[worst], low, high)

    def difference(self, values: np.ndarray, others: np.ndarray) -> Difference | None:
        """Return values (W,) of one model against those of another; None where the other's are 0 for someone."""
        mine, theirs = self.means(values), self.means(others)
        if (theirs <= 0).any():
            return None
        ratio = mine / theirs
        again = self._resampled(others)
        if (again <= 0).any():
            return None
        low, high = _interval((self._resampled(values) / again).mean(axis=1) - 1)
        worst = int(ratio.argmax())
        return Difference(
            mean=float(ratio.mean()) - 1,
            low=low,
            high=high,
            resolved=not low <= 0 <= high,
            worse=float((ratio > 1).mean()),
            worst=float(ratio[worst]) - 1,
            worst_person=self.names[worst],
        )

    def interval_of(self, figure: Callable[..., np.ndarray], *values: np.ndarray) -> tuple[float, float, float]:
        """Return a figure of several columns (W,) and its interval.

        `figure` takes the people's means of each column, (..., P), and returns one number for each row, (...).
        """
        low, high = _interval(figure(*(self._resampled(column) for column in values)))
        return float(figure(*(self.means(column) for column in values))), low, high

    @property
    def unit(self) -> str:
        """What intervals are over, in words."""
        clips = sum(len(of) for of in self.clips)
        if len(self.names) == 1:
            return f"the {clips} clips of one person, {self.names[0]}: they say nothing about other people"
        return f"{len(self.names)} people, and the {clips} clips within them"

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._clip_of, weights=np.asarray(values, dtype=float), minlength=len(self._sizes))

    def _resampled(self, values: np.ndarray) -> np.ndarray:
        """Return person means of resamples (R, P): drawn people, of each of whom clips are drawn."""
        sums = self._sums(values)
        drawn = np.stack(
            [w @ sums[s] / (w @ self._sizes[s]) for w, s in zip(self._weights, self._spans, strict=True)]
        )  # (P, R)
        return drawn[self._who, self._column]


def groups_of(people: Sequence[str], count: int, seed: int = 0) -> list[list[str]]:
    """Assign people at random to groups of nearly equal size, each held out once.

    Raises:
        KinecastError: fewer than 2 groups, or more than people.
    """
    names = sorted(set(people))
    if not 2 <= count <= len(names):
        raise KinecastError(f"folds: expected 2 to {len(names)} for as many people, found {count}")
    order = np.random.default_rng(seed).permutation(len(names))
    return [[names[i] for i in order[start::count]] for start in range(count)]


def _interval(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _deviation(means: np.ndarray) -> float:
    return float(means.std(ddof=1)) if len(means) > 1 else 0.0
