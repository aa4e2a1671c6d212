"""A forecaster for motion of more numbers a frame than it knows: it forecasts the first ones, and the rest are held.

The mesh's motion has four numbers more, at its end, where its weights move background and shoulders as well.

Notation: B batch, N observed, H horizon, D numbers per frame, S samples, M training windows.
"""

from typing import ClassVar

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster, ForecasterConfig


class Leading(Forecaster):
    """Wraps a forecaster of fewer numbers. It has no file of its own and no name in the registry: `zoo` makes it.

    Example:
        Leading(load_forecaster("transformer-mesh"), 42).forecast(observed, 12)
    """

    name = "leading"
    presets: ClassVar = {"default": ForecasterConfig()}

    def __init__(self, model: Forecaster, motion_dim: int) -> None:
        """Take the forecaster, and D of the motion.

        Raises:
            KinecastError: D is less than the forecaster's.
        """
        super().__init__(motion_dim, ForecasterConfig())
        if motion_dim < model.motion_dim:
            raise KinecastError(
                f"{model.name}: expected motion of at least {model.motion_dim} numbers, found {motion_dim}"
            )
        self.model, self.about = model, model.about
        self.name, self.min_observed = model.name, model.min_observed  # type: ignore[misc]
        self.deterministic, self.exact_median = model.deterministic, model.exact_median  # type: ignore[misc]

    def fit(self, windows: Tensor, observed: int) -> None:
        """Fit the forecaster on its numbers of windows (M, T, D)."""
        self.model.fit(windows[..., : self.model.motion_dim], observed)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the forecaster's loss on its numbers of windows (B, T, D)."""
        return self.model.loss(batch[..., : self.model.motion_dim], observed)

    def median(self, observed: Tensor, horizon: int, samples: int = 16, seed: int = 0) -> Tensor:
        """Return the forecaster's median, and the last of the other numbers: (B, H, D)."""
        self._check(observed, horizon, samples)
        first = self.model.median(observed[..., : self.model.motion_dim], horizon, samples, seed)
        return torch.cat([first, self._held(observed, horizon).to(first)], dim=-1)

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        first = self.model._sample(observed[..., : self.model.motion_dim], horizon, samples, generator)
        return torch.cat([first, self._held(observed, horizon).expand(samples, -1, -1, -1)], dim=-1)

    def _held(self, observed: Tensor, horizon: int) -> Tensor:
        """Return (B, H, D - D of the forecaster)."""
        return observed[:, -1:, self.model.motion_dim :].expand(-1, horizon, -1)
