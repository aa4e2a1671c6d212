"""Scores look at nothing later, streams and whole series agree, and a broken motion stands out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kinecast.apps.anomaly import (
    Detector,
    ForecastScorer,
    Rates,
    ScorerConfig,
    Whitening,
    cut,
    frames_of,
    scorer_of,
    split_normal,
    train_scorer,
)
from kinecast.apps.anomaly.baselines import BASELINES
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster

CONFIG = ScorerConfig(observed=5, ahead=3, samples=16)
RATES = Rates(frame=0.1, clip=0.1)


def swinging(count: int, frames: int = 24, seed: int = 0) -> dict[str, Tensor]:
    """Three numbers of a pendulum of unequal rates; the third is a function of the others."""
    random = torch.Generator().manual_seed(seed)
    series = {}
    for i in range(count):
        rate, start = 0.3 + 0.1 * torch.rand(1, generator=random), 6.3 * torch.rand(1, generator=random)
        steps = rate + 0.02 * torch.randn(frames, generator=random)
        phase = start + steps.cumsum(dim=0)
        series[f"swing-{i:02d}"] = torch.stack([phase.sin(), phase.cos(), phase.sin() + phase.cos()], dim=1)
    return series


def stopped(motion: Tensor, onset: int) -> Tensor:
    """The first number stays where it was before the onset: a jam."""
    jammed = motion.clone()
    jammed[onset:, 0] = motion[onset - 1, 0]
    return jammed


@pytest.fixture(scope="module")
def scorer() -> ForecastScorer:
    return train_scorer(swinging(24, seed=1), CONFIG, steps=40)


@pytest.fixture(scope="module")
def detector(scorer: ForecastScorer) -> Detector:
    return Detector.calibrate(scorer, swinging(20, seed=2), RATES)


def test_names_and_frames_that_have_scores(scorer: ForecastScorer) -> None:
    scores = scorer.score_series(swinging(1)["swing-00"])
    first = {name: int(np.argmin(np.isnan(values))) for name, values in scores.items()}
    assert first == {"nll": 5, "distance": 7, "dispersion": 4, "leaving": 4}
    assert all(np.isfinite(values[first[name] :]).all() for name, values in scores.items())
    assert all(np.isnan(values).all() for values in scorer.score_series(torch.zeros(5, 3)).values())


def test_a_stream_is_causal_and_agrees_with_the_whole_series(scorer: ForecastScorer) -> None:
    motion = swinging(1, seed=5)["swing-00"]
    rows = list(scorer.watch(frames_of(motion)))
    other = torch.cat([motion[:15], 9 + motion[15:]])
    assert list(scorer.watch(frames_of(other)))[:15] == rows[:15]  # bit for bit: the future is not looked at
    whole = scorer.score_series(motion)
    for name, values in whole.items():
        known = [t for t, row in enumerate(rows) if name in row]
        assert known == list(np.flatnonzero(~np.isnan(values)))
        streamed = np.array([rows[t][name] for t in known])
        if name == "nll":
            np.testing.assert_allclose(streamed, values[known], rtol=1e-3, atol=1e-3)
        else:  # other samples
            assert abs(streamed.mean() - values[known].mean()) < 0.5 * values[known].mean() + 0.1


def test_a_stream_asks_for_no_frame_before_it_has_spoken_of_the_last(detector: Detector) -> None:
    taken = []

    def camera() -> Iterator[Tensor]:
        for t, frame in enumerate(swinging(1)["swing-00"]):
            taken.append(t)
            yield frame

    for verdict in detector.watch(camera()):
        assert taken[-1] == verdict.frame


def test_a_jam_is_found_after_its_onset_and_not_before(detector: Detector) -> None:
    onset = 14
    found = []
    for motion in swinging(6, seed=7).values():
        plain = list(detector.watch(frames_of(motion)))
        verdicts = list(detector.watch(frames_of(stopped(motion, onset))))
        assert [v.to_dict() for v in verdicts[:onset]] == [v.to_dict() for v in plain[:onset]]
        largest = max(v.scores["nll"] for v in verdicts[onset:])
        assert largest > max(v.scores["nll"] for v in plain if "nll" in v.scores)
        found.append(any("nll" in v.clip_alarms for v in verdicts[onset:]))
    assert sum(found) >= 5
    assert detector.primary == "nll"


def test_leaving_warns_as_early_as_the_forecast_sees() -> None:
    """Constant velocity is right about a straight line: its K = 3 frames ahead cross the range three frames early."""
    scorer = scorer_of(build_forecaster("velocity", 3), swinging(20), CONFIG)
    line = torch.arange(24)[:, None] * torch.tensor([0.1, 0.1, 0.2])
    outside = scorer.whitening.leaves(scorer.whitening(line)[:, None])
    left = int(outside.float().argmax())
    assert CONFIG.observed + 3 < left < 20
    told = [row.get("leaving", 0.0) for row in scorer.watch(frames_of(line))]
    assert told[: left - 3] == [0.0] * (left - 3) and told[left - 3 :] == [1.0] * (24 - left + 3)
    np.testing.assert_array_equal(scorer.score_series(line)["leaving"][4:], told[4:])


def test_whitened_increments_have_covariance_one() -> None:
    series = swinging(20)
    whitening = Whitening.of({name: motion[:, :2] for name, motion in series.items()})
    steps = torch.cat([whitening(motion[:, :2]).diff(dim=0) for motion in series.values()])
    torch.testing.assert_close(steps.T @ steps / len(steps), torch.eye(2), atol=1e-3, rtol=0)
    restored = Whitening.from_dict(whitening.to_dict())
    assert torch.equal(restored(series["swing-00"][:, :2]), whitening(series["swing-00"][:, :2]))


def test_a_saved_scorer_scores_alike(scorer: ForecastScorer, tmp_path: Path) -> None:
    save_forecaster(scorer.model, tmp_path / "model.safetensors")
    loaded = load_forecaster_file(tmp_path / "model.safetensors")
    again = scorer_of(loaded, {}, CONFIG)
    motion = swinging(1, seed=3)["swing-00"]
    for name, values in scorer.score_series(motion).items():
        np.testing.assert_array_equal(again.score_series(motion)[name], values)
    assert loaded.about["clips"] == sorted(swinging(24))


@pytest.mark.parametrize("name", ["velocity", "damped", "climatology"])
def test_forecasters_without_a_density_have_distances(name: str) -> None:
    clips = swinging(20)
    model = build_forecaster(name, 3)
    model.fit(torch.stack(list(clips.values())), 12)
    scorer = scorer_of(model, clips, CONFIG)
    assert scorer.names == ("distance", "dispersion", "leaving")
    detector = Detector.calibrate(scorer, swinging(20, seed=4), RATES)
    assert detector.primary == "distance"
    verdicts = list(detector.watch(frames_of(stopped(swinging(1, seed=6)["swing-00"], 14))))
    assert {"distance", "dispersion", "leaving"} == set(verdicts[-1].scores)
    with pytest.raises(KinecastError, match="has no density"):
        scorer_of(model, clips, ScorerConfig(samples=0))


@pytest.mark.parametrize("name", list(BASELINES))
def test_baselines_are_causal_and_see_a_jump(name: str) -> None:
    scorer = BASELINES[name].fit(swinging(20))
    motion = swinging(1, seed=8)["swing-00"].clone()
    calm = scorer.score_series(motion)[name]
    assert np.isnan(calm[: scorer.memory]).all() and np.isfinite(calm[scorer.memory :]).all()
    motion[15] += 1.0
    seen = scorer.score_series(motion)[name]
    np.testing.assert_array_equal(seen[:15], calm[:15])
    assert seen[15] > 5 * np.nanmax(calm)
    streamed = [row[name] for row in scorer.watch(frames_of(motion))]
    np.testing.assert_allclose(streamed, seen, rtol=1e-9)


def test_people_stay_on_one_side_and_pieces_are_whole() -> None:
    clips = {f"id{i // 3}_{i}": torch.zeros(10, 2) for i in range(12)}
    fit, rest = split_normal(clips, 0.5, seed=0)
    assert len(fit) == len(rest) == 6 and not {n[:3] for n in fit} & {n[:3] for n in rest}
    assert {n: len(m) for n, m in cut({"a": torch.zeros(10, 2), "b": torch.zeros(3, 2)}, 4).items()} == {
        "a.0": 4,
        "a.1": 4,
    }
    with pytest.raises(KinecastError, match="at least 2 clips of different persons"):
        split_normal({"one": torch.zeros(10, 2)}, 0.5, seed=0)
    with pytest.raises(KinecastError, match="at least 2 frames"):
        cut(clips, 1)


def test_clips_too_short_for_a_score_are_refused(scorer: ForecastScorer) -> None:
    with pytest.raises(KinecastError, match="too short for one"):
        Detector.calibrate(scorer, swinging(20, frames=5), RATES)
    with pytest.raises(KinecastError, match="observed and ahead"):
        ScorerConfig(observed=0)
