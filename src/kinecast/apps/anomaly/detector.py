"""A scorer with thresholds from normal clips: frames in, verdicts out, one at a time.

    fit, normal = split_normal(clips, share=0.5, seed=0)
    scorer = train_scorer(fit, ScorerConfig(), seed=0)
    detector = Detector.calibrate(scorer, normal, Rates(frame=0.05, clip=0.1))
    for verdict in detector.watch(frames): ...

Notation: T frames, N observed, K frames ahead, D numbers per frame.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.anomaly.conformal import check_count, clip_threshold, frame_threshold
from kinecast.apps.anomaly.scorer import LATE, ForecastScorer, ScorerConfig, Whitening
from kinecast.data.video_folder import person_of
from kinecast.data.windows import Series
from kinecast.errors import KinecastError
from kinecast.forecasting import Forecaster, forecaster_class
from kinecast.training.forecaster import ForecasterTrainingConfig, train_forecaster

# Whitened motion has one scale and one source: a joint state in training units learns how its numbers correlate, while
# the default (one state per number, in units of the window) is made to generalise to other people.
GRU_NF_OVERRIDES: Mapping[str, Any] = {
    "channels": "joint",
    "identity": 0,
    "hidden": 64,
    "flow_hidden": 48,
    "normalization": "training",
}


@dataclass(frozen=True)
class Rates:
    """Guaranteed false-alarm rates: of a normal clip's frames, and of normal clips as a whole."""

    frame: float = 0.05
    clip: float = 0.1

    def check(self, clips: int) -> None:
        """Check that a number of calibration clips can guarantee both, before training.

        Raises:
            KinecastError: they cannot.
        """
        check_count(clips, self.frame)
        check_count(clips, self.clip)


@dataclass(frozen=True)
class Threshold:
    """Thresholds of one score: scores above `frame` or `clip` are alarms at the rate per frame or per clip."""

    frame: float
    clip: float


@dataclass(frozen=True)
class Verdict:
    """The result for a frame on its arrival. `scores` has the scores that enough frames were seen for."""

    frame: int
    scores: Mapping[str, float]
    frame_alarms: tuple[str, ...]  # scores above their per-frame threshold
    clip_alarms: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"frame": self.frame, **self.scores, **{k: list(getattr(self, k)) for k in _ALARMS}}


_ALARMS = ("frame_alarms", "clip_alarms")


class Scorer(Protocol):
    """The interface of scorers: `ForecastScorer` and the baselines have it."""

    def score_series(self, series: Tensor) -> dict[str, np.ndarray]:
        """Return scores (T,) by name, NaN where there is none."""

    def watch(self, frames: Iterable[Tensor]) -> Iterator[Mapping[str, float]]:
        """Yield the scores of each frame as it comes."""


