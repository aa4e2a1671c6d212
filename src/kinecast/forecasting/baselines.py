"""The baselines shown in every table beside the trained forecasters.

    repeat        x_{N+i} = x_N
    velocity      x_{N+i} = x_N + i v,                            v = x_N - x_{N-1}
    damped        x_{N+i} = x_N + v sum over j <= i of phi^j      phi by least squares on the training windows
    climatology   x_{N+i} = x_N + r_i,                            r a whole residual trajectory of a training window

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, M training windows.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.median import sample_median

_PHI_GRID = 2001  # values tried in [0, 1]; the error is a smooth polynomial of phi


class Baseline(Forecaster):
    """A forecaster without parameters: `_central` is the forecast, `loss` its squared error one step ahead."""

    presets: ClassVar = {"default": ForecasterConfig()}
    deterministic = True

    @abstractmethod
    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        """Forecast (B, H, D) from (B, N, D), without randomness."""

    def fit(self, windows: Tensor, observed: int) -> None:
        """Fit nothing; check the windows (M, T, D)."""
        self._split(windows, observed)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean squared one-step error from each growing history; it has no gradient."""
        observed = self._split(batch, observed)
        following = [self._central(batch[:, :t], 1) for t in range(observed, batch.shape[1])]
        squared = (torch.cat(following, dim=1) - batch[:, observed:]).square().mean()
        return squared, {"squared": squared.detach()}

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        return self._central(observed, horizon).expand(samples, -1, -1, -1).clone()


class RepeatLast(Baseline):
    """The last observed frame, held."""

    name = "repeat"

    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        return observed[:, -1:].expand(-1, horizon, -1)


class ConstantVelocity(Baseline):
    """The last observed change, repeated."""

    name = "velocity"
    min_observed = 2

    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        steps = torch.arange(1, horizon + 1, device=observed.device, dtype=observed.dtype)
        return observed[:, -1:] + steps.view(1, -1, 1) * observed.diff(dim=1)[:, -1:]


class DampedVelocity(Baseline):
    """The last observed change, damped by phi at each step."""

    name = "damped"
    min_observed = 2
    phi: Tensor

    def __init__(self, motion_dim: int, config: ForecasterConfig) -> None:
        super().__init__(motion_dim, config)
        self.register_buffer("phi", torch.tensor(-1.0))  # not fitted

    def fit(self, windows: Tensor, observed: int) -> None:
        """Choose the phi in [0, 1] of least squared error over all later frames of the windows (M, T, D)."""
        observed = self._split(windows, observed)
        velocity = windows[:, observed - 1] - windows[:, observed - 2]
        change = windows[:, observed:] - windows[:, observed - 1 : observed]
        # With c_i = sum over j <= i of phi^j the error is sum over i of c_i^2 <v,v> - 2 c_i <v, change_i> + const.
        power = velocity.square().sum().double()
        product = torch.einsum("mhd,md->h", change, velocity).double()
        grid = torch.linspace(0, 1, _PHI_GRID, dtype=torch.float64)
        reach = reach_of(grid, change.shape[1])
        self.phi.fill_(float(grid[(reach.square() * power - 2 * reach * product).sum(dim=1).argmin()]))

    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        if self.phi < 0:
            raise self._not_fitted()
        return observed[:, -1:] + reach_of(self.phi, horizon).view(1, -1, 1) * observed.diff(dim=1)[:, -1:]


@dataclass(frozen=True)
class ClimatologyConfig(ForecasterConfig):
    """`bank_size` residual trajectories are kept, drawn from the training windows without replacement, with `seed`."""

    bank_size: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("bank_size")


class Climatology(Baseline):
    """The last observed frame plus the residuals of a random training window: an uninformed forecast."""

    name = "climatology"
    config_type = ClimatologyConfig
    config: ClimatologyConfig
    presets: ClassVar = {"default": ClimatologyConfig()}
    deterministic = False
    kept = "residuals"
    residuals: Tensor

    def __init__(self, motion_dim: int, config: ClimatologyConfig) -> None:
        super().__init__(motion_dim, config)
        self.register_buffer("residuals", torch.empty(0, 0, motion_dim))

    def fit(self, windows: Tensor, observed: int) -> None:
        """Keep x_{N+i} - x_N of windows (M, T, D): a bank (at most `bank_size`, T-N, D)."""
        observed = self._split(windows, observed)
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(self.config.seed))
        kept = windows[order[: self.config.bank_size].to(windows.device)]
        self.residuals = (kept[:, observed:] - kept[:, observed - 1 : observed]).contiguous()

    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        return observed[:, -1:] + sample_median(self._bank(horizon))

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        bank = self._bank(horizon)
        shape = (samples, len(observed))
        drawn = torch.randint(len(bank), shape, generator=generator, device=observed.device)
        return observed[:, -1:] + bank[drawn]

    def _bank(self, horizon: int) -> Tensor:
        if not len(self.residuals):
            raise self._not_fitted()
        if horizon > self.residuals.shape[1]:
            raise KinecastError(
                f"climatology: expected a horizon of at most {self.residuals.shape[1]}, what it was fitted for, "
                f"found {horizon}: fit it on longer windows"
            )
        return self.residuals[:, :horizon]


def reach_of(phi: Tensor, horizon: int) -> Tensor:
    """Return the sum over j <= i of phi^j for i = 1..H, (..., H)."""
    return (phi.unsqueeze(-1) ** torch.arange(1, horizon + 1, device=phi.device)).cumsum(dim=-1)
