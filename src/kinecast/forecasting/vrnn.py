"""VRNN: the variational recurrent forecaster of arXiv 2504.05537, section 3.2, after Chung et al. 2015.

    prior      z_t ~ p(z | h_{t-1})                          (Chung eq. 5)
    decoder    x_t ~ p(x | z_t, h_{t-1})                     (eq. 6)
    recurrence h_t = GRU([phi_x(x_t), phi_z(z_t)], h_{t-1})  (eq. 7)
    posterior  z_t ~ q(z | phi_x(x_t), h_{t-1})              (eq. 9; [A] eq. 14)
    loss       sum over t of -log p(x_t | z_t, h_{t-1}) + KL(q || p)      (eq. 11; [A] eq. 17)

With `variable` set to `position` it is as printed, over all frames of a window, from h_0 = 0. With `residual`, ours, a
frame is its increment d_t in units of `step`, x_t = x_{t-1} + step * d_t, which the posterior reads as it is; the sum
is over the frames after the N-th; and

               mean d_t = damping * d_{t-1} + g(z_t, h_{t-1}) + s(z_t, h_{t-1}) * W z_t

The prior is trained: it is the second half of the KL, and forecasts draw from nothing else. The released code kept
that weight at 0. Every sample carries its own state and reads its own frames. The last term of the decoder's mean
is ours (`loading`): the D x Z loadings W let numbers that move together in training move together in a sample from
the first step of training on, where a plain decoder leaves its latent unused for long.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, R rows, C channels, Z latent
numbers.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Laplace, Normal, kl_divergence
from torch.nn.functional import linear, softplus

from kinecast.forecasting.base import Forecaster, ForecasterConfig
from kinecast.forecasting.features import (
    CHANNELS,
    VARIABLES,
    Channels,
    MotionFeatures,
    RecurrentCell,
    Unchanging,
    Variable,
    hidden_layer,
    mlp,
)
from kinecast.forecasting.normalize import NORMALIZATIONS, Normalization, Normalizer, Units
from kinecast.forecasting.objectives import fair_crps, fair_energy_score

_UNIT = math.log(math.e - 1)  # softplus of it is 1
_JUMP = 4.0  # steps: larger ones (a cut, a lost keypoint) do not steer the principal components
_LOG_SCALE = (-6.0, 2.0)  # of the decoder, in log steps: beyond these a sample would freeze or diverge


@dataclass(frozen=True)
class VRNNConfig(ForecasterConfig):
    """Sizes and choices of a VRNN.

    Weights of the loss: `likelihood_weight` of the variational bound per number of motion, `kl_weight` of the KL in it,
    `crps_weight` and `energy_weight` of the scores of `score_samples` free-running trajectories from the prior.
    """

    hidden: int = 24
    latent: int = 16
    mlp: int = 24  # hidden units of prior, posterior, decoder and of the features phi_x
    latent_features: int = 3  # phi_z, a channel
    loading: bool = True
    channels: Channels = "shared"
    identity: int = 4  # size of the learnt embedding of the D numbers
    normalization: Normalization = "window"
    noise: Literal["gaussian", "laplace"] = "laplace"
    dropout: float = 0.1
    likelihood_weight: float = 0.1
    kl_weight: float = 1.0
    crps_weight: float = 1.0
    energy_weight: float = 0.0
    score_samples: int = 2
    variable: Variable = "residual"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect("variable", self.variable in VARIABLES, f"one of {', '.join(VARIABLES)}")
        if self.variable == "position":
            self._expect("channels", self.channels == "frame", "frame where variable is position")
            self._expect("normalization", self.normalization == "training", "training where variable is position")
            self._expect("loading", not self.loading, "false where variable is position")
        self._expect_positive("hidden", "latent", "mlp", "latent_features", "likelihood_weight", "kl_weight")
        for name in ("identity", "crps_weight", "energy_weight"):
            self._expect(name, getattr(self, name) >= 0, "of at least 0")
        self._expect("channels", self.channels in CHANNELS, f"one of {', '.join(CHANNELS)}")
        self._expect("normalization", self.normalization in NORMALIZATIONS, f"one of {', '.join(NORMALIZATIONS)}")
        self._expect("noise", self.noise in ("gaussian", "laplace"), "gaussian or laplace")
        self._expect("dropout", 0 <= self.dropout < 1, "in [0, 1)")
        self._expect("score_samples", self.score_samples >= 2, "of at least 2")


_PAPER = VRNNConfig(
    variable="position",
    hidden=256,
    latent=15,
    mlp=512,
    latent_features=512,
    loading=False,
    channels="frame",
    identity=0,
    normalization="training",
    noise="gaussian",
    dropout=0.0,
    likelihood_weight=1.0,
    crps_weight=0.0,
)


class VRNN(Forecaster):
    """A recurrent model with one latent variable per frame."""

    name = "vrnn"
    config_type = VRNNConfig
    config: VRNNConfig
    min_observed = 2
    presets: ClassVar = {
        "kinecast": VRNNConfig(),
        "paper": _PAPER,
        "released": replace(_PAPER, latent=20, mlp=128, latent_features=20),
    }

    def __init__(self, motion_dim: int, config: VRNNConfig) -> None:
        super().__init__(motion_dim, config)
        self.normalizer = Normalizer(motion_dim, config.normalization)
        self.features = MotionFeatures(motion_dim, config.channels, config.identity)
        channels, latent, hidden = self.features.channels, config.latent, config.hidden
        self.phi_x = hidden_layer(self.features.size, config.mlp, config.dropout)
        self.phi_z = nn.Linear(latent, channels * config.latent_features)
        # Training starts from damped velocity and a standard normal prior: decoder and prior net from about 0.
        self.prior_net = mlp(hidden, config.mlp, 2 * latent, near_zero=True)
        self.printed = config.variable == "position"
        self.posterior_net = mlp((config.mlp if self.printed else motion_dim) + hidden, config.mlp, 2 * latent)
        read_out = self.features.read_out_size(3 if config.loading else 2)
        self.decoder = mlp(hidden + config.latent_features, config.mlp, read_out, config.dropout, near_zero=True)
        self.loading = nn.Linear(latent, motion_dim, bias=False) if config.loading else None
        self.cell = RecurrentCell(config.mlp + config.latent_features, hidden)
        self.damping = None if self.printed else nn.Parameter(torch.full((motion_dim,), 0.4))

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D), and the loadings of their principal components."""
        observed = self._split(windows, observed)
        self.normalizer.fit(windows)
        if self.loading is not None:
            self.loading.weight.data.copy_(self._principal_loadings(windows, observed))

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of `nll` and `kl` (the bound, per number of motion), and of free-running scores."""
        observed = self._split(batch, observed)
        units = self.normalizer(batch[:, :observed])
        given = 0 if self.printed else observed
        state = self._encode(units, batch[:, :given])
        surprise, divergence = self.bound(units, state, batch, given)
        parts = {"nll": surprise.mean() / self.motion_dim, "kl": divergence.mean() / self.motion_dim}
        total = self.config.likelihood_weight * (parts["nll"] + self.config.kl_weight * parts["kl"])
        if self.config.crps_weight or self.config.energy_weight:
            if given < observed:
                state = self._encode(units, batch[:, :observed])
            samples, truth = self._scored(units, state, batch, observed)
            if self.config.crps_weight:
                parts["crps"] = fair_crps(samples, truth).mean()
                total = total + self.config.crps_weight * parts["crps"]
            if self.config.energy_weight:
                parts["energy"] = fair_energy_score(samples, truth).mean() / math.sqrt(truth[0].numel())
                total = total + self.config.energy_weight * parts["energy"]
        return total, {name: part.detach() for name, part in parts.items()}

    def bound(self, units: Units, state: Tensor, batch: Tensor, observed: int) -> tuple[Tensor, Tensor]:
        """Return the terms of the variational bound, each (B, T-N): -log p(x_t | z_t, h_{t-1}) and KL(q || p).

        z_t is drawn from the posterior, and the true frames are read; `state` has read the first N, of which there may
        be none where positions are modelled.
        """
        surprises, divergences = [], []
        window = self.features.unchanging(units, len(batch))
        increments = _increments(units, batch)
        for t in range(observed, batch.shape[1]):
            features = self._phi_x(window, batch[:, t], increments[:, t]) if self.printed else None
            target = self._position(units, batch[:, t]) if self.printed else increments[:, t]
            prior, posterior = self.prior(state), self._posterior_given(state, features, target)
            latent = posterior.rsample()
            surprises.append(-self.decode(state, latent, increments[:, max(0, t - 1)]).log_prob(target).sum(dim=1))
            divergences.append(kl_divergence(posterior, prior).sum(dim=1))
            if features is None:
                features = self._phi_x(window, batch[:, t], increments[:, t])
            state = self._advance(state, self._phi_z(latent), features)
        return torch.stack(surprises, dim=1), torch.stack(divergences, dim=1)

    def prior(self, state: Tensor) -> Normal:
        """p(z_t | h_{t-1}) of states (R, C, hidden): (R, Z)."""
        return Normal(*self._prior(state), validate_args=False)

    def posterior(self, state: Tensor, increment: Tensor) -> Normal:
        """q(z_t | x_t, h_{t-1}) of `residual`, the new frame given by its increment (R, D) in steps: (R, Z)."""
        return self._posterior_given(state, None, increment)

    def _posterior_given(self, state: Tensor, features: Tensor | None, increment: Tensor) -> Normal:
        """q(z_t | x_t, h_{t-1}) from phi_x(x_t) (R, 1, mlp) as printed, else from the increment (R, D): (R, Z)."""
        mean, spread = self._posterior(state, torch.asinh(increment) if features is None else features[:, 0])
        return Normal(mean, _deviation(spread), validate_args=False)

    def decode(self, state: Tensor, latent: Tensor, increment: Tensor) -> Normal | Laplace:
        """p(x_t | z_t, h_{t-1}) (R, D): of the position in units, or of the increment in steps, given the last one."""
        kind = Laplace if self.config.noise == "laplace" else Normal
        return kind(*self._decode(state, latent, self._phi_z(latent), increment), validate_args=False)

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        units = self.normalizer(observed)
        return self._trajectories(units, self._encode(units, observed), observed, horizon, samples, generator)

    def _encode(self, units: Units, frames: Tensor) -> Tensor:
        """Read observed frames (B, N, D) to the state (B, C, hidden), each latent at its posterior mean."""
        state = self.cell.initial(len(frames), self.features.channels, frames)
        first = 0 if self.printed else 1  # of the first frame no increment is known
        if frames.shape[1] <= first:
            return state
        increments = _increments(units, frames)[:, first:].transpose(0, 1)
        window = self.features.unchanging(units, len(frames))
        features = self._phi_x(window, frames[:, first:].transpose(0, 1), increments)
        read = features[:, :, 0] if self.printed else torch.asinh(increments)
        for of_posterior, of_frame in zip(read, features, strict=True):
            latent, _ = self._posterior(state, of_posterior)
            state = self._advance(state, self._phi_z(latent), of_frame)
        return state

    def _advance(self, state: Tensor, of_latent: Tensor, of_frame: Tensor) -> Tensor:
        """Return the state that has read a frame, given by phi_x, and its latent, by phi_z."""
        return self.cell(torch.cat([of_frame, of_latent], dim=2), state)

    def _prior(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of `prior`: the parameters alone, of which a draw can be made at less cost."""
        mean, spread = self.prior_net(state.mean(dim=1)).chunk(2, dim=1)
        return mean, _deviation(spread)

    def _posterior(self, state: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of the posterior and what `_deviation` makes its deviation of.

        `read` is phi_x(x_t) (R, mlp), as printed, or asinh(increment) (R, D).
        """
        mean, spread = self.posterior_net(torch.cat([state.mean(dim=1), read], dim=1)).chunk(2, dim=1)
        return mean, spread

    def _decode(self, state: Tensor, latent: Tensor, of_latent: Tensor, increment: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and scale of `decode`."""
        read_out = self.decoder(torch.cat([state, of_latent], dim=2))
        change, log_scale, *log_share = self.features.split(read_out, 2 if self.loading is None else 3)
        mean = change if self.damping is None else torch.addcmul(change, self.damping, increment)
        if self.loading is not None:
            share = log_share[0].clamp(*_LOG_SCALE).exp()
            mean = torch.addcmul(mean, share, linear(latent, self.loading.weight))
        return mean, (log_scale - 1).clamp(*_LOG_SCALE).exp()

    def _phi_x(self, window: Unchanging, frame: Tensor, increment: Tensor) -> Tensor:
        """Return the frame's features for each channel, (R, C, mlp); for T frames at once with time outermost."""
        return self.phi_x(self.features(window, frame, increment))

    def _phi_z(self, latent: Tensor) -> Tensor:
        """Return the latent's features for each channel: (R, Z) to (R, C, latent_features)."""
        return linear(latent, self.phi_z.weight, self.phi_z.bias).view(len(latent), self.features.channels, -1)

    @torch.no_grad()
    def _principal_loadings(self, windows: Tensor, observed: int) -> Tensor:
        """Return (D, Z): the first Z principal components of the later increments' residuals of damped velocity."""
        increments = (windows.diff(dim=1) / self.normalizer(windows[:, :observed]).step)[:, observed - 2 :]
        left = increments[:, 1:] - self.damping * increments[:, :-1]
        left = left.clamp(-_JUMP, _JUMP).flatten(0, 1)
        values, vectors = torch.linalg.eigh(left.T @ left / len(left))
        components = vectors * values.clamp_min(0).sqrt()
        loadings = torch.zeros_like(self.loading.weight)  # type: ignore[union-attr]
        count = min(loadings.shape)
        loadings[:, :count] = components.flip(1)[:, :count]
        return loadings

    def _trajectories(
        self,
        units: Units,
        state: Tensor,
        observed: Tensor,
        horizon: int,
        samples: int,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Draw (S, B, H, D) by ancestral sampling: each row has its own state, latent and frames."""
        state, units = state.repeat(samples, 1, 1), units.repeat(samples)
        window = self.features.unchanging(units, len(state))
        noise = _laplace if self.config.noise == "laplace" else _normal
        frame = observed[:, -1].repeat(samples, 1)
        increment = (observed[:, -1] - observed[:, -2]).repeat(samples, 1) / units.step[:, 0]
        frames = []
        for t in range(horizon):
            mean, deviation = self._prior(state)
            latent = torch.addcmul(mean, deviation, _normal(mean, generator))
            of_latent = self._phi_z(latent)
            location, scale = self._decode(state, latent, of_latent, increment)
            drawn = torch.addcmul(location, scale, noise(location, generator))
            frame = self._frame(units, frame, drawn)
            increment = drawn if self.damping is not None else increment  # which a printed model does not read
            frames.append(frame)
            if t + 1 < horizon:
                state = self._advance(state, of_latent, self._phi_x(window, frame, increment))
        return torch.stack(frames, dim=1).view(samples, len(observed), horizon, self.motion_dim)

    def _position(self, units: Units, frame: Tensor) -> Tensor:
        return (frame - units.shift[:, 0]) / units.scale[:, 0]

    def _frame(self, units: Units, before: Tensor, decoded: Tensor) -> Tensor:
        """Return the decoded frame (R, D), from its position or its increment from the previous one."""
        if self.printed:
            return torch.addcmul(units.shift[:, 0].expand_as(decoded), units.scale[:, 0], decoded)
        return torch.addcmul(before, units.step[:, 0], decoded)

    def _scored(self, units: Units, state: Tensor, batch: Tensor, observed: int) -> tuple[Tensor, Tensor]:
        """Return free-running samples and the truth, both in mean training steps (one number for all D)."""
        horizon = batch.shape[1] - observed
        samples = self._trajectories(units, state, batch[:, :observed], horizon, self.config.score_samples, None)
        unit = self.normalizer.step.mean()
        return samples / unit, batch[:, observed:] / unit


def _increments(units: Units, frames: Tensor) -> Tensor:
    """Return (B, T, D), in steps: the first frame's is not known, and 0."""
    return torch.cat([torch.zeros_like(frames[:, :1]), frames.diff(dim=1) / units.step], dim=1)


def _deviation(spread: Tensor) -> Tensor:
    """Return the standard deviation of a latent from a net's output."""
    return softplus(spread + _UNIT) + 1e-4


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _laplace(like: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype) - 0.5
    return torch.copysign(torch.log1p(-2 * uniform.abs().clamp(max=0.5 - 1e-7)), uniform)
