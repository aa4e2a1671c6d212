from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ar_motion import ar_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster, vrnn_released
from kinecast.forecasting.storage import load_forecaster_file
from kinecast.forecasting.vrnn_released import ReleasedVRNN


def small() -> ReleasedVRNN:
    torch.manual_seed(1)
    model = build_forecaster("vrnn-released", 4, hidden=8, latent=3, fc=8)
    assert isinstance(model, ReleasedVRNN)
    return model.eval()


@pytest.mark.parametrize("horizon", ["6-6", "12-12"])
def test_released_weights_reproduce_the_reference(
    data_folder: Path, horizon: str, record_property: Callable[[str, object], None]
) -> None:
    model = load_forecaster_file(data_folder / f"forecasters/vrnn_vox_{horizon}.safetensors")
    assert isinstance(model, ReleasedVRNN)
    with np.load(data_folder.parent / "reference/vrnn_vox.npz") as reference:
        windows = torch.from_numpy(reference[f"input_{horizon}"])
        expected = torch.from_numpy(reference[f"teacher_forced_{horizon}"])
    with torch.inference_mode():
        difference = float((model.as_released(windows, windows.shape[1] // 2)[0] - expected).abs().max())
    record_property("measured", f"vrnn_vox {horizon} against the released weights' reference: {difference:.1e}")
    assert difference < 1e-5


def test_sizes_are_read_off_the_tensors() -> None:
    model = small()
    copy = ReleasedVRNN.from_state_dict(model.state_dict())
    assert copy.config == model.config and copy.motion_dim == 4
    observed = ar_windows(2, 6)
    assert torch.equal(copy.forecast(observed, 3), model.forecast(observed, 3))


def test_missing_and_foreign_tensors_are_named() -> None:
    state = small().state_dict()
    with pytest.raises(KinecastError, match="decoder.fc2.weight"):
        ReleasedVRNN.from_state_dict({k: v for k, v in state.items() if k != "decoder.fc2.weight"})
    with pytest.raises(KinecastError, match=r"prior_net\.fc1\.bias"):
        ReleasedVRNN.from_state_dict({k: v for k, v in state.items() if k != "prior_net.fc1.bias"})
    with pytest.raises(KinecastError, match="wings"):
        ReleasedVRNN.from_state_dict(state | {"wings": torch.zeros(1)})


def test_as_released_reads_the_future_and_the_honest_forecast_does_not() -> None:
    model = small()
    windows = ar_windows(3, 10)
    changed = windows.clone()
    changed[:, 7] += 1
    with torch.inference_mode():
        read, read_changed = model.as_released(windows, 6)[0], model.as_released(changed, 6)[0]
    assert torch.equal(read[:, :8], read_changed[:, :8]) and not torch.equal(read[:, 8:], read_changed[:, 8:])
    assert torch.equal(model.forecast(windows[:, :6], 4), model.forecast(changed[:, :6], 4))


def test_samples_as_released_share_one_state_and_free_running_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    windows = ar_windows(1, 6)

    def stray(offsets: list[torch.Tensor]) -> None:
        """Let the k-th draw be its mean plus the k-th offset."""
        following = iter(offsets)
        monkeypatch.setattr(vrnn_released, "_draw", lambda distribution, generator: distribution.mean + next(following))

    still, pushed = torch.zeros(1, 1), torch.full((1, 1), 3.0)
    with torch.inference_mode():
        stray([still] * 12)  # two draws a frame
        calm = model.as_released(windows, 4, samples=2)
        stray([still] * 8 + [pushed] + [still] * 3)  # the first sample of the first forecast frame
        strayed = model.as_released(windows, 4, samples=2)
        assert not torch.equal(strayed[0, :, 4], calm[0, :, 4])
        assert torch.equal(strayed[:, :, 5], calm[:, :, 5])  # is forgotten: the state went on with the last sample

        stray([still] * 4 + [torch.cat([pushed, still])] + [still] * 2)
        free = model.free_running(windows[:, :4].repeat(2, 1, 1), 3, torch.Generator())
    assert all(not torch.equal(free[0, t], free[1, t]) for t in range(3))  # each sample's own state carries it on