class Detector:
    """A scorer with thresholds and the number of clips behind them."""

    def __init__(
        self, scorer: Scorer, thresholds: Mapping[str, Threshold], rates: Rates, clips: int, longest: int
    ) -> None:
        self.scorer, self.thresholds, self.rates = scorer, dict(thresholds), rates
        self.clips, self.longest = clips, longest

    @classmethod
    def calibrate(cls, scorer: Scorer, normal: Series, rates: Rates) -> Self:
        """Set thresholds from normal clips (T, D) that the scorer was not fitted on: see `conformal` for the guarantee.

        Raises:
            KinecastError: too few clips for the rates, or clips too short for a score.
        """
        collected: dict[str, list[np.ndarray]] = {}
        for motion in normal.values():
            for name, scores in scorer.score_series(motion).items():
                collected.setdefault(name, []).append(scores[~np.isnan(scores)])
        thresholds = {
            name: Threshold(frame_threshold(clips, rates.frame), clip_threshold(clips, rates.clip))
            for name, clips in collected.items()
        }
        longest = max((len(motion) for motion in normal.values()), default=0)
        if not thresholds:
            raise KinecastError("calibration: expected normal clips, found none: add clips")
        return cls(scorer, thresholds, rates, len(normal), longest)

    @property
    def primary(self) -> str:
        """The primary score, for the main alarm: the first score of frames that have arrived."""
        return next((name for name in LATE if name in self.thresholds), next(iter(self.thresholds)))

    def watch(self, frames: Iterable[Tensor]) -> Iterator[Verdict]:
        """Yield a verdict for each frame (D,) as it comes, causally and in constant memory."""
        for number, scores in enumerate(self.scorer.watch(frames)):
            above = {
                level: tuple(name for name, score in scores.items() if score > getattr(self.thresholds[name], level))
                for level in ("frame", "clip")
            }
            yield Verdict(number, dict(scores), above["frame"], above["clip"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: thresholds, and their guarantee with its conditions."""
        return {
            "thresholds": {name: asdict(threshold) for name, threshold in self.thresholds.items()},
            "primary": self.primary,
            "rates": asdict(self.rates),
            "calibration_clips": self.clips,
            "longest_calibration_clip": self.longest,
            "promise": (
                f"for each score alone, alarms in at most {self.rates.frame:g} of a new normal clip's frames, and in "
                f"at most {self.rates.clip:g} of new normal clips of at most {self.longest} frames, on average over "
                f"calibrations with {self.clips} clips, if these and the new clip are exchangeable"
            ),
        }


def split_normal(clips: Series, share: float, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the clips for fitting and those for calibration; all clips of one person are on one side.

    Raises:
        KinecastError: a share outside (0, 1), or fewer than two persons (clips, where names name no person).
    """
    people = sorted({person_of(name) for name in clips})
    if not 0 < share < 1 or len(people) < 2:
        raise KinecastError(
            f"normal clips: expected a fit share between 0 and 1, and at least 2 clips of different persons; "
            f"found {share} and {len(people)}: add clips"
        )
    order = np.random.default_rng(seed).permutation(len(people))
    count = min(max(1, round(share * len(people))), len(people) - 1)
    fitted = {people[i] for i in order[:count]}
    sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    for name, motion in clips.items():
        sides[person_of(name) not in fitted][name] = motion
    return sides


def cut(clips: Series, frames: int) -> dict[str, Tensor]:
    """Cut clips into pieces of `frames` frames, `name.0`, `name.1`, ...; remainders are dropped.

    Pieces of one recording resemble each other: the guarantee then covers new pieces, not new recordings.
    """
    if frames < 2:
        raise KinecastError(f"cut: expected pieces of at least 2 frames, found {frames}")
    return {
        f"{name}.{i}": motion[i * frames : (i + 1) * frames]
        for name, motion in clips.items()
        for i in range(len(motion) // frames)
    }


def train_scorer(
    fit: Series, config: ScorerConfig, model: str = "gru-nf", steps: int = 300, seed: int = 0
) -> ForecastScorer:
    """Train a forecaster on whitened normal motion and return it as a scorer.

    Raises:
        KinecastError: an unknown forecaster, or clips shorter than N + K.
    """
    whitening = Whitening.of(fit)
    training = ForecasterTrainingConfig(
        model=model,
        overrides=GRU_NF_OVERRIDES if model == "gru-nf" else {},
        observed=max(config.observed, forecaster_class(model).min_observed),
        forecast=config.ahead,
        steps=steps,
        amplitude=0.0,  # scaled motion would not be normal
        seed=seed,
    )
    trained = train_forecaster({name: whitening(motion) for name, motion in fit.items()}, training).model
    trained.about = {"anomaly": whitening.to_dict(), "clips": sorted(fit), "training": asdict(training)}
    return ForecastScorer(trained, whitening, config, whitened=True)


def scorer_of(model: Forecaster, fit: Series, config: ScorerConfig) -> ForecastScorer:
    """Return a trained forecaster as a scorer: one from `train_scorer`, or any of raw motion."""
    if saved := model.about.get("anomaly"):
        return ForecastScorer(model, Whitening.from_dict(saved), config, whitened=True)
    return ForecastScorer(model, Whitening.of(fit), config, whitened=False)


def frames_of(motion: Tensor) -> Iterator[Tensor]:
    """Yield the frames (D,) of motion (T, D), as a stream would."""
    yield from torch.unbind(motion)
