"""Thresholds keep the promised rate on exchangeable clips, and refuse to promise what too few clips cannot give."""

import numpy as np
import pytest

from kinecast.apps.anomaly.conformal import clip_threshold, frame_threshold, least_clips
from kinecast.errors import KinecastError


def clips_of(random: np.random.Generator, count: int) -> list[np.ndarray]:
    """Clips of unequal lengths and levels: frames of a clip are far from independent."""
    return [3 * random.normal() + random.normal(size=random.integers(3, 9)) for _ in range(count)]


@pytest.mark.parametrize(("count", "rate"), [(19, 0.05), (30, 0.1), (9, 0.25)])
def test_the_promise_holds_and_is_not_wasted(count: int, rate: float) -> None:
    random = np.random.default_rng(1)
    clip_alarms, frame_alarms = [], []
    for _ in range(1500):
        *normal, new = clips_of(random, count + 1)
        clip_alarms.append(new.max() > clip_threshold(normal, rate))
        frame_alarms.append((new > frame_threshold(normal, rate)).mean())
    error = 3 * np.sqrt(rate * (1 - rate) / 1500)
    for alarms in (clip_alarms, frame_alarms):
        assert rate - 1 / (count + 1) - error <= np.mean(alarms) <= rate + error


def test_the_clip_threshold_is_an_order_statistic() -> None:
    clips = [np.array([0.0, float(i)]) for i in range(1, 20)]
    assert clip_threshold(clips, 0.05) == 19.0  # 20 * 0.95 = 19: the largest of 19
    assert clip_threshold(clips, 0.1) == 18.0
    assert clip_threshold(clips[:9], 0.1) == 9.0


def test_the_frame_threshold_weighs_clips_and_not_frames() -> None:
    long, short = np.zeros(1000), np.ones(1)
    # Of three clips to come and the mass at infinity each weighs a quarter, however long it is.
    assert frame_threshold([long, short, 2 * short], 0.5) == 1.0
    assert frame_threshold([long, short, 2 * short], 0.25) == 2.0


@pytest.mark.parametrize("threshold", [clip_threshold, frame_threshold])
def test_what_cannot_be_promised_is_refused(threshold) -> None:
    clips = [np.arange(3.0)] * 18
    assert least_clips(0.05) == 19 and least_clips(0.1) == 9 and least_clips(0.3) == 3
    with pytest.raises(KinecastError, match="at least 19 normal clips for a false-alarm rate of 0.05, found 18"):
        threshold(clips, 0.05)
    with pytest.raises(KinecastError, match="between 0 and 1"):
        threshold(clips, 0.0)
    with pytest.raises(KinecastError, match="too short for one, or NaN"):
        threshold([*clips, np.array([])], 0.1)
    with pytest.raises(KinecastError, match="too short for one, or NaN"):
        threshold([*clips, np.array([np.nan])], 0.1)
