"""The direct forecaster: its marginals, its copula, and forecasts longer than it has read-outs for."""

from pathlib import Path

import pytest
import torch

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.direct import Direct
from kinecast.forecasting.marginals import Marginals
from kinecast.forecasting.objectives import fair_crps
from kinecast.forecasting.storage import load_forecaster_file, save_forecaster

N, H, D = 6, 4, 3


def fitted(longest: int = 24, bank_size: int = 64) -> Direct:
    torch.manual_seed(0)
    model = build_forecaster("direct", D, hidden=8, mlp=8, read_out=8, members=2, longest=longest, bank_size=bank_size)
    assert isinstance(model, Direct)
    model.fit(ar_windows(80, N + H, D), N)
    return model.eval()


def test_the_crps_in_closed_form_is_that_of_many_draws() -> None:
    marginals = Marginals(torch.tensor([[[0.3, -1.0]]]), torch.tensor([[[0.5, 2.0]]]))
    truth = torch.tensor([[[1.0, -1.2]]])
    probability = torch.rand(200_000, 1, 1, 2, generator=torch.Generator().manual_seed(1)).clamp(1e-6, 1 - 1e-6)
    torch.testing.assert_close(
        marginals.crps(truth), fair_crps(marginals.quantile(probability), truth), rtol=0.01, atol=0
    )


def test_quantiles_invert_the_laplace_distribution_function() -> None:
    probability = torch.tensor([0.01, 0.3, 0.5, 0.8, 0.999]).view(-1, 1, 1, 1)
    laplace = torch.distributions.Laplace(0.7, 1.3)
    found = Marginals(torch.full((1, 1, 1), 0.7), torch.full((1, 1, 1), 1.3)).quantile(probability)
    torch.testing.assert_close(laplace.cdf(found), probability, rtol=1e-4, atol=1e-5)


def test_samples_have_the_marginals_and_go_together_as_in_training() -> None:
    model = fitted()
    observed = ar_windows(1, N, D)
    samples = model.forecast(observed, H, samples=4000)[:, 0]
    with torch.no_grad():
        marginals = model.marginals(observed, H)
    median = samples.median(dim=0).values
    assert ((median - marginals.location[0]).abs() < 0.15 * marginals.scale[0]).all()
    inside = (samples - marginals.location[0]).abs() < marginals.scale[0] * torch.log(torch.tensor(5.0))
    torch.testing.assert_close(inside.float().mean(dim=0), torch.full((H, D), 0.8), rtol=0, atol=0.04)
    # Rank correlations of the samples, within a frame and over time, are those of the kept training windows.
    torch.testing.assert_close(
        torch.corrcoef(_ranks(samples).T), torch.corrcoef(_ranks(model.bank.float()).T), rtol=0, atol=0.08
    )
    assert torch.corrcoef(_ranks(samples).T)[0, D] > 0.6  # the first number, one frame and two frames ahead


def _ranks(samples: torch.Tensor) -> torch.Tensor:
    return samples.flatten(1).argsort(dim=0).argsort(dim=0).float()


def test_the_bank_holds_uniform_ranks() -> None:
    bank = fitted(bank_size=64).bank
    assert bank.shape == (64, H, D) and bank.dtype == torch.float16
    expected = ((torch.arange(64) + 0.5) / 64).to(torch.float16).view(-1, 1, 1).expand(-1, H, D)
    assert torch.equal(bank.sort(dim=0).values, expected)


def test_a_longer_forecast_begins_with_the_shorter_one_and_goes_on_from_it() -> None:
    model = fitted(longest=3)
    observed = ar_windows(2, N, D)
    longer = model.forecast(observed, 8, samples=300)
    assert longer.shape == (300, 2, 8, D)
    assert torch.equal(longer[:, :, :3], model.forecast(observed, 3, samples=300))
    jump = (longer[:, :, 3] - longer[:, :, 2]).abs().mean()
    apart = (longer[:, :, 3] - longer[torch.randperm(300), :, 2]).abs().mean()
    assert jump < 0.7 * apart  # the second block begins where its own sample is


def test_not_fitted_it_says_so() -> None:
    model = build_forecaster("direct", D)
    with pytest.raises(KinecastError, match="expected a fitted forecaster, found none"):
        model.forecast(ar_windows(1, N, D), 2)


def test_the_bank_travels_in_the_file(tmp_path: Path) -> None:
    model = fitted(bank_size=16)
    save_forecaster(model, tmp_path / "direct.safetensors")
    loaded = load_forecaster_file(tmp_path / "direct.safetensors")
    assert isinstance(loaded, Direct) and torch.equal(loaded.bank, model.bank)
