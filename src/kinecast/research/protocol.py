"""The two named protocols of every evaluation of forecasts, see docs/results/keypoints-as-released.md.

honest: free-running; a model sees the window's N observed frames and what it learnt from the training people, and
    normalises by these alone. All of kinecast's claims use it.
as-released: the released code's reading, to compare with published figures. Windows are scaled by the minimum and
    maximum of the observed frames of *all* windows of their video, later ones included, and the network reads the
    true frame after each step that it predicts. It is not a forecast: repeating the previous true frame comes within 4
    to 15 % of it.

Notation: W windows, N observed, H horizon, D numbers per frame, S samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinecast.data.windows import Horizon, Series, Windows, evaluation_windows
from kinecast.errors import KinecastError
from kinecast.forecasting import build_forecaster
from kinecast.forecasting.vrnn_released import ReleasedVRNN

PROTOCOLS = ("honest", "as-released")
RELEASED_SAMPLES = 50
RELEASED_PHI = {Horizon(6, 6): 0.44, Horizon(12, 12): 0.43}  # of damped velocity, fitted to the released series
_CHUNK = 2048  # rows (samples of windows) at a time


@dataclass(frozen=True)
class ReleasedRow:
    """Mean absolute error over the forecast frames of all windows: in per-video min-max units, and raw units."""

    name: str
    reads_future: bool
    normalised: float
    raw: float


@dataclass(frozen=True)
class VideoScale:
    """Per-video min-max, as released: low end and extent of each window's video, (W, 1, D)."""

    low: Tensor
    extent: Tensor

    @staticmethod
    def of(windows: Windows) -> "VideoScale":
        """Take it from the observed frames of all windows of each clip: of later windows too, so never honest."""
        lows, extents = torch.empty_like(windows.frames[:, :1]), torch.empty_like(windows.frames[:, :1])
        clips = {clip: [i for i, name in enumerate(windows.clips) if name == clip] for clip in windows.clips}
        for rows in clips.values():
            observed = windows.observed[rows].flatten(0, 1)
            lows[rows] = observed.amin(dim=0)
            extents[rows] = observed.amax(dim=0) - observed.amin(dim=0)
        return VideoScale(lows, extents.clamp_min(1e-8))

    def scale(self, frames: Tensor) -> Tensor:
        """Raw motion (W, T, D) to min-max units."""
        return (frames - self.low) / self.extent

    def unscale(self, frames: Tensor) -> Tensor:
        """Min-max units (..., W, T, D) to raw motion."""
        return frames * self.extent + self.low


def released_samples(model: ReleasedVRNN, windows: Windows, samples: int, seed: int) -> Tensor:
    """Return the released "forecast" (S, W, H, D) in raw units. It has read the future and is not comparable."""
    scale, generator = VideoScale.of(windows), torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        outputs = model.as_released(scale.scale(windows.frames), windows.horizon.observed, samples, generator)
    return scale.unscale(outputs[:, :, windows.horizon.observed :])


def released_free_running(model: ReleasedVRNN, windows: Windows, samples: int, seed: int) -> Tensor:
    """Return the mean of S free-running samples (W, H, D) in raw units, windows scaled by video as released."""
    scale, generator = VideoScale.of(windows), torch.Generator().manual_seed(seed)
    observed = scale.scale(windows.observed)
    size = max(1, _CHUNK // samples)
    with torch.inference_mode():
        parts = [
            model.free_running(part.repeat(samples, 1, 1), windows.horizon.forecast, generator)
            .unflatten(0, (samples, -1))
            .mean(dim=0)
            for part in observed.split(size)
        ]
    return scale.unscale(torch.cat(parts))


def released_table(
    series: Series,
    models: Mapping[Horizon, ReleasedVRNN],
    horizon: Horizon,
    phi: float,
    samples: int = RELEASED_SAMPLES,
    seed: int = 0,
) -> tuple[list[ReleasedRow], int]:
    """Return the rows of the released VRNN, as released and free-running, and of baselines, and W, over all windows.

    `phi` is the damping of the damped-velocity row.

    Raises:
        KinecastError: there are no released weights for the horizon.
    """
    if horizon not in models:
        raise KinecastError(f"as-released: expected released weights for horizon {horizon}, found {_names(models)}")
    model, windows = models[horizon], evaluation_windows(series, horizon)
    scale = VideoScale.of(windows)
    repeat = build_forecaster("repeat", model.motion_dim)
    damped = build_forecaster("damped", model.motion_dim)
    damped.get_buffer("phi").fill_(phi)
    forecasts = {
        "VRNN released, as released": released_samples(model, windows, samples, seed).mean(dim=0),
        "previous true frame": windows.frames[:, horizon.observed - 1 : -1],
        "VRNN released, free-running": released_free_running(model, windows, samples, seed),
        "repeat last frame": repeat.forecast(windows.observed, horizon.forecast)[0],
        f"damped velocity, phi {phi:g}": damped.forecast(windows.observed, horizon.forecast)[0],
    }
    future = {"VRNN released, as released", "previous true frame"}
    rows = []
    for name, forecast in forecasts.items():
        error = (forecast - windows.truth).abs()
        rows.append(ReleasedRow(name, name in future, float((error / scale.extent).mean()), float(error.mean())))
    return rows, len(windows.frames)


def _names(models: Mapping[Horizon, ReleasedVRNN]) -> str:
    return ", ".join(map(str, models)) or "none"
