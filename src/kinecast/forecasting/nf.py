"""NF: the memoryless flow forecaster of arXiv 2504.05537, section 3.2, with the RealNVP of Dinh et al. 2016.

    z_t = f(x_t),  z_t ~ N(0, I);     x_{t+k} = f^{-1}(rho z_t + sqrt(1 - rho^2) e),  e ~ N(0, I)
    loss    MSE(f^{-1}(rho z_t), x_{t+k}) + NLL(x_t), the latter per number of motion or, as printed, in total

The paper gives the loss, and an unconditional flow; how the flow of x_t yields a forecast of x_{t+k} it leaves open.
Here the base variable evolves as the Gaussian process that keeps N(0, I): rho in (0, 1), one per number and learnt by
the MSE, is the correlation after k frames. So the forecast far ahead (rho 0) is the flow's own density, and the certain
one (rho 1) repeats x_t. No batch normalisation: in training its inverse would not be the inverse of its forward pass.
How x_t becomes a forecast: `forecasters.shifting`.

Notation: R rows, L frames, D numbers per frame.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from kinecast.forecasting.base import ForecasterConfig
from kinecast.forecasting.flows.layers import RealNVPConfig
from kinecast.forecasting.flows.realnvp import FlowDistribution, RealNVP
from kinecast.forecasting.normalize import NORMALIZATIONS, Normalization
from kinecast.forecasting.shifting import NOISES, Noise, ShiftingForecaster


@dataclass(frozen=True)
class NFConfig(ForecasterConfig):
    """Sizes and choices of an NF: `blocks` couplings, whose nets have `layers` linear layers of `hidden` units."""

    blocks: int = 4
    hidden: int = 32
    layers: int = 3
    normalization: Normalization = "window"
    noise: Noise = "shared"
    likelihood_weight: float = 1.0
    likelihood_per_number: bool = True  # the likelihood is divided by D, as the squared error is
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._expect_positive("blocks", "hidden", "likelihood_weight")
        self._expect("layers", self.layers >= 2, "of at least 2")
        self._expect("normalization", self.normalization in NORMALIZATIONS, f"one of {', '.join(NORMALIZATIONS)}")
        self._expect("noise", self.noise in NOISES, f"one of {', '.join(NOISES)}")
        self._expect("dropout", 0 <= self.dropout < 1, "in [0, 1)")

    @property
    def flow(self) -> RealNVPConfig:
        """Sizes of the flow."""
        return RealNVPConfig(self.blocks, self.hidden, self.layers, batch_norm=False, dropout=self.dropout)


class NF(ShiftingForecaster):
    """A normalising flow of single frames, whose base variable decorrelates over k frames.

    The paper's text gives no sizes for `paper`; they are those released for GRU-NF's flow.
    """

    name = "nf"
    config_type = NFConfig
    config: NFConfig
    presets: ClassVar = {
        "kinecast": NFConfig(),
        "paper": NFConfig(
            blocks=5, hidden=512, layers=5, normalization="training", noise="independent", likelihood_per_number=False
        ),
    }

    def __init__(self, motion_dim: int, config: NFConfig) -> None:
        super().__init__(motion_dim, config, config.normalization, config.noise)
        # A single number passes no coupling: its layers are affine given a condition, which is then a constant.
        self.flow = RealNVP(motion_dim, 1 if motion_dim == 1 else 0, config.flow)
        self.memory = nn.Parameter(torch.zeros(motion_dim))  # its sigmoid is rho

    def pair_loss(self, frames: Tensor, later: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return squared error and negative log-likelihood of pairs (R, D), summed, and both apart."""
        flow = self._flow(frames)
        surprise = -flow.log_prob(frames).mean()
        parts = {
            "squared": (self.central(frames) - later).square().mean(),
            "nll": surprise / self.motion_dim if self.config.likelihood_per_number else surprise,
        }
        return parts["squared"] + self.config.likelihood_weight * parts["nll"], parts

    def central(self, frames: Tensor) -> Tensor:
        """Return f^{-1}(rho f(x_t)) of frames (..., D) in units."""
        return self._carried(frames, torch.zeros_like(frames))

    def draw(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Draw x_{t+k} given each frame (R, L, D)."""
        return self._carried(frames, self._normal(frames, self.motion_dim, generator))

    def _carried(self, frames: Tensor, noise: Tensor) -> Tensor:
        rows, rho = frames.flatten(0, -2), self.memory.sigmoid()
        flow = self._flow(rows)
        base = rho * flow.to_base(rows)[0] + (1 - rho.square()).sqrt() * noise.flatten(0, -2)
        return flow.from_base(base)[0].view_as(frames)

    def _flow(self, rows: Tensor) -> FlowDistribution:
        return self.flow(rows.new_zeros(len(rows), 1) if self.motion_dim == 1 else None)
