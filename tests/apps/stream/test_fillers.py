import numpy as np
import pytest
import torch

from kinecast.apps.stream.fillers import advised_filler, filler_names, load_filler, load_fillers, of_forecaster
from kinecast.codec.filling import damped, hold
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.baselines import RepeatLast
from kinecast.forecasting.median import sample_median
from kinecast.forecasting.storage import save_forecaster


class _Symmetric(RepeatLast):
    """Draws S numbers that lie evenly from 0 to 1."""

    name = "symmetric"
    deterministic = exact_median = False
    median = Forecaster.median

    def _sample(self, observed, horizon, samples, generator):
        spaced = torch.linspace(0, 1, samples).view(-1, 1, 1, 1)
        return spaced.expand(samples, len(observed), horizon, self.motion_dim)


def test_names_are_those_without_weights_and_those_of_the_zoo():
    assert filler_names()[:2] == ["hold", "damped"] and "gru" in filler_names()
    assert load_filler("damped", 60) is damped
    assert set(load_fillers(None, 60)) == set(filler_names()) - {"transformer-mesh"}
    assert "transformer-mesh" in load_fillers(None, 42)
    assert set(load_fillers(None, 6)) == {"hold", "damped"}  # bundled forecasters are of 60 numbers
    assert load_fillers(["damped"], 6) == {"hold": hold, "damped": damped}


def test_a_bundled_forecaster_expects_something_of_the_right_shape():
    forecast = load_filler("gru", 60)
    past = np.cumsum(np.full((12, 60), 0.01, np.float32), axis=0)
    ahead = forecast(past, 5)
    assert ahead.shape == (5, 60) and np.isfinite(ahead).all()
    assert np.array_equal(forecast(past, 5), ahead)  # sender and receiver expect the same


def test_too_short_a_past_is_held():
    forecast = of_forecaster(build_forecaster("velocity", 3))
    assert np.array_equal(forecast(np.ones((1, 3), np.float32), 2), np.ones((2, 3)))
    assert forecast(np.array([[0, 0, 0], [1, 1, 1]], np.float32), 2)[1].tolist() == [3, 3, 3]


def test_what_is_expected_of_samples_does_not_drift():
    """Of a process whose samples lie evenly about 0.5, the median is there, and not a sample below it."""
    forecast = of_forecaster(_Symmetric(2, ForecasterConfig()))
    assert np.abs(forecast(np.zeros((3, 2), np.float32), 40) - 0.5).max() < 1e-6


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_the_median_is_that_of_numpy(count):
    samples = torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(count))
    np.testing.assert_allclose(sample_median(samples).numpy(), np.median(samples.numpy(), axis=0), rtol=1e-6)


def test_a_stream_does_not_choose_where_files_are_read(tmp_path, monkeypatch):
    save_forecaster(build_forecaster("gru", 3), tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inner").mkdir()
    assert advised_filler("mine.safetensors", 3) is not None
    for name in (str(tmp_path / "mine.safetensors"), "inner/../mine.safetensors", "./mine.safetensors"):
        assert load_filler(name, 3) is not None and advised_filler(name, 3) is None
    assert advised_filler("nobody", 3) is None and advised_filler("mine.safetensors", 4) is None


def test_foreign_names_and_sizes_are_refused():
    with pytest.raises(KinecastError, match="forecast 'nobody': expected hold, damped"):
        load_filler("nobody", 60)
    with pytest.raises(KinecastError, match="60"):
        load_filler("gru", 6)
