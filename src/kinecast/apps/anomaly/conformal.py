"""Thresholds with a stated false-alarm rate: split conformal quantiles of the scores of normal clips.

Alarms are scores above a threshold. With n calibration clips, none of which the scorer was fitted on:

    per clip    threshold = the ceil((n + 1)(1 - rate))-th smallest of the clips' largest scores.
                P(any alarm in a new clip) <= rate.   Vovk et al. 2005; Lei et al. 2018
    per frame   threshold = the (1 - rate)-quantile of all scores, each of clip i's T_i frames weighing 1 / ((n + 1)
    T_i), and 1 / (n + 1) at infinity for the new clip.
                P(alarm in a frame drawn from a new clip) <= rate.   Lee, Barber & Willett 2023, arXiv 2306.06342

Both hold for any scorer and any n if the new clip and the calibration clips are exchangeable: normal clips of one
source, of similar lengths, in any order. Frames of one clip are not exchangeable with each other, and need not be. The
probability is over the calibration clips too: the rate of one calibration varies about it, by 0.02 with n = 100 clips
and a rate of 0.05. For an endless stream only the rate per frame is meaningful.
"""

import math
from collections.abc import Sequence

import numpy as np

from kinecast.errors import KinecastError


def clip_threshold(clips: Sequence[np.ndarray], rate: float) -> float:
    """Return the threshold per clip of scores (T_i,) of n clips.

    Raises:
        KinecastError: too few clips for the rate, a clip without a score, or NaN.
    """
    _check(clips, rate)
    largest = np.sort([scores.max() for scores in clips])
    # Rounded before the ceiling: 20 * 0.95 is 19, not 19.000000000000004.
    return float(largest[math.ceil(round((len(clips) + 1) * (1 - rate), 9)) - 1])


def frame_threshold(clips: Sequence[np.ndarray], rate: float) -> float:
    """Return the threshold per frame of scores (T_i,) of n clips.

    Raises:
        KinecastError: as `clip_threshold`.
    """
    _check(clips, rate)
    scores = np.concatenate(clips)
    weights = np.concatenate([np.full(len(clip), 1 / ((len(clips) + 1) * len(clip))) for clip in clips])
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order])
    return float(scores[order][np.searchsorted(reached, 1 - rate - 1e-9)])


def least_clips(rate: float) -> int:
    """Return the minimum number of clips that can guarantee a rate."""
    return math.ceil(round(1 / rate, 9)) - 1


def check_count(count: int, rate: float) -> None:
    """Check that a number of clips can guarantee a rate, before hours are spent on a scorer.

    Raises:
        KinecastError: they cannot, or the rate is invalid.
    """
    if not 0 < rate < 1:
        raise KinecastError(f"false-alarm rate: expected a number between 0 and 1, found {rate}")
    if count < least_clips(rate):
        raise KinecastError(
            f"calibration: expected at least {least_clips(rate)} normal clips for a false-alarm rate of {rate:g}, "
            f"found {count}: add clips, or allow more false alarms"
        )


def _check(clips: Sequence[np.ndarray], rate: float) -> None:
    check_count(len(clips), rate)
    for scores in clips:
        if not len(scores) or np.isnan(scores).any():
            raise KinecastError(
                "calibration: expected a score for each clip, found a clip too short for one, or NaN: "
                "use longer clips, or observe fewer frames"
            )
