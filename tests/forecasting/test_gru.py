"""What the GRU is trained by: true frames read, as published, or its own predictions, as a forecast runs."""

from typing import Any

import torch

from ar_motion import ar_windows
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.gru import GRUForecaster

N = 6


def build(preset: str) -> Any:
    torch.manual_seed(1)
    model = build_forecaster("gru", 4, preset, hidden=8, read_out=8)
    assert isinstance(model, GRUForecaster)
    model.fit(ar_windows(30, 10), N)
    with torch.no_grad():  # away from the start, where the head is about 0 and forecasts are damped velocity
        for parameter in model.head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def test_the_loss_is_of_its_own_predictions_fed_back() -> None:
    model, batch = build("kinecast"), ar_windows(8, 10)
    units = model.normalizer(batch[:, :N])
    with torch.no_grad():
        loss, _ = model.loss(batch, N)
        state = model._encode(units, batch[:, :N])
        forced = model._run(units, state, batch[:, :N], batch[:, N:], feed_back=False)
        free = model.forecast(batch[:, :N], 4)[0]
        errors = [((read - batch[:, N:]) / units.step).abs().mean() for read in (forced, free)]
    assert not torch.isclose(*errors)
    torch.testing.assert_close(loss, errors[1])


def test_with_true_frames_read_an_error_is_not_carried_on() -> None:
    """A frame changed by much changes what is predicted after it, but only where true frames are read."""
    batch = ar_windows(3, 10)
    changed = batch.clone()
    changed[:, N] += 1
    with torch.no_grad():
        for preset, reads in (("paper", True), ("kinecast", False)):
            model = build(preset)
            later = [
                model._run(
                    units := model.normalizer(b[:, :N]),
                    model._encode(units, b[:, :N]),
                    b[:, :N],
                    b[:, N:],
                    feed_back=model.config.rollout,
                )
                for b in (batch, changed)
            ]
            assert torch.equal(later[0][:, :1], later[1][:, :1])
            assert torch.equal(later[0][:, 1:], later[1][:, 1:]) != reads
