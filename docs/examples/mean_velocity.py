"""A forecaster of one's own: the mean velocity of the observed frames, and residuals of training windows."""

import torch
from torch import Tensor

from kinecast.forecasting import FORECASTERS, Forecaster, ForecasterConfig


class MeanVelocity(Forecaster):
    """Continue the mean velocity; the spread is that of residual trajectories of the training windows."""

    name = "mean-velocity"
    presets = {"default": ForecasterConfig()}
    min_observed = 2
    kept = "residuals"  # a buffer whose number of windows the file tells
    residuals: Tensor

    def __init__(self, motion_dim: int, config: ForecasterConfig) -> None:
        super().__init__(motion_dim, config)
        self.register_buffer("residuals", torch.zeros(0, 1, motion_dim))

    def central(self, observed: Tensor, horizon: int) -> Tensor:
        """Forecast (B, H, D) from (B, N, D), without randomness."""
        velocity = observed.diff(dim=1).mean(dim=1, keepdim=True)
        steps = torch.arange(1, horizon + 1, device=observed.device).view(1, -1, 1)
        return observed[:, -1:] + steps * velocity

    def fit(self, windows: Tensor, observed: int) -> None:
        """Keep how far training windows (M, T, D) ended up from the central forecast."""
        observed = self._split(windows, observed)
        self.residuals = windows[:, observed:] - self.central(windows[:, :observed], windows.shape[1] - observed)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the squared error of the central forecast; there is nothing to learn by gradient."""
        observed = self._split(batch, observed)
        error = self.central(batch[:, :observed], batch.shape[1] - observed) - batch[:, observed:]
        squared = error.square().mean()
        return squared, {"squared": squared.detach()}

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        if len(self.residuals) == 0:
            raise self._not_fitted()
        chosen = torch.randint(len(self.residuals), (samples, len(observed)), generator=generator)
        residuals = self.residuals[chosen][:, :, :horizon]
        missing = horizon - residuals.shape[2]  # beyond the trained horizon the last residual stays
        if missing > 0:
            residuals = torch.cat((residuals, residuals[:, :, -1:].expand(-1, -1, missing, -1)), dim=2)
        return self.central(observed, horizon) + residuals


FORECASTERS[MeanVelocity.name] = MeanVelocity
