import numpy as np
import pytest

from kinecast.codec.filling import damped, hold
from kinecast.errors import KinecastError
from kinecast.fillers import filler_names, load_filler, load_fillers, of_forecaster
from kinecast.forecasters import build_forecaster


def test_names_are_those_without_weights_and_those_of_the_zoo():
    assert filler_names()[:2] == ["hold", "damped"] and "gru" in filler_names()
    assert load_filler("damped", 60) is damped
    assert set(load_fillers(None, 60)) == set(filler_names())
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


def test_foreign_names_and_sizes_are_refused():
    with pytest.raises(KinecastError, match="forecast 'nobody': expected hold, damped"):
        load_filler("nobody", 60)
    with pytest.raises(KinecastError, match="60"):
        load_filler("gru", 6)
