"""The linear baselines against what they are to find."""

import pytest
import torch

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.linear import VAR


def test_a_vector_autoregression_finds_the_matrix_and_the_noise_of_its_process() -> None:
    random = torch.Generator().manual_seed(0)
    matrix = torch.tensor([[0.5, 0.3], [-0.2, 0.4]])
    increments = torch.zeros(400, 12, 2)
    for t in range(1, 12):
        increments[:, t] = increments[:, t - 1] @ matrix + 0.1 * torch.randn(400, 2, generator=random)
    windows = increments.cumsum(dim=1)
    model = build_forecaster("var", 2, penalty=1e-6, lags=1)
    assert isinstance(model, VAR)
    model.fit(windows, 6)
    step = model.normalizer.step
    in_raw = model.get_buffer("weight")[0] / step.view(-1, 1) * step
    torch.testing.assert_close(in_raw, matrix, atol=0.05, rtol=0)
    samples = model.forecast(windows[:1, :6], 1, samples=2000)[:, 0, 0]
    expected = windows[0, 5] + increments[0, 5] @ matrix
    torch.testing.assert_close(samples.mean(dim=0), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(samples.std(dim=0), torch.full((2,), 0.1), atol=0.02, rtol=0)


def test_an_autoregression_that_would_explode_is_drawn_in() -> None:
    windows = 1.3 ** torch.arange(12.0).view(1, 12, 1) * torch.randn(50, 1, 2)
    model = build_forecaster("var", 2, penalty=1e-6)
    model.fit(windows, 6)
    held = windows[:, :6]
    assert (model.forecast(held, 400)[0] - held[:, -1:]).abs().amax() < 500 * windows.abs().amax()


def test_ridge_finds_what_the_increments_tell_and_without_it_is_damped_velocity() -> None:
    windows = torch.randn(300, 6, 2).cumsum(dim=1)
    told = windows[:, 1] - windows[:, 0]  # an increment that damped velocity does not look at
    windows = torch.cat([windows[:, :4], windows[:, 3:4] + torch.stack([told, 2 * told], dim=1)], dim=1)
    model = build_forecaster("ridge", 2, penalty=1e-6)
    model.fit(windows[:200], 4)
    forecast = model._central(windows[200:, :4], 2)  # type: ignore[operator]
    assert (forecast - windows[200:, 4:]).abs().amax() < 0.05
    damped, ridge = build_forecaster("damped", 2), build_forecaster("ridge", 2, penalty=1e9)
    for other in (damped, ridge):
        other.fit(windows, 4)
    expected = damped.forecast(windows[:, :4], 2)[0]
    central = ridge._central(windows[:, :4], 2)  # type: ignore[operator]
    torch.testing.assert_close(central, expected, atol=1e-4, rtol=1e-4)


def test_ridge_goes_on_beyond_what_it_was_fitted_for() -> None:
    model = build_forecaster("ridge", 4)
    model.fit(ar_windows(40, 10), 6)
    observed = ar_windows(2, 6)
    assert model.forecast(observed, 11, samples=3).shape == (3, 2, 11, 4)
    assert model.forecast(observed[:, :3], 4, samples=2).shape == (2, 2, 4, 4)


@pytest.mark.parametrize("name", ["ridge", "var"])
def test_unfitted_they_say_how_to_fit_them(name: str) -> None:
    with pytest.raises(KinecastError, match=f"kinecast train forecaster --model {name}"):
        build_forecaster(name, 2).forecast(torch.zeros(1, 3, 2), 2)
