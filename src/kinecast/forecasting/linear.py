"""Linear baselines with samples: ridge regression on the observed increments, and a vector autoregression.

    ridge   x_{N+i} = x_N + v reach_i(phi) + step * sum over lags l and numbers of W_{i,l} d_{N-l} + r_i
    var     d_{t+1} = sum over lags l of A_l d_{t-l} + e_t,     x_{t+1} = x_t + step * d_{t+1}

with d increments in mean training steps, v = x_N - x_{N-1}, and reach damped velocity's. W and A are ridge-regressed on
the training windows, so that a large penalty leaves damped velocity (ridge) or a held frame (var). Samples add training
residuals: whole trajectories r, as in climatology, or residuals e drawn for each frame.

Notation: M training windows, N observed, H horizon, L lags, D numbers per frame, S samples.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.base import ForecasterConfig
from kinecast.forecasting.baselines import Baseline, DampedVelocity, reach_of
from kinecast.forecasting.normalize import Normalizer

_RADIUS = 0.98  # of an autoregression: an unstable one is shrunk to this


@dataclass(frozen=True)
class RidgeConfig(ForecasterConfig):
    """`penalty` in mean squares of the features; `bank_size` residuals are kept, drawn by `seed`."""

    penalty: float = 1.0
    bank_size: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("penalty", "bank_size")


@dataclass(frozen=True)
class VARConfig(RidgeConfig):
    """The same, and the number of previous increments read."""

    lags: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("lags")


class _Linear(Baseline):
    """Common parts: increments in steps, with missing ones taken as 0, and buffers whose sizes come from the file."""

    deterministic = False
    min_observed = 2
    config: RidgeConfig
    sized: ClassVar[tuple[str, ...]] = ("weight", "residuals")  # (L, D, .., D) and (M, .., D)
    weight: Tensor
    residuals: Tensor

    def __init__(self, motion_dim: int, config: ForecasterConfig) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, "training")
        self.register_buffer("weight", torch.empty(0, 0, motion_dim))
        self.register_buffer("residuals", torch.empty(0, 0, motion_dim))

    @abstractmethod
    def _fit(self, windows: Tensor, observed: int) -> None:
        """Set `weight` and `residuals` from windows (M, T, D)."""

    def fit(self, windows: Tensor, observed: int) -> None:
        """Regress windows (M, T, D) and keep the residuals."""
        observed = self._split(windows, observed)
        self.normalizer.fit(windows)
        self._fit(windows, observed)

    def _increments(self, frames: Tensor, lags: int) -> Tensor:
        """Return the last L increments in steps, the last one first, of frames (B, T, D): (B, L, D)."""
        found = (frames.diff(dim=1) / self.normalizer.step).flip(1)[:, :lags]
        missing = lags - found.shape[1]
        return torch.cat([found, found.new_zeros(len(found), missing, self.motion_dim)], dim=1) if missing else found

    def _kept(self, residuals: Tensor) -> Tensor:
        """Return at most `bank_size` of residuals (M, ...)."""
        order = torch.randperm(len(residuals), generator=torch.Generator().manual_seed(self.config.seed))
        return residuals[order[: self.config.bank_size].to(residuals.device)].float().contiguous()

    def _drawn(self, rows: int, generator: torch.Generator) -> Tensor:
        """Draw one of the residuals for each row, (rows, ...)."""
        picked = torch.randint(len(self.residuals), (rows,), generator=generator, device=self.residuals.device)
        return self.residuals[picked]

    def _check_fitted(self) -> None:
        if not len(self.residuals):
            raise self._not_fitted()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in self.sized:
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.ndim == 3 and saved.shape[2] == self.motion_dim:
                setattr(self, name, self.get_buffer(name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Ridge(_Linear):
    """All frames of a forecast regressed at once on the N - 1 observed increments of all numbers."""

    name = "ridge"
    config_type = RidgeConfig
    presets: ClassVar = {"default": RidgeConfig()}

    def __init__(self, motion_dim: int, config: RidgeConfig) -> None:
        super().__init__(motion_dim, config)
        self.damped = DampedVelocity(motion_dim, ForecasterConfig())

    def _fit(self, windows: Tensor, observed: int) -> None:
        self.damped.fit(windows, observed)
        seen, later = windows[:, :observed], windows[:, observed:]
        features = self._increments(seen, observed - 1).flatten(1)
        target = ((later - self._around(seen, later.shape[1])) / self.normalizer.step).flatten(1)
        weight = _ridge(features, target, self.config.penalty)
        self.weight = weight.view(len(weight), -1, self.motion_dim).float().contiguous()  # as it is loaded
        self.residuals = self._kept((target - (features.double() @ weight).float()).view_as(later))

    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        self._check_fitted()
        frames = observed
        while frames.shape[1] < observed.shape[1] + horizon:
            frames = torch.cat([frames, self._block(frames)], dim=1)
        return frames[:, observed.shape[1] : observed.shape[1] + horizon]

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        self._check_fitted()
        frames, count = observed.repeat(samples, 1, 1), observed.shape[1]
        while frames.shape[1] < count + horizon:  # beyond the fitted horizon, each sample continues from its own frames
            left = self._drawn(len(frames), generator) * self.normalizer.step
            frames = torch.cat([frames, self._block(frames) + left], dim=1)
        return frames[:, count : count + horizon].unflatten(0, (samples, -1))

    def _block(self, frames: Tensor) -> Tensor:
        """Forecast as many frames as were fitted, from frames (R, T, D)."""
        features = self._increments(frames, len(self.weight) // self.motion_dim).flatten(1)
        change = (features @ self.weight.flatten(1)).view(len(frames), -1, self.motion_dim)
        return self._around(frames, change.shape[1]) + change * self.normalizer.step

    def _around(self, frames: Tensor, horizon: int) -> Tensor:
        return frames[:, -1:] + reach_of(self.damped.phi, horizon).view(1, -1, 1) * frames.diff(dim=1)[:, -1:]


class VAR(_Linear):
    """A vector autoregression of the increments."""

    name = "var"
    config_type = VARConfig
    config: VARConfig
    presets: ClassVar = {"default": VARConfig()}

    def _fit(self, windows: Tensor, observed: int) -> None:
        lags = min(self.config.lags, windows.shape[1] - 2)
        if lags < 1:
            raise KinecastError(f"{self.name}: expected windows of at least 3 frames, found {windows.shape[1]}")
        increments = windows.diff(dim=1) / self.normalizer.step
        places = range(lags, increments.shape[1])
        features = torch.cat([increments[:, t - lags : t].flip(1).flatten(1) for t in places])
        target = torch.cat([increments[:, t] for t in places])
        weight = _stable(_ridge(features, target, self.config.penalty).view(lags, self.motion_dim, self.motion_dim))
        self.residuals = self._kept(target.double() - features.double() @ weight.flatten(0, 1))[:, None]
        self.weight = weight.float().contiguous()  # as it is loaded: products differ in their last bit otherwise

    def _central(self, observed: Tensor, horizon: int) -> Tensor:
        return self._run(observed, horizon, None)

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        drawn = self._run(observed.repeat(samples, 1, 1), horizon, generator)
        return drawn.unflatten(0, (samples, -1))

    def _run(self, observed: Tensor, horizon: int, generator: torch.Generator | None) -> Tensor:
        """Continue frames (R, N, D) by (R, H, D), without noise if there is no generator."""
        self._check_fitted()
        recent, frame, frames = self._increments(observed, len(self.weight)), observed[:, -1], []
        for _ in range(horizon):
            increment = recent.flatten(1) @ self.weight.flatten(0, 1)
            if generator is not None:
                increment = increment + self._drawn(len(frame), generator)[:, 0]
            frame = frame + increment * self.normalizer.step
            recent = torch.cat([increment[:, None], recent[:, :-1]], dim=1)
            frames.append(frame)
        return torch.stack(frames, dim=1)


def _ridge(features: Tensor, target: Tensor, penalty: float) -> Tensor:
    """Return the weights (F, G) that take features (M, F) to targets (M, G), in double precision."""
    features, target = features.double(), target.double()
    gram = features.T @ features / len(features)
    gram.diagonal().add_(penalty * float(gram.diagonal().mean()) + 1e-9)
    return torch.linalg.solve(gram, features.T @ target / len(features))


def _stable(weight: Tensor) -> Tensor:
    """Scale the matrices (L, D, D) of an autoregression so that it does not grow without bound."""
    lags, dim, _ = weight.shape
    companion = torch.zeros(lags * dim, lags * dim, dtype=weight.dtype)
    companion[:dim] = torch.cat([matrix.T for matrix in weight], dim=1).cpu()
    companion[dim:, :-dim] = torch.eye((lags - 1) * dim, dtype=weight.dtype)
    radius = float(torch.linalg.eigvals(companion).abs().amax())
    if radius <= _RADIUS:
        return weight
    shrunk = _RADIUS / radius  # of the eigenvalues, which A_l times shrunk^l has
    return weight * torch.tensor([shrunk ** (i + 1) for i in range(lags)], dtype=weight.dtype).view(-1, 1, 1)
