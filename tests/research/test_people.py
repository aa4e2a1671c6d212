"""Intervals by person: what they are over, that they are paired, and that they cover."""

import numpy as np
import pytest

from kinecast.errors import KinecastError
from kinecast.research.people import People, groups_of

CLIPS = ["id1_a"] * 3 + ["id1_b"] + ["id2_a"] * 2


def test_every_person_counts_alike_whatever_their_windows() -> None:
    people = People(CLIPS)
    values = np.array([1.0, 1, 1, 5, 10, 20])
    assert people.names == ["id1", "id2"] and people.means(values).tolist() == [2, 15]
    found = people.estimate(values)
    assert found.mean == 8.5 and (found.worst, found.worst_person) == (15, "id2")
    assert found.deviation == pytest.approx(13 / 2**0.5)
    assert found.low < 3 and found.high >= 15  # both people drawn as either


def test_an_interval_over_people_is_wider_than_one_over_their_windows() -> None:
    random = np.random.default_rng(0)
    levels = random.normal(size=12)
    clips = [f"id{p}_c" for p in range(12) for _ in range(200)]
    values = np.repeat(levels, 200) + random.normal(size=2400)
    found = People(clips).estimate(values)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(1.96 * levels.std() / 12**0.5, rel=0.3)
    assert half > 4 * 1.96 * values.std() / 2400**0.5


def test_models_are_compared_on_the_same_draws() -> None:
    random = np.random.default_rng(1)
    clips = [f"id{p}_{c}" for p in range(20) for c in "ab" for _ in range(5)]
    hard = np.repeat(random.lognormal(sigma=1.0, size=20), 10)
    people = People(clips)
    better = people.difference(0.98 * hard, hard)
    assert better is not None and better.resolved and better.worse == 0
    assert (better.mean, better.low, better.high) == tuple(pytest.approx(-0.02) for _ in range(3))
    same = people.difference(hard * (1 + 0.1 * random.normal(size=200)), hard)
    assert same is not None and not same.resolved and "not resolved" in str(same)
    assert people.difference(hard, 0 * hard) is None


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    clips = [f"id{p}_{c}" for p in range(30) for c in "ab"]
    covered = 0
    for trial in range(150):
        level = np.repeat(random.normal(size=30), 2) + 0.5 * random.normal(size=60)
        found = People(clips, resamples=400, seed=trial).estimate(level)
        covered += found.low <= 0 <= found.high
    assert 0.88 < covered / 150 <= 1


def test_of_one_person_the_interval_is_of_their_clips_and_says_so() -> None:
    people = People(["id1_a", "id1_b", "id1_c"])
    found = people.estimate(np.array([1.0, 2, 6]))
    assert found.deviation == 0 and 1 <= found.low < 3 < found.high <= 6
    assert "one person, id1: they say nothing about other people" in people.unit
    assert People(CLIPS).unit == "2 people, and the 3 clips within them"
    with pytest.raises(KinecastError, match="expected at least one window"):
        People([])


def test_any_figure_of_several_columns_has_an_interval_on_the_same_draws() -> None:
    values = np.array([1.0, 1, 1, 5, 10, 20])
    people = People(CLIPS)
    share, low, high = people.interval_of(lambda a, b: a.mean(axis=-1) / b.mean(axis=-1), 3 * values, values)
    assert (share, low, high) == (3, pytest.approx(3), pytest.approx(3))
    mean, low, high = people.interval_of(lambda a: a.mean(axis=-1), values)
    found = people.estimate(values)
    assert (mean, low, high) == (found.mean, found.low, found.high)


def test_people_are_dealt_to_groups_once() -> None:
    people = [f"id{i}" for i in range(11)]
    groups = groups_of(people, 3)
    assert sorted(sum(groups, [])) == sorted(people) and {len(group) for group in groups} == {3, 4}
    assert groups == groups_of(people[::-1], 3) != groups_of(people, 3, seed=1)
    with pytest.raises(KinecastError, match="folds: expected 2 to 11 for as many people, found 12"):
        groups_of(people, 12)
