"""The contract of a forecaster of motion vectors.

Notation: B batch, T frames, N observed, H forecast frames, D numbers per frame, S samples, M training windows.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from itertools import chain
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError


@dataclass(frozen=True)
class ForecasterConfig:
    """The config of a forecaster. Subclasses add fields with defaults and check them in `__post_init__`."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            value, kind = getattr(self, entry.name), type(entry.default)
            fits = type(value) is kind or (kind is float and type(value) is int)
            self._expect(entry.name, fits, f"of type {kind.__name__}")

    @classmethod
    def parse(cls, pairs: Iterable[str]) -> dict[str, Any]:
        """Parse `key=value` strings into values for this config: numbers, booleans or strings.

        Raises:
            KinecastError: a string without `=`, or an unknown key.
        """
        values: dict[str, Any] = {}
        for pair in pairs:
            key, equals, text = pair.partition("=")
            if not equals:
                raise KinecastError(f"{cls.__name__}: expected KEY=VALUE, found {pair!r}")
            try:
                values[key] = json.loads(text)
            except json.JSONDecodeError:
                values[key] = text
        cls.from_dict(values)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values.

        Raises:
            KinecastError: an unknown key, or a value out of range.
        """
        known = [field.name for field in fields(cls)]
        foreign = sorted(set(values) - set(known))
        if foreign:
            raise KinecastError(
                f"{cls.__name__}: expected the keys {', '.join(known) or '(none)'}; found {', '.join(foreign)}: "
                "remove them"
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` reads."""
        return asdict(self)

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise KinecastError(f"{type(self).__name__}: expected {name} {expected}, found {getattr(self, name)!r}")

    def _expect_positive(self, *names: str) -> None:
        for name in names:
            self._expect(name, getattr(self, name) > 0, "above 0")


class Forecaster(nn.Module, ABC):
    """A model that continues motion, in raw motion units; its normalisation is part of it.

    `name` is its name in the registry; `presets` are its named configs, the default first. Forecasters are causal: none
    reads a frame after the N-th.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[ForecasterConfig]] = ForecasterConfig
    presets: ClassVar[Mapping[str, ForecasterConfig]]
    min_observed: ClassVar[int] = 1  # minimum number of observed frames
    deterministic: ClassVar[bool] = False  # all samples of a forecast are equal
    kept: ClassVar[str | None] = None  # a buffer (M, H, D) of training windows, whose size a file alone tells

    def __init__(self, motion_dim: int, config: ForecasterConfig) -> None:
        super().__init__()
        if motion_dim < 1:
            raise KinecastError(f"{self.name}: expected at least 1 number per frame, found {motion_dim}")
        if not isinstance(config, self.config_type):
            raise KinecastError(f"{self.name}: expected a {self.config_type.__name__}, found {type(config).__name__}")
        self.motion_dim = motion_dim
        self.config = config
        self.about: dict[str, Any] = {}  # facts on its training (data, horizon, steps, seed), saved with it

    @abstractmethod
    def fit(self, windows: Tensor, observed: int) -> None:
        """Fit what gradients do not train, on windows (M, T, D) with N observed frames.

        Normalisation statistics, a damping, a bank of residuals. Called once, before any gradient step.
        """

    @abstractmethod
    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss of windows (B, T, D), a scalar, and its named parts (detached).

        The first `observed` frames are given (default: half of them); the later ones are the targets.
        """

    @abstractmethod
    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        """Implement `forecast`, on checked input and in evaluation mode."""

    def forecast(
        self,
        observed: Tensor,
        horizon: int,
        samples: int = 1,
        seed: int = 0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Sample futures of `observed` (B, N, D): (S, B, H, D), each sample a coherent free-running trajectory.

        The same seed (or generator state) gives the same samples on one machine. Models without randomness
        return S equal trajectories. The result is on the model's device, where a given generator must be too.

        Raises:
            KinecastError: wrong shape or D, too few observed frames, NaN, or a horizon or S below 1.
        """
        self._check(observed, horizon, samples)
        if generator is None:
            generator = torch.Generator(device=self.device).manual_seed(seed)
        with torch.inference_mode(), self._evaluating():
            return self._sample(observed.to(self.device, torch.float32), horizon, samples, generator)

    @property
    def device(self) -> torch.device:
        """Device of the weights; the CPU for a model without any."""
        return next((tensor.device for tensor in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    def _split(self, batch: Tensor, observed: int | None) -> int:
        """Return N for training windows (B, T, D), checked to leave frames on both sides."""
        if batch.ndim != 3 or batch.shape[2] != self.motion_dim:
            raise KinecastError(
                f"{self.name}: expected windows (B, T, {self.motion_dim}), found {tuple(batch.shape)}: "
                "use motion of the dimension it was built for"
            )
        frames = batch.shape[1]
        observed = max(self.min_observed, frames // 2) if observed is None else observed
        if not self.min_observed <= observed < frames:
            raise KinecastError(
                f"{self.name}: expected windows of at least {self.min_observed} observed and 1 later frame, "
                f"found {observed} of {frames}: use longer windows"
            )
        return observed

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode, and restore the mode at the end."""
        if not self.training:  # then neither are its parts; setting each of them would take as long as some forecasts
            yield
            return
        self.eval()
        try:
            yield
        finally:
            self.train()

    def _check(self, observed: Tensor, horizon: int, samples: int) -> None:
        if observed.ndim != 3 or observed.shape[2] != self.motion_dim or observed.shape[0] < 1:
            raise KinecastError(
                f"{self.name}: expected observed motion (B, N, {self.motion_dim}), found {tuple(observed.shape)}: "
                "forecast motion of the model it was trained on"
            )
        if observed.shape[1] < self.min_observed:
            raise KinecastError(
                f"{self.name}: expected at least {self.min_observed} observed frames, found {observed.shape[1]}: "
                "observe more of the clip"
            )
        if horizon < 1 or samples < 1:
            raise KinecastError(
                f"{self.name}: expected horizon and samples of at least 1, found horizon {horizon}, samples {samples}"
            )
        if not torch.isfinite(observed).all():
            raise KinecastError(f"{self.name}: expected finite motion, found NaN or infinity in the observed frames")

    def _not_fitted(self) -> KinecastError:
        return KinecastError(
            f"{self.name}: expected a fitted forecaster, found none: "
            f"run `kinecast train forecaster --model {self.name}`"
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.kept is not None:
            saved = state_dict.get(prefix + self.kept)
            if isinstance(saved, Tensor) and saved.ndim == 3 and saved.shape[2] == self.motion_dim:
                setattr(self, self.kept, self.get_buffer(self.kept).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)
