"""GRU: the point forecaster of arXiv 2504.05537, section 3.2.

    h_t = GRU(x_t, h_{t-1})
    position   x_{t+1} = shift + scale * g(h_t)                       (as printed)
    residual   x_{t+1} = x_t + step * (damping * d_t + g(h_t))        (ours: it starts from damped velocity)

with d_t the last increment in units of `step`.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, R rows, C channels.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.features import (
    CHANNELS,
    VARIABLES,
    Channels,
    MotionFeatures,
    RecurrentCell,
    Variable,
    mlp,
)
from kinecast.forecasting.normalize import NORMALIZATIONS, Normalization, Normalizer, Units


@dataclass(frozen=True)
class GRUConfig(ForecasterConfig):
    """Sizes and choices of a GRU forecaster.

    `rollout` trains on its own predictions fed back, as a forecast runs; without it on true frames, as printed.
    `error` is the training error: `squared` (printed; forecasts the mean) or `absolute` (the median).
    """

    hidden: int = 24
    read_out: int = 24
    channels: Channels = "shared"
    identity: int = 4  # size of the learnt embedding of the D numbers
    normalization: Normalization = "window"
    rollout: bool = True
    error: Literal["squared", "absolute"] = "absolute"
    dropout: float = 0.1
    variable: Variable = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("hidden", "read_out")
        self._expect("identity", self.identity >= 0, "of at least 0")
        self._expect("channels", self.channels in CHANNELS, f"one of {', '.join(CHANNELS)}")
        self._expect("normalization", self.normalization in NORMALIZATIONS, f"one of {', '.join(NORMALIZATIONS)}")
        self._expect("variable", self.variable in VARIABLES, f"one of {', '.join(VARIABLES)}")
        self._expect("error", self.error in ("squared", "absolute"), "squared or absolute")
        self._expect("dropout", 0 <= self.dropout < 1, "in [0, 1)")


class GRUForecaster(Forecaster):
    """A GRU that feeds back its own predictions. Deterministic: its S samples are equal."""

    name = "gru"
    config_type = GRUConfig
    config: GRUConfig
    min_observed = 2
    deterministic = True
    presets: ClassVar = {
        "kinecast": GRUConfig(),
        "paper": GRUConfig(
            variable="position",
            hidden=256,
            read_out=256,
            channels="frame",
            identity=0,
            normalization="training",
            rollout=False,
            error="squared",
            dropout=0.0,
        ),
    }

    def __init__(self, motion_dim: int, config: GRUConfig) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, config.normalization)
        self.features = MotionFeatures(motion_dim, config.channels, config.identity)
        self.cell = RecurrentCell(self.features.size, config.hidden)
        self.head = mlp(config.hidden, config.read_out, self.features.read_out_size(1), config.dropout, near_zero=True)
        # Training starts from damped velocity, or from the training set's mean: the head from about 0.
        self.damping = nn.Parameter(torch.full((motion_dim,), 0.4)) if config.variable == "residual" else None

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D)."""
        self._split(windows, observed)
        self.normalizer.fit(windows)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean error of the frames after the N-th of windows (B, T, D), in their steps.

        As printed (positions in training units, true frames read): of all frames after the first, in those units.
        """
        observed = self._split(batch, observed)
        units = self.normalizer(batch[:, :observed])
        first = 1 if self._whole_windows else observed
        state = self._encode(units, batch[:, :first])
        predicted = self._run(units, state, batch[:, :first], batch[:, first:], feed_back=self.config.rollout)
        error = (predicted - batch[:, first:]) / (units.step if self.damping is not None else units.scale)
        mean = error.square().mean() if self.config.error == "squared" else error.abs().mean()
        return mean, {self.config.error: mean.detach()}

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        units = self.normalizer(observed)
        later = observed.new_empty(len(observed), horizon, 0)  # only the number of these frames is known
        forecast = self._run(units, self._encode(units, observed), observed, later, feed_back=True)
        return forecast.expand(samples, -1, -1, -1).clone()

    @property
    def _whole_windows(self) -> bool:
        config = self.config
        return config.variable == "position" and config.normalization == "training" and not config.rollout

    def _encode(self, units: Units, frames: Tensor) -> Tensor:
        """Read observed frames (R, N, D) to the state (R, C, hidden)."""
        state = self.cell.initial(len(frames), self.features.channels, frames)
        increments = frames.diff(dim=1) / units.step
        window = self.features.unchanging(units, len(frames))
        read = frames[:, 1:]  # the first frame has no increment
        if self.features.frame_alone:
            read, increments = frames, torch.zeros_like(frames)
        for inputs in self.features(window, read.transpose(0, 1), increments.transpose(0, 1)):
            state = self.cell(inputs, state)
        return state

    def _run(self, units: Units, state: Tensor, observed: Tensor, later: Tensor, feed_back: bool) -> Tensor:
        """Predict the frames (R, H, D) of `later`, whose previous frames are read only without `feed_back`."""
        step, window = units.step[:, 0], self.features.unchanging(units, len(observed))
        frame = observed[:, -1]
        increment = (frame - observed[:, -2]) / step if observed.shape[1] > 1 else torch.zeros_like(frame)
        predictions = []
        for t in range(later.shape[1]):
            if t > 0:
                state = self.cell(self.features(window, frame, increment), state)
            (change,) = self.features.split(self.head(state), 1)
            if self.damping is None:
                predicted = units.shift[:, 0] + units.scale[:, 0] * change
            else:
                predicted = frame + step * (self.damping * increment + change)
            predictions.append(predicted)
            following = predicted if feed_back else later[:, t]
            frame, increment = following, (following - frame) / step
        return torch.stack(predictions, dim=1)
