"""The VRNN whose weights the authors of arXiv 2504.05537 released, under their tensor names.

    z_t from the posterior N([h, x_t]) while frames are observed, from the prior N(h) afterwards
    x_t = tanh(decoder([h, z_t]));   h = GRUCell([x_t, z_t], h)

in min-max units of a video. Two readings. `as_released` feeds the *true* x_t into the recurrence at every forecast
step, so that it forecasts one step at a time given the true past of each step; its samples share one state. It is here
to reproduce published figures. `forecast` is the honest one: it feeds back its own frames, with one state per sample,
and scales by the window's own observed frames. The released prior was never trained (its KL weight stayed 0).

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, Z latent numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

from kinecast.errors import KinecastError, one_line
from kinecast.forecasting.base import Forecaster, ForecasterConfig

_FLOOR = 1e-3  # of the mean range over D: a number still while observed must not be amplified


@dataclass(frozen=True)
class ReleasedVRNNConfig(ForecasterConfig):
    """Sizes, inferred from the state dict."""

    hidden: int = 256
    latent: int = 20
    fc: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("hidden", "latent", "fc")


class _GaussianNet(nn.Module):
    """One hidden layer, a mean and a standard deviation."""

    def __init__(self, inputs: int, fc: int, latent: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, fc)
        self.means = nn.Linear(fc, latent)
        self.stds = nn.Linear(fc, latent)

    def forward(self, inputs: Tensor) -> Normal:
        hidden = self.fc1(inputs).relu()
        return Normal(self.means(hidden), softplus(self.stds(hidden)) + 1e-4, validate_args=False)


class _Decoder(nn.Module):
    def __init__(self, inputs: int, fc: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, fc)
        self.fc2 = nn.Linear(fc, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.fc2(self.fc1(inputs).relu()).tanh()


class ReleasedVRNN(Forecaster):
    """The released network, in its own units inside, in raw units outside."""

    name = "vrnn-released"
    config_type = ReleasedVRNNConfig
    config: ReleasedVRNNConfig
    presets: ClassVar = {"released": ReleasedVRNNConfig()}

    def __init__(self, motion_dim: int, config: ReleasedVRNNConfig) -> None:
        super().__init__(motion_dim, config)
        hidden, latent, fc = config.hidden, config.latent, config.fc
        self.rnn_cell = nn.GRUCell(motion_dim + latent, hidden)
        self.prior_net = _GaussianNet(hidden, fc, latent)
        self.posterior_net = _GaussianNet(hidden + motion_dim, fc, latent)
        self.decoder = _Decoder(hidden + latent, fc, motion_dim)

    def fit(self, windows: Tensor, observed: int) -> None:
        """Fit nothing: each window is scaled by its own observed frames."""
        self._split(windows, observed)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the reconstruction plus KL(q || p) with true frames read, as in the paper."""
        observed = self._split(batch, observed)
        scaled = _scaled(batch, *_range(batch[:, :observed]))
        state = self._initial(scaled)
        errors, divergences = [], []
        for frame in scaled.unbind(dim=1):
            prior, posterior = self.prior_net(state), self.posterior_net(torch.cat([state, frame], dim=1))
            latent = posterior.rsample()
            errors.append((self.decoder(torch.cat([state, latent], dim=1)) - frame).square().mean())
            divergences.append(kl_divergence(posterior, prior).sum(dim=1).mean() / self.motion_dim)
            state = self.rnn_cell(torch.cat([frame, latent], dim=1), state)
        parts = {"squared": torch.stack(errors).mean(), "kl": torch.stack(divergences).mean()}
        return parts["squared"] + parts["kl"], {name: part.detach() for name, part in parts.items()}

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        low, extent = _range(observed)
        scaled = _scaled(observed, low, extent).repeat(samples, 1, 1)
        return (
            self.free_running(scaled, horizon, generator).view(samples, *observed.shape[:1], horizon, -1) * extent + low
        )

    def free_running(self, observed: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
        """Continue observed frames (R, N, D) in min-max units by H frames (R, H, D), each row a sample of its own."""
        state = self._initial(observed)
        for frame in observed.unbind(dim=1):
            latent = _draw(self.posterior_net(torch.cat([state, frame], dim=1)), generator)
            state = self.rnn_cell(torch.cat([frame, latent], dim=1), state)
        frames = []
        for _ in range(horizon):
            latent = _draw(self.prior_net(state), generator)
            frames.append(self.decoder(torch.cat([state, latent], dim=1)))
            state = self.rnn_cell(torch.cat([frames[-1], latent], dim=1), state)
        return torch.stack(frames, dim=1)

    def as_released(
        self, windows: Tensor, observed: int, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the released code's forecast of windows (B, T, D) in min-max units: (S, B, T, D).

        READS THE FUTURE: frame t is predicted with all true frames before t, those after the N-th too. `samples`
        None takes every latent at its mean (S is 1); otherwise the samples of one step share the state, which continues
        with the last sample's latent, as released.
        """
        state, outputs = self._initial(windows), []
        count = samples or 1
        for t, frame in enumerate(windows.unbind(dim=1)):
            known = self.posterior_net(torch.cat([state, frame], dim=1)) if t < observed else self.prior_net(state)
            if samples is None:
                latents = known.mean.unsqueeze(0)
            else:
                latents = torch.stack([_draw(known, generator) for _ in range(count)])
            outputs.append(self.decoder(torch.cat([state.expand(count, -1, -1), latents], dim=2)))
            state = self.rnn_cell(torch.cat([frame, latents[-1]], dim=1), state)
        return torch.stack(outputs, dim=2)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Self:
        """Build from the released tensors; sizes are read off their shapes.

        Raises:
            KinecastError: tensors are missing, unknown, or inconsistent.
        """
        try:
            motion_dim, fc = state["decoder.fc2.weight"].shape
            latent, hidden = state["prior_net.means.weight"].shape[0], state["rnn_cell.weight_hh"].shape[1]
            model = cls(motion_dim, ReleasedVRNNConfig(hidden, latent, fc))
            model.load_state_dict(dict(state))
        except (KeyError, ValueError, RuntimeError) as error:
            found = f"a problem with {one_line(error)}"
            raise KinecastError(f"released VRNN: expected its tensors, found {found}") from error
        return model.eval()

    def _initial(self, frames: Tensor) -> Tensor:
        return frames.new_zeros(len(frames), self.config.hidden)


def _draw(distribution: Normal, generator: torch.Generator | None) -> Tensor:
    mean = distribution.mean
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + distribution.stddev * noise


def _range(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return the minimum and the range of each number over the frames (B, N, D), each (B, 1, D)."""
    low, high = frames.amin(dim=1, keepdim=True), frames.amax(dim=1, keepdim=True)
    extent = high - low
    floor = _FLOOR * extent.mean(dim=2, keepdim=True)
    return low, torch.where(floor > 0, extent.maximum(floor), torch.ones_like(extent))


def _scaled(frames: Tensor, low: Tensor, extent: Tensor) -> Tensor:
    return (frames - low) / extent
