"""The transformer: what it reads, what it takes from other numbers, and that its intervals are calibrated."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
from kinecast.forecasting.transformer import Transformer

N, H, D = 6, 4, 3


def fitted(**changes: Any) -> Transformer:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 8, "heads": 2, "layers": 1, "members": 2, "bank_size": 64, "absolute": False}
    model = build_forecaster("transformer", D, **(sizes | changes))
    assert isinstance(model, Transformer)
    model.fit(ar_windows(80, N + H, D), N)
    return model.eval()


def located(model: Transformer, observed: Tensor) -> Tensor:
    with torch.no_grad():
        return model.marginals(observed, H).location


def awake(model: Transformer) -> Transformer:
    """Give the read-outs weight, which start near 0."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("head.weight"):
                parameter.normal_(generator=torch.Generator().manual_seed(5))
    return model


def test_it_starts_from_damped_velocity() -> None:
    model, observed = fitted(), ar_windows(5, N, D)
    reach = (0.4 ** torch.arange(1, H + 1)).cumsum(dim=0).view(1, -1, 1)
    damped = observed[:, -1:] + reach * (observed[:, -1:] - observed[:, -2:-1])
    assert (located(model, observed) - damped).abs().mean() < 0.3 * (damped - observed[:, -1:]).abs().mean()


def test_a_window_moved_as_a_whole_is_forecast_moved_alike_unless_it_is_told_its_place() -> None:
    observed, away = ar_windows(4, N, D), torch.tensor([0.5, -0.2, 1.0])
    for absolute in (False, True):
        model = awake(fitted(absolute=absolute))
        alike = torch.allclose(located(model, observed + away), located(model, observed) + away, atol=1e-5)
        assert alike is not absolute


def test_numbers_look_at_each_other() -> None:
    model, observed = awake(fitted()), ar_windows(1, N, D)
    other = observed.clone()
    other[:, 1, 2] += 0.02  # the third number, in the past
    assert not torch.allclose(located(model, other)[..., 0], located(model, observed)[..., 0], atol=1e-6)


def test_of_more_frames_than_it_reads_the_last_count() -> None:
    model, observed = awake(fitted(reads=4)), ar_windows(2, N, D)
    assert torch.equal(located(model, observed), located(model, observed[:, -4:]))
    assert not torch.allclose(located(model, observed), located(model, observed[:, -3:]))


def test_after_calibration_intervals_cover_what_they_say_and_the_median_stays() -> None:
    model = fitted(bank_size=400)
    windows = torch.randn(400, N + H, D, generator=torch.Generator().manual_seed(1)).cumsum(dim=1)
    model.normalizer.fit(windows)

    def covered() -> float:
        samples = model.forecast(windows[:100, :N], H, samples=400)
        low, high = samples.quantile(0.1, dim=0), samples.quantile(0.9, dim=0)
        return float(((windows[:100, N:] >= low) & (windows[:100, N:] <= high)).float().mean())

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(".own"):
                parameter[:, parameter.shape[1] // 2 :] += 1.0  # scales that are 2.7 times too wide
    before = covered()
    model.calibrate(windows, N)
    assert before > 0.9 and covered() == pytest.approx(0.8, abs=0.03)
    with torch.no_grad():
        marginals = model.marginals(windows[:1, :N], H)
    median = model.forecast(windows[:1, :N], H, samples=4000).median(dim=0).values
    assert ((median - marginals.location).abs() < 0.1 * marginals.scale).all()


def test_samples_go_together_as_residuals_did() -> None:
    model, observed = fitted(), ar_windows(1, N, D)
    samples = model.forecast(observed, H, samples=3000)[:, 0]
    signed = torch.cat([model.bank, -model.bank]).float()
    found, kept = (torch.corrcoef(each.flatten(1).T) for each in (samples, signed))
    torch.testing.assert_close(found, kept, rtol=0, atol=0.1)
    assert found[0, D] > 0.5  # the first number, one frame and two frames ahead


def test_the_bank_and_its_settings_travel_in_the_file(tmp_path: Path) -> None:
    model = fitted(bank_size=16, absolute=True)
    save_forecaster(model, tmp_path / "t.safetensors")
    loaded = load_forecaster_file(tmp_path / "t.safetensors")
    assert isinstance(loaded, Transformer) and torch.equal(loaded.bank, model.bank) and loaded.config.absolute
    observed = ar_windows(2, N, D)
    assert torch.equal(loaded.forecast(observed, H, 3), model.forecast(observed, H, 3))


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(KinecastError, match="expected width a multiple of its 3 heads, found 8"):
        build_forecaster("transformer", D, width=8, heads=3)
    with pytest.raises(KinecastError, match="expected a fitted forecaster, found none"):
        build_forecaster("transformer", D).forecast(ar_windows(1, N, D), 2)
