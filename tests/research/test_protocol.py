from pathlib import Path

import pytest
import torch

from ar_motion import ar_series
from kinecast.data.keypoint_store import load_series
from kinecast.data.windows import Horizon, evaluation_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.storage import load_forecaster_file
from kinecast.forecasting.vrnn_released import ReleasedVRNN
from kinecast.research.protocol import RELEASED_PHI, VideoScale, released_table

SIX = Horizon(6, 6)
# What the released evaluation scores: min-max units and raw units; 6-6, the windows of id10291.
STATED = {
    "VRNN released, as released": (0.0296, None),
    "previous true frame": (0.0343, None),
    "VRNN released, free-running": (0.0826, None),
    "repeat last frame": (0.0834, None),
    "damped velocity, phi 0.44": (0.0804, None),
}


def released(dim: int = 4) -> ReleasedVRNN:
    torch.manual_seed(0)
    model = build_forecaster("vrnn-released", dim, hidden=8, latent=3, fc=8)
    assert isinstance(model, ReleasedVRNN)
    return model.eval()


def test_the_scale_is_that_of_the_observed_frames_of_all_windows_of_the_video() -> None:
    series = {"a": torch.tensor([0.0, 1, 50, 2, 3, 60]).view(6, 1), "b": torch.tensor([5.0, 7, 90]).view(3, 1)}
    windows = evaluation_windows(series, Horizon(2, 1))
    scale = VideoScale.of(windows)
    assert scale.low.flatten().tolist() == [0, 0, 5] and scale.extent.flatten().tolist() == [3, 3, 2]
    assert torch.equal(scale.unscale(scale.scale(windows.frames)), windows.frames)


def test_rows_that_read_the_future_are_marked() -> None:
    rows, windows = released_table(ar_series(), {SIX: released()}, SIX, phi=0.5, samples=3)
    assert windows == len(evaluation_windows(ar_series(), SIX).frames)
    assert {row.name for row in rows if row.reads_future} == {"VRNN released, as released", "previous true frame"}
    assert all(row.raw > 0 and row.normalised > 0 for row in rows)


def test_released_weights_of_another_horizon_are_refused() -> None:
    with pytest.raises(KinecastError, match="expected released weights for horizon 6-6, found 12-12"):
        released_table(ar_series(), {Horizon(12, 12): released()}, SIX, phi=0.5)


def test_stated_figures_are_reproduced(data_folder: Path) -> None:
    series = load_series(data_folder / "voxceleb/keypoints_fomm_vox256.npz")
    kept = {clip: motion for clip, motion in series.items() if clip.startswith("id10291")}
    model = load_forecaster_file(data_folder / "forecasters/vrnn_vox_6-6.safetensors")
    assert isinstance(model, ReleasedVRNN)
    rows, windows = released_table(kept, {SIX: model}, SIX, RELEASED_PHI[SIX])
    assert windows == 182
    for row in rows:
        print(f"{row.name}: {row.normalised:.4f}, stated {STATED[row.name][0]}")
        assert row.normalised == pytest.approx(STATED[row.name][0], abs=3e-4)
