"""Who moves the avatar? Closed-set identification of people from the 38 numbers of `mesh` alone.

An observer has seen one clip of each of N people, named, and then sees another one: whose is it? Numbers are taken as a
call sends them: "as they are" when the sender shows itself, retargeted onto a picture or a 3-D head when it does not.
Every clip is described by windows of a second; of each the means of the numbers, the deviations and those of the first
differences, or the last two alone.

Letters: T frames, F features, W windows of a clip.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kinecast.models.mesh.model import Mesh
from kinecast.motion import Motion

WINDOW, STEP = 25, 5  # frames
LEAST = 40  # frames of a clip


@dataclass(frozen=True)
class Clip:
    """One clip: whose it is, the recording that it was cut from, and its motion."""

    person: str
    recording: str
    motion: Motion


Sent = Callable[[Motion], np.ndarray]  # the numbers (T, D) that travel


def as_they_are(motion: Motion) -> np.ndarray:
    """Return the numbers of a sender that shows itself."""
    return motion.vectors().numpy()


def retargeted(model: Mesh, onto: Motion) -> Sent:
    """Return what a call sends for an avatar whose own motion is `onto` (1), from the clip's first frame on."""
    return lambda motion: model.retarget(onto, motion[0])(motion).vectors().numpy()


def with_means(windows: np.ndarray) -> np.ndarray:
    """Return features (W, F) of windows (W, WINDOW, D)."""
    return np.concatenate([windows.mean(axis=1), moves(windows)], axis=1)


def moves(windows: np.ndarray) -> np.ndarray:
    """Return features that no constant offset changes: how much each number varies, and how fast."""
    fast = np.diff(windows, axis=1).std(axis=1)
    return np.log(np.concatenate([windows.std(axis=1), fast], axis=1) + 1e-4)


EXPRESSION, POSE = slice(6, None), slice(0, 6)
OBSERVERS = {
    "logistic regression": lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
    "linear discriminant": lambda: make_pipeline(
        StandardScaler(), LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3)
    ),
}


def windows_of(numbers: np.ndarray) -> np.ndarray:
    """Return windows (W, WINDOW, D) of numbers (T, D)."""
    starts = range(0, len(numbers) - WINDOW + 1, STEP)
    return np.stack([numbers[start : start + WINDOW] for start in starts])


def identify(
    clips: Sequence[Clip], numbers: Mapping[int, np.ndarray], features: Callable[..., np.ndarray], of: slice
) -> dict[str, Any]:
    """Return by observer each person's share of clips that were named rightly, and the rank that they had.

    `numbers` (T, D) are those that travel, by the clips' `id`; the observer sees those `of` them.

    Each person's first clip is learnt from and the others are named, then the other way round: the last one is learnt
    from, and the first is named.
    """
    people = sorted({clip.person for clip in clips})
    described: dict[str, list[np.ndarray]] = {person: [] for person in people}
    for clip in clips:
        described[clip.person].append(features(windows_of(numbers[id(clip)][:, of])))
    rounds = [(0, slice(1, None)), (-1, slice(0, 1))]
    found: dict[str, dict[str, list[float]]] = {}
    for name, make in OBSERVERS.items():
        right: dict[str, list[float]] = {person: [] for person in people}
        ranks: list[float] = []
        for known, asked in rounds:
            seen = [described[person][known] for person in people]
            observer = make().fit(np.concatenate(seen), np.repeat(np.arange(len(people)), [len(w) for w in seen]))
            for i, person in enumerate(people):
                for windows in described[person][asked]:
                    score = observer.predict_log_proba(windows).clip(-30).sum(axis=0)
                    rank = 1 + int((score > score[i]).sum())
                    right[person].append(float(rank == 1))
                    ranks.append(rank)
        found[name] = {"by_person": [float(np.mean(right[person])) for person in people], "ranks": ranks}
    return found


def interval(values: Sequence[float], seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Return the mean over people and its interval of 95 %, resampling people."""
    array = np.asarray(values, float)
    picked = np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))
    low, high = np.quantile(array[picked].mean(axis=1), [0.025, 0.975])
    return float(array.mean()), float(low), float(high)
