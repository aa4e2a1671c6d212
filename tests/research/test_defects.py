"""A small classifier of defects: it learns what can be learnt, from the sets it is given alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kinecast.apps.anomaly.scorer import Whitening
from kinecast.errors import KinecastError
from kinecast.research.anomaly import auroc
from kinecast.research.defects import ClassifierConfig, Labelled, train_classifier

CONFIG = ClassifierConfig(window=5, hidden=16, steps=200, batch=64)


def walks(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"{seed}-{i}": torch.randn(20, 2, generator=generator).cumsum(dim=0) for i in range(count)}


def stopped(count: int, seed: int) -> Labelled:
    """The second number stands still from frame 10 on."""
    clips = walks(count, seed)
    for motion in clips.values():
        motion[10:, 1] = motion[9, 1]
    return Labelled(clips, dict.fromkeys(clips, 10))


def test_it_tells_what_it_was_taught() -> None:
    normal, new = walks(12, 0), walks(10, 1)
    whitening = Whitening.of(normal)
    classifier = train_classifier("stops", [Labelled.normal(normal), stopped(12, 2)], whitening, CONFIG)
    plain = np.concatenate([classifier.score_series(m)["stops"][4:] for m in new.values()])
    odd = np.concatenate([classifier.score_series(m)["stops"][14:] for m in stopped(10, 3).clips.values()])
    assert auroc(odd, plain) > 0.85
    again = train_classifier("stops", [Labelled.normal(normal), stopped(12, 2)], whitening, CONFIG)
    series = next(iter(new.values()))
    np.testing.assert_array_equal(again.score_series(series)["stops"], classifier.score_series(series)["stops"])


def test_scores_are_causal_and_the_same_frame_by_frame() -> None:
    normal = walks(6, 0)
    classifier = train_classifier("s", [Labelled.normal(normal), stopped(6, 2)], Whitening.of(normal), CONFIG)
    series = walks(1, 5)["5-0"]
    scores = classifier.score_series(series)["s"]
    assert np.isnan(scores[:4]).all() and not np.isnan(scores[4:]).any()
    watched = [row.get("s", np.nan) for row in classifier.watch(iter(series))]
    np.testing.assert_allclose(watched, scores, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(classifier.score_series(series[:12])["s"][4:], scores[4:12])


def test_sets_without_a_defect_are_refused() -> None:
    normal = walks(3, 0)
    with pytest.raises(KinecastError, match="with and without a defect"):
        train_classifier("s", [Labelled.normal(normal)], Whitening.of(normal), CONFIG)
