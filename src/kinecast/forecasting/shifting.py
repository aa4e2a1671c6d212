"""Common base of VAE and NF: a memoryless map from frame x_t to frame x_{t+k}, shifted along the window.

arXiv 2504.05537, section 3.2: k is at least the number n of observed frames, and each of the n inputs gives the value k
later. Here k = N of training, so that the N observed frames give exactly the next N, and no frame is left out between.
Cases the paper leaves open:

    H <= N    the first H of them
    H > N     forecast frames are inputs in their turn, each sample's own: x_{N+i} is drawn given its x_{N+i-k}
    N < k     of a shorter history than in training, frames before the first are taken to be equal to the first

The models give a distribution of each frame given one earlier frame. The joint distribution of the frames of one
forecast is not part of them: drawn independently (`noise` of `independent`, as the published formulas read), samples
jump from frame to frame; with `shared` one draw of the noise serves k frames in a row, and the distribution of each of
them, given the frame that it is drawn from, stays the same.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, M training windows, R rows, L
frames.
"""

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.normalize import Normalization, Normalizer, Units

Noise = Literal["shared", "independent"]
NOISES: tuple[str, ...] = ("shared", "independent")


class ShiftingForecaster(Forecaster):
    """A forecaster that reads one frame, k frames before the forecast one."""

    shift: Tensor  # k

    def __init__(self, motion_dim: int, config: ForecasterConfig, normalization: Normalization, noise: Noise) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, normalization)
        self.noise = noise
        self.register_buffer("shift", torch.tensor(0))  # not fitted

    @abstractmethod
    def pair_loss(self, frames: Tensor, later: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of pairs x_t and x_{t+k}, each (R, D) in units, and its parts."""

    @abstractmethod
    def draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x_{t+k} given x_t, both (R, L, D) in units; noise by `_normal`."""

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D), and k = N."""
        self.shift.fill_(self._split(windows, observed))
        self.normalizer.fit(windows)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of all pairs of frames k apart in the windows (B, T, D), in units of the window."""
        observed, k = self._split(batch, observed), self._fitted_shift()
        if batch.shape[1] <= k:
            raise KinecastError(
                f"{self.name}: expected windows of at least {k + 1} frames, one more than its shift, found "
                f"{batch.shape[1]}: use longer windows"
            )
        frames = self._units(self.normalizer(batch[:, :observed]), batch)
        total, parts = self.pair_loss(frames[:, :-k].flatten(0, 1), frames[:, k:].flatten(0, 1))
        return total, {name: part.detach() for name, part in parts.items()}

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        units, k = self.normalizer(observed), self._fitted_shift()
        frames = self._units(units, observed).repeat(samples, 1, 1)
        last = observed.shape[1] + horizon
        while frames.shape[1] < last:
            count = frames.shape[1]
            drawn = self.draw(self._earlier(frames, count, min(count + k, last)), generator)
            frames = torch.cat([frames, drawn], dim=1)
        forecast = frames[:, observed.shape[1] :].unflatten(0, (samples, -1))
        return self._raw(units, forecast)

    def _normal(self, frames: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Return standard normal noise (R, L, size) for frames (R, L, D)."""
        length = 1 if self.noise == "shared" else frames.shape[1]
        noise = torch.randn(len(frames), length, size, generator=generator, device=frames.device, dtype=frames.dtype)
        return noise.expand(-1, frames.shape[1], -1)

    def _earlier(self, frames: Tensor, start: int, stop: int) -> Tensor:
        """Return from (R, T, D) the frames k before those from `start` to `stop`, or the first one if there is none."""
        index = torch.arange(start, stop, device=frames.device) - self._fitted_shift()
        return frames[:, index.clamp_min(0)]

    def _units(self, units: Units, frames: Tensor) -> Tensor:
        return (frames - units.shift) / units.scale

    def _raw(self, units: Units, frames: Tensor) -> Tensor:
        return units.shift + units.scale * frames

    def _fitted_shift(self) -> int:
        k = int(self.shift)
        if k < 1:
            raise self._not_fitted()
        return k
