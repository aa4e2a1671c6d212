import pytest
import torch

from ar_motion import ar_series
from kinecast.data.video_folder import person_of
from kinecast.data.windows import (
    Horizon,
    evaluation_windows,
    parse_horizon,
    split_by_person,
    training_windows,
    window_count,
)
from kinecast.errors import KinecastError

CLIP = {"id1_a": torch.arange(11.0).view(11, 1)}


def test_horizons_are_read() -> None:
    assert parse_horizon(" 6-24 ") == Horizon(6, 24) == (6, 24)
    assert str(Horizon(6, 24)) == "6-24" and Horizon(6, 24).frames == 30


@pytest.mark.parametrize("text", ["12", "12-", "-12", "0-6", "6-0", "a-b", "6-6-6", "1.5-2", ""])
def test_other_horizons_are_refused(text: str) -> None:
    with pytest.raises(KinecastError, match="expected OBSERVED-FORECAST frames, such as 12-12"):
        parse_horizon(text)


def test_evaluation_windows_do_not_overlap() -> None:
    windows = evaluation_windows(CLIP, Horizon(3, 2))
    assert windows.frames[..., 0].tolist() == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert windows.observed[0, :, 0].tolist() == [0, 1, 2] and windows.truth[1, :, 0].tolist() == [8, 9]


def test_training_windows_slide_and_stay_inside_their_clip() -> None:
    windows = training_windows(CLIP | {"id2_b": torch.full((6, 1), 100.0)}, Horizon(3, 2), stride=3)
    assert windows.frames[:, 0, 0].tolist() == [0, 3, 6, 100]
    assert windows.clips == ["id1_a"] * 3 + ["id2_b"]
    assert (windows.frames.amax(dim=(1, 2)) - windows.frames.amin(dim=(1, 2)) <= 4).all()
    with pytest.raises(KinecastError, match="stride of at least 1, found 0"):
        training_windows(CLIP, Horizon(3, 2), stride=0)


def test_short_clips_are_refused_with_the_fix() -> None:
    with pytest.raises(
        KinecastError, match="the clip has 11 frames; horizon 12-12 needs at least 24: choose a shorter"
    ):
        evaluation_windows(CLIP, Horizon(12, 12))
    with pytest.raises(KinecastError, match="the longest of 6 clips has 55 frames"):
        evaluation_windows(ar_series(), Horizon(50, 50))


@pytest.mark.parametrize("validate", ["id0", "id[12]", "^id2$"])
def test_no_person_is_on_both_sides(validate: str) -> None:
    series = ar_series()
    training, kept_out = split_by_person(series, validate)
    people = [{person_of(clip) for clip in side} for side in (training, kept_out)]
    assert not people[0] & people[1] and people[0] | people[1] == {"id0", "id1", "id2"}
    assert training | kept_out == series


def test_names_without_a_person_are_their_own() -> None:
    training, kept_out = split_by_person({"walk": torch.zeros(3, 1), "run": torch.zeros(3, 1)}, "run")
    assert set(training) == {"walk"} and set(kept_out) == {"run"}


def test_the_person_may_be_read_by_another_pattern() -> None:
    series = {"a-anna": torch.zeros(3, 1), "b-anna": torch.zeros(3, 1), "c-bert": torch.zeros(3, 1)}
    training, kept_out = split_by_person(series, "anna", pattern=r"-(\w+)$")
    assert set(training) == {"c-bert"} and set(kept_out) == {"a-anna", "b-anna"}


@pytest.mark.parametrize("validate", ["nobody", "id"])
def test_a_split_without_two_sides_is_refused(validate: str) -> None:
    with pytest.raises(KinecastError, match="expected it to match some persons and not all.*persons are id0, id1, id2"):
        split_by_person(ar_series(), validate)


def test_broken_patterns_are_refused() -> None:
    with pytest.raises(KinecastError, match=r"validate '\(': expected a regular expression"):
        split_by_person(ar_series(), "(")
    with pytest.raises(KinecastError, match="with a group"):
        split_by_person(ar_series(), "id0", pattern="id")


def test_windows_of_every_second_frame_span_twice_as_many() -> None:
    clip = {"a": torch.arange(20.0).view(20, 1)}
    windows = evaluation_windows(clip, Horizon(3, 2), every=2)
    assert windows.frames[..., 0].tolist() == [[0, 2, 4, 6, 8], [10, 12, 14, 16, 18]]
    assert window_count(20, Horizon(3, 2), 2) == 2 and window_count(18, Horizon(3, 2), 2) == 1
    assert [window_count(n, Horizon(3, 2)) for n in (4, 5, 9, 10)] == [0, 1, 1, 2]
    trained = training_windows(clip, Horizon(3, 2), every=3).frames[..., 0]
    assert trained[1].tolist() == [1, 4, 7, 10, 13] and len(trained) == 8
    with pytest.raises(KinecastError, match="horizon 6-6, one frame in 2, needs at least 23"):
        evaluation_windows(clip, Horizon(6, 6), every=2)
    with pytest.raises(KinecastError, match="expected every frame, or one in several, found one in 0"):
        evaluation_windows(clip, Horizon(6, 6), every=0)
