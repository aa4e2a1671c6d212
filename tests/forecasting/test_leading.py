"""A forecaster of the first numbers of a frame, the others held."""

import pytest
import torch

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.leading import Leading


def test_the_first_numbers_are_forecast_as_they_are_alone_and_the_rest_are_held() -> None:
    model = build_forecaster("climatology", 3)
    model.fit(ar_windows(20, 8, 3), 5)
    observed = ar_windows(2, 5, 5)
    longer = Leading(model.eval(), 5).eval()
    found = longer.forecast(observed, 3, samples=4, seed=2)
    assert torch.equal(found[..., :3], model.forecast(observed[..., :3], 3, samples=4, seed=2))
    assert torch.equal(found[..., 3:], observed[:, -1:, 3:].expand(4, 2, 3, 2))
    assert torch.equal(longer.median(observed, 3)[..., :3], model.median(observed[..., :3], 3))
    assert longer.exact_median and not longer.deterministic and longer.name == "climatology"


def test_motion_of_fewer_numbers_is_refused() -> None:
    with pytest.raises(KinecastError, match="expected motion of at least 3 numbers, found 2"):
        Leading(build_forecaster("repeat", 3), 2)
