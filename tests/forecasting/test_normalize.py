import pytest
import torch

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting.normalize import Normalizer


def test_training_units_are_the_training_sets_whatever_the_window() -> None:
    windows = ar_windows(50, 10)
    normalizer = Normalizer(4, "training")
    normalizer.fit(windows)
    units = normalizer(7 * windows[:3, :5])
    frames = windows.flatten(0, 1)
    torch.testing.assert_close(units.shift[0, 0], frames.mean(dim=0))
    torch.testing.assert_close(units.scale[0, 0], frames.std(dim=0, correction=0))
    torch.testing.assert_close(units.step[0, 0], windows.diff(dim=1).square().mean(dim=(0, 1)).sqrt())
    assert units.level.eq(0).all()


def test_window_units_follow_the_windows_own_motion() -> None:
    windows = ar_windows(50, 10)
    normalizer = Normalizer(4, "window")
    normalizer.fit(windows)
    calm, lively = normalizer(windows[:3]), normalizer(10 * windows[:3])
    assert torch.equal(calm.shift, windows[:3, -1:])
    torch.testing.assert_close(lively.step / calm.step, torch.full((3, 1, 4), 10.0), rtol=0.05, atol=0)
    torch.testing.assert_close(calm.level.exp() * normalizer.step, calm.step)


def test_still_windows_and_single_frames_have_finite_units() -> None:
    normalizer = Normalizer(4, "window")
    normalizer.fit(ar_windows(50, 10))
    for observed in (torch.ones(2, 5, 4), torch.ones(2, 1, 4)):
        for unit in normalizer(observed):
            assert torch.isfinite(unit).all()
        assert (normalizer(observed).step > 0).all()


def test_numbers_that_never_move_in_training_do_not_blow_up() -> None:
    windows = ar_windows(50, 10)
    windows[..., 2] = 5.0
    normalizer = Normalizer(4, "training")
    normalizer.fit(windows)
    assert (normalizer.step > 0).all() and (normalizer.std > 0).all()


def test_statistics_are_saved_with_the_weights() -> None:
    normalizer = Normalizer(4, "training")
    normalizer.fit(ar_windows(50, 10))
    copy = Normalizer(4, "training")
    copy.load_state_dict(normalizer.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(copy(torch.zeros(1, 3, 4)), normalizer(torch.zeros(1, 3, 4)), strict=True)
    )


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(KinecastError, match="expected one of training, window; found 'video'"):
        Normalizer(4, "video")  # type: ignore[arg-type]
