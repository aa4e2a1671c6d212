import pytest
import torch
from torch import nn

from ar_motion import ar_windows
from kinecast.forecasting.features import Channels, MotionFeatures, RecurrentCell, hidden_layer, mlp
from kinecast.forecasting.normalize import Normalizer


@pytest.mark.parametrize(("channels", "identity"), [("joint", 0), ("shared", 0), ("shared", 3)])
@pytest.mark.parametrize("kind", ["training", "window"])
def test_frames_read_at_once_are_frames_read_one_by_one(channels: Channels, identity: int, kind: str) -> None:
    windows = ar_windows(3, 6)
    normalizer = Normalizer(4, kind)  # type: ignore[arg-type]
    normalizer.fit(windows)
    units, features = normalizer(windows), MotionFeatures(4, channels, identity)
    window, increments = features.unchanging(units, 3), windows.diff(dim=1) / units.step
    told = features(window, windows[:, 1:].transpose(0, 1), increments.transpose(0, 1))
    assert told.shape == (5, 3, features.channels, features.size)
    for t in range(5):
        torch.testing.assert_close(told[t], features(window, windows[:, 1 + t], increments[:, t]))
    other = features(window, windows[:, 1:].flip(1).transpose(0, 1), increments.transpose(0, 1))
    assert not torch.allclose(told, other)


@pytest.mark.parametrize("net", [mlp(5, 8, 3, 0.4), mlp(5, 8, 3, near_zero=True), hidden_layer(5, 8, 0.4)])
def test_a_chain_is_its_parts_called(net: nn.Sequential) -> None:
    inputs, expected = torch.randn(7, 5), None
    for training in (False, True):
        net.train(training)
        torch.manual_seed(0)
        found = net(inputs)
        torch.manual_seed(0)
        expected = inputs
        for part in net:
            expected = part(expected)
        torch.testing.assert_close(found, expected)
        found.sum().backward()
        assert all(p.grad is not None for p in net.parameters())


def test_a_chain_drops_out_in_training_only() -> None:
    net, inputs = hidden_layer(5, 200, 0.4), torch.randn(1, 5)
    assert (net.train()(inputs) == 0).sum() > 20
    assert not (net.eval()(inputs) == 0).any()


def test_the_cell_is_a_gru_cell_along_every_channel() -> None:
    cell, inputs, state = RecurrentCell(5, 8), torch.randn(2, 3, 5), torch.randn(2, 3, 8)
    found = cell(inputs, state)
    for channel in range(3):
        torch.testing.assert_close(found[:, channel], cell.cell(inputs[:, channel], state[:, channel]))
