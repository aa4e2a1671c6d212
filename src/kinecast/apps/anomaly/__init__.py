"""Anomaly detection: how unlikely a clip's motion is, given a forecaster of normal motion."""

from kinecast.apps.anomaly.conformal import clip_threshold, frame_threshold, least_clips
from kinecast.apps.anomaly.detector import (
    Detector,
    Rates,
    Threshold,
    Verdict,
    cut,
    frames_of,
    scorer_of,
    split_normal,
    train_scorer,
)
from kinecast.apps.anomaly.scorer import EARLY, LATE, ForecastScorer, ScorerConfig, Whitening

__all__ = [
    "EARLY",
    "LATE",
    "Detector",
    "ForecastScorer",
    "Rates",
    "ScorerConfig",
    "Threshold",
    "Verdict",
    "Whitening",
    "clip_threshold",
    "cut",
    "frame_threshold",
    "frames_of",
    "least_clips",
    "scorer_of",
    "split_normal",
    "train_scorer",
]
