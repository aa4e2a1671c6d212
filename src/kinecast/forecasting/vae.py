"""VAE: the memoryless variational forecaster of arXiv 2504.05537, section 3.2, after Kingma & Welling 2014.

    x_t -> encoder -> q(z | x_t) = N(mu, sigma^2) -> z -> decoder -> x_{t+k}
    loss    -log p(x_{t+k} | z) + weight * KL(q(z | x_t) || N(0, I))

The likelihood is `squared`, as printed (eq. 10): the mean squared error, and a sample is the decoder's output, so that
its spread is the latent's alone; the KL, a sum over the latent, counts in full, and `kl_per_number` is off. Or
`gaussian`, ours: with a learnt deviation for each number (sigma-VAE: Rybkin et al. 2021),
which joins the sample. The KL then needs a weight far below 1: the latent is no more informative about x_{t+k} than
about x_t, for which the KL charges, so that at weight 1 an uninformative encoder is optimal (an information
bottleneck). How x_t becomes a forecast: `forecasters.shifting`.

Notation: R rows, L frames, D numbers per frame, Z latent numbers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import softplus

from kinecast.forecasting.base import ForecasterConfig
from kinecast.forecasting.features import mlp
from kinecast.forecasting.normalize import NORMALIZATIONS, Normalization
from kinecast.forecasting.shifting import NOISES, Noise, ShiftingForecaster

_UNIT = math.log(math.e - 1)  # softplus of it is 1


@dataclass(frozen=True)
class VAEConfig(ForecasterConfig):
    """Sizes and choices of a VAE. `mlp` are the hidden units of encoder and decoder."""

    latent: int = 8
    mlp: int = 64
    normalization: Normalization = "window"
    likelihood: Literal["squared", "gaussian"] = "gaussian"
    noise: Noise = "shared"
    kl_weight: float = 0.01
    kl_per_number: bool = True  # the KL is divided by D, as the likelihood is
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("latent", "mlp", "kl_weight")
        self._expect("normalization", self.normalization in NORMALIZATIONS, f"one of {', '.join(NORMALIZATIONS)}")
        self._expect("likelihood", self.likelihood in ("squared", "gaussian"), "squared or gaussian")
        self._expect("noise", self.noise in NOISES, f"one of {', '.join(NOISES)}")
        self._expect("dropout", 0 <= self.dropout < 1, "in [0, 1)")


class VAE(ShiftingForecaster):
    """A variational autoencoder from a frame to the one k later.

    The paper gives loss and inference of `paper`; its sizes are those printed for the VRNN.
    """

    name = "vae"
    config_type = VAEConfig
    config: VAEConfig
    presets: ClassVar = {
        "kinecast": VAEConfig(),
        "paper": VAEConfig(
            latent=15,
            mlp=512,
            normalization="training",
            likelihood="squared",
            noise="independent",
            kl_weight=1.0,
            kl_per_number=False,
        ),
    }

    def __init__(self, motion_dim: int, config: VAEConfig) -> None:
        super().__init__(motion_dim, config, config.normalization, config.noise)
        self.encoder = mlp(motion_dim, config.mlp, 2 * config.latent, config.dropout)
        self.decoder = mlp(config.latent, config.mlp, motion_dim, config.dropout)
        self.log_deviation = nn.Parameter(torch.zeros(motion_dim)) if config.likelihood == "gaussian" else None

    def pair_loss(self, frames: Tensor, later: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative bound of pairs (R, D), and its parts."""
        posterior = self.posterior(frames)
        decoded = self.decoder(posterior.rsample())
        if self.log_deviation is None:
            parts = {"squared": (decoded - later).square().mean()}
        else:
            parts = {"nll": -Normal(decoded, self.log_deviation.exp()).log_prob(later).mean()}
        (fit,) = parts.values()
        divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=1).mean()
        parts["kl"] = divergence / self.motion_dim if self.config.kl_per_number else divergence
        return fit + self.config.kl_weight * parts["kl"], parts

    def posterior(self, frames: Tensor) -> Normal:
        """q(z | x_t) of frames (..., D) in units: (..., Z)."""
        mean, deviation = self.encoder(frames).chunk(2, dim=-1)
        return Normal(mean, softplus(deviation + _UNIT) + 1e-4, validate_args=False)

    def draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a latent for each frame (R, L, D), decode it, and add the deviation where one is learnt."""
        posterior = self.posterior(frames)
        decoded = self.decoder(posterior.mean + posterior.stddev * self._normal(frames, self.config.latent, generator))
        if self.log_deviation is None:
            return decoded
        return decoded + self.log_deviation.exp() * self._normal(frames, self.motion_dim, generator)
