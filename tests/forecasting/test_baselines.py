import pytest
import torch

from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.baselines import Baseline

LINE = torch.arange(5.0).view(1, 5, 1)  # 0 1 2 3 4


def test_repeat_holds_the_last_frame() -> None:
    assert build_forecaster("repeat", 1).forecast(LINE, 3).flatten().tolist() == [4, 4, 4]


def test_velocity_goes_on() -> None:
    assert build_forecaster("velocity", 1).forecast(LINE, 3).flatten().tolist() == [5, 6, 7]


def test_damped_velocity_finds_the_damping_of_the_training_windows() -> None:
    phi = 0.625
    velocity = torch.randn(20, 1, 3)
    reach = torch.tensor([phi**i for i in range(1, 6)]).cumsum(0).view(1, 5, 1)
    windows = torch.cat([-velocity, torch.zeros(20, 1, 3), reach * velocity], dim=1) + torch.randn(20, 1, 3)
    model = build_forecaster("damped", 3)
    model.fit(windows, 2)
    assert float(model.get_buffer("phi")) == pytest.approx(phi, abs=1e-3)
    torch.testing.assert_close(model.forecast(windows[:, :2], 5)[0], windows[:, 2:], atol=5e-3, rtol=0)


def test_damping_is_the_one_of_least_squares() -> None:
    windows = torch.randn(30, 6, 2).cumsum(dim=1)
    model = build_forecaster("damped", 2)
    model.fit(windows, 3)

    def error(phi: float) -> float:
        model.get_buffer("phi").fill_(phi)
        return float((model.forecast(windows[:, :3], 3)[0] - windows[:, 3:]).square().mean())

    best = float(model.get_buffer("phi"))
    assert error(best) <= min(error(phi) for phi in torch.linspace(0, 1, 101).tolist()) + 1e-6


def test_climatology_draws_whole_trajectories_of_the_bank() -> None:
    windows = torch.randn(8, 7, 2)
    model = build_forecaster("climatology", 2, bank_size=5)
    model.fit(windows, 3)
    bank = windows[:, 3:] - windows[:, 2:3]
    drawn = model.forecast(windows[:2, :3], 4, samples=50) - windows[:2, 2:3]
    distances = (drawn.unsqueeze(2) - bank.view(1, 1, 8, 4, 2)).abs().amax(dim=(3, 4))
    assert (distances.amin(dim=2) < 1e-5).all()
    assert len(distances.argmin(dim=2).unique()) == 5  # the bank's size
    assert model.forecast(windows[:2, :3], 2, samples=3).shape == (3, 2, 2, 2)


def test_climatologys_centre_is_the_median_of_an_even_bank() -> None:
    windows = torch.cat([torch.zeros(4, 2, 1), torch.tensor([0.0, 1, 3, 9]).view(4, 1, 1)], dim=1)
    model = build_forecaster("climatology", 1, bank_size=4)
    model.fit(windows, 2)
    assert isinstance(model, Baseline)
    assert float(model._central(windows[:1, :2], 1)) == 2


def test_a_horizon_beyond_the_bank_is_refused() -> None:
    model = build_forecaster("climatology", 2)
    model.fit(torch.randn(8, 7, 2), 3)
    with pytest.raises(KinecastError, match="expected a horizon of at most 4, what it was fitted for, found 5"):
        model.forecast(torch.zeros(1, 3, 2), 5)


@pytest.mark.parametrize("name", ["damped", "climatology"])
def test_unfitted_baselines_say_how_to_fit_them(name: str) -> None:
    with pytest.raises(KinecastError, match=f"kinecast train forecaster --model {name}"):
        build_forecaster(name, 2).forecast(torch.zeros(1, 3, 2), 2)
