"""GRU-SNF: stochastic refinement of a trained GRU-NF at inference, arXiv 2512.04282, after Wu et al. 2020 (2002.06707).

Sampling frame t, with the flow's layers f_1 ... f_L from the base outwards:

    y ~ N(0, I);  for i = 1 ... L:  y <- f_i^{-1}(y | h_t), then n moves that leave exp(-u_i) invariant (`flows.mcmc`)
    paper:  u_i(y) = (1 - l_i) |y|^2 / 2 + l_i |y - mu_t|^2 / (2 variance),  l_i = ((i - 1) / (L - 1))^power
    exact:  u_i = -log of the density of f_i^{-1}(... f_1^{-1}(y_0)): GRU-NF's own distribution is not changed

h_t is the state that conditions the flow: it has read this sample's x_{<t}. y and mu_t are the flow's variable, in
normalised units (`GRUNF`). A layer is a coupling with the batch normalisation before it on the way to the data, so that
each y_i with i < L is what batch normalisation has put on the scale of N(0, I), for which the paper's energy is made.
mu_t is `flow`: f^{-1}(0 | h_t), or `head`: a linear read-out of h_t, fitted by least squares to the frozen GRU-NF.

The GRU-NF inside is unchanged, and so is its noise: refinement draws from a generator of its own. With n or eps of 0
the samples are GRU-NF's bit for bit.

Notation: B batch, T frames, N observed, H horizon, D numbers per frame, S samples, R rows, L layers.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster
from kinecast.forecasting.flows.mcmc import (
    ACCEPTANCES,
    KERNELS,
    Acceptance,
    DensityEnergy,
    Energy,
    Kernel,
    KernelConfig,
    PaperEnergy,
    refine,
)
from kinecast.forecasting.flows.realnvp import FlowDistribution
from kinecast.forecasting.gru_nf import GRUNF, PRESETS, GRUNFConfig

_RIDGE = 1e-3  # of the mean square of the state, whose numbers may be correlated
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class GRUSNFConfig(GRUNFConfig):
    """The GRU-NF inside, and its refinement; the defaults of the latter are the published ones.

    `power` shapes the schedule l_i, 0 keeps it at 1; `variance` is sigma squared. `mean` is where mu_t comes from.
    """

    steps: int = 2
    epsilon: float = 0.35
    kernel: Kernel = "random-walk"
    acceptance: Acceptance = "per-dimension"
    energy: Literal["paper", "exact"] = "paper"
    mean: Literal["flow", "head"] = "flow"
    variance: float = 0.5
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "epsilon", "power"):
            self._expect(name, 0 <= getattr(self, name) < math.inf, "of at least 0")
        self._expect_positive("variance")
        self._expect("kernel", self.kernel in KERNELS, f"one of {', '.join(KERNELS)}")
        self._expect("acceptance", self.acceptance in ACCEPTANCES, f"one of {', '.join(ACCEPTANCES)}")
        self._expect("energy", self.energy in ("paper", "exact"), "paper or exact")
        self._expect("mean", self.mean in ("flow", "head"), "flow or head")
        if self.energy == "exact":
            self._expect(
                "acceptance",
                self.acceptance == "joint",
                "joint where energy is exact, which is not a sum over dimensions",
            )

    @property
    def gru_nf(self) -> GRUNFConfig:
        """The config of the GRU-NF alone."""
        return GRUNFConfig(**{field.name: getattr(self, field.name) for field in fields(GRUNFConfig)})

    @property
    def moves(self) -> KernelConfig:
        """The kernel and its numbers."""
        return KernelConfig(self.kernel, self.acceptance, self.steps, self.epsilon)

    def share(self, layer: int) -> float:
        """Return l_i of a layer counted from 0 at the base; of a single layer 1, the target's."""
        return (layer / (self.blocks - 1)) ** self.power if self.blocks > 1 else 1.0


@dataclass(frozen=True)
class RefinementReport:
    """Record of a refinement: its settings, and the acceptance rate by layer (None: no proposals).

    `log_weights` (S, B, H) of each sample's frame, if asked for: with them, means over samples are means over the last
    layer's target, N(mu_t, variance) for the paper's energy (Wu et al.), given the frames before.
    """

    steps: int
    epsilon: float
    kernel: Kernel
    acceptance: Acceptance
    energy: Literal["paper", "exact"]
    acceptance_rate: float | None
    acceptance_by_layer: tuple[float, ...]
    log_weights: Tensor | None


class GRUSNF(Forecaster):
    """A GRU-NF with refinement during sampling."""

    name = "gru-snf"
    config_type = GRUSNFConfig
    config: GRUSNFConfig
    presets: ClassVar = {name: GRUSNFConfig(**config.to_dict()) for name, config in PRESETS.items()}
    head_weight: Tensor
    head_bias: Tensor
    head_fitted: Tensor

    def __init__(self, motion_dim: int, config: GRUSNFConfig) -> None:
        super().__init__(motion_dim, config)
        self.gru_nf = GRUNF(motion_dim, config.gru_nf)
        self.register_buffer("head_weight", torch.zeros(motion_dim, config.hidden))
        self.register_buffer("head_bias", torch.zeros(motion_dim))
        self.register_buffer("head_fitted", torch.tensor(0.0))

    @classmethod
    def from_gru_nf(cls, model: GRUNF, **refinement: Any) -> Self:
        """Wrap a trained GRU-NF, whose tensors are shared with the wrapper; `refinement` are values of the config."""
        refined = cls(model.motion_dim, GRUSNFConfig.from_dict(model.config.to_dict() | refinement))
        refined.gru_nf = model
        refined.about = dict(model.about)
        return refined.to(model.device).train(model.training)

    def fit(self, windows: Tensor, observed: int) -> None:
        """Take the statistics of training windows (M, T, D) for the GRU-NF."""
        self.gru_nf.fit(windows, observed)

    @torch.no_grad()
    def fit_head(self, windows: Tensor, observed: int) -> None:
        """Fit the read-out of `mean=head` on windows (M, T, D): y_t from h_t by least squares, no weight changed."""
        observed = self._split(windows, observed)
        with self._evaluating():
            units = self.gru_nf.normalizer(windows[:, :observed])
            following = self.gru_nf.next_frames(units, windows, observed)
            target, _ = following.to_flow(windows[:, observed:].flatten(0, 1))
        states = following.flow.h
        assert states is not None
        states, target = states.double(), target.double()
        centred = states - states.mean(dim=0)
        gram = centred.T @ centred
        gram.diagonal().add_(_RIDGE * gram.diagonal().mean() + 1e-12)
        weight = torch.linalg.solve(gram, centred.T @ (target - target.mean(dim=0))).T
        self.head_weight.copy_(weight)
        self.head_bias.copy_(target.mean(dim=0) - weight @ states.mean(dim=0))
        self.head_fitted.fill_(1.0)

    def loss(self, batch: Tensor, observed: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the GRU-NF's loss: refinement does not affect training."""
        return self.gru_nf.loss(batch, observed)

    def sample_with_report(
        self,
        observed: Tensor,
        horizon: int,
        samples: int = 1,
        seed: int = 0,
        generator: torch.Generator | None = None,
        log_weights: bool = False,
    ) -> tuple[Tensor, RefinementReport]:
        """Return the samples of `forecast`, (S, B, H, D), and a record of the refinement."""
        self._check(observed, horizon, samples)
        if generator is None:
            generator = torch.Generator(device=self.device).manual_seed(seed)
        with torch.inference_mode(), self._evaluating():
            return self._refined(
                observed.to(self.device, torch.float32), horizon, samples, generator, weigh=log_weights
            )

    def _sample(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        return self._refined(observed, horizon, samples, generator, weigh=False)[0]

    def _refined(
        self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator, weigh: bool
    ) -> tuple[Tensor, RefinementReport]:
        config = self.config
        if config.energy == "paper" and config.mean == "head" and not self.head_fitted:
            raise KinecastError(
                f"{self.name}: expected a fitted head for mean=head, found none: call fit_head(windows, observed) with "
                "the training windows, or choose mean=flow"
            )
        run = _Refiner(self, _own_stream(generator), weigh)
        drawn = self.gru_nf.trajectories(observed, horizon, samples, generator, run)
        layers = tuple(torch.stack(run.accepted).view(horizon, -1).mean(dim=0).tolist()) if run.accepted else ()
        weights = None
        if weigh:
            weights = torch.stack(run.log_weights, dim=1).view(samples, len(observed), horizon)
        report = RefinementReport(
            steps=config.steps,
            epsilon=config.epsilon,
            kernel=config.kernel,
            acceptance=config.acceptance,
            energy=config.energy,
            acceptance_rate=sum(layers) / len(layers) if layers else None,
            acceptance_by_layer=layers,
            log_weights=weights,
        )
        return drawn, report


class _Refiner:
    """Passes noise through the flow with refinement between the layers, and counts. For one call of `_refined`."""

    def __init__(self, model: GRUSNF, generator: torch.Generator, weigh: bool) -> None:
        self.model = model
        self.generator = generator
        self.weigh = weigh
        self.accepted: list[Tensor] = []
        self.log_weights: list[Tensor] = []

    def __call__(self, flow: FlowDistribution, noise: Tensor) -> Tensor:
        """Return y (R, D) of noise (R, D)."""
        config = self.model.config
        moves, y = config.moves, noise
        mean = self._mean(flow) if config.energy == "paper" and (moves.moves or self.weigh) else None
        work = noise.new_zeros(len(noise))
        for layer in range(flow.num_layers):
            if self.weigh:
                y, log_det = flow.inverse(layer, y)
                work = work + log_det
            else:
                y = flow.layer_image(layer, y)
            if moves.moves:
                y, accepted, more = refine(y, self._energy(flow, layer, mean), moves, self.generator)
                self.accepted.append(accepted)
                work = work + more
        if self.weigh:
            base = 0.5 * (noise.square().sum(dim=1) + noise.shape[1] * _LOG_2PI)
            self.log_weights.append(self._log_target(flow, y, mean) + base + work)
        return y

    def _energy(self, flow: FlowDistribution, layer: int, mean: Tensor | None) -> Energy:
        if mean is None:
            return DensityEnergy(lambda y: flow.log_prob_at(layer + 1, y))
        return PaperEnergy(mean, self.model.config.variance, self.model.config.share(layer))

    def _mean(self, flow: FlowDistribution) -> Tensor:
        """Return mu_t (R, D)."""
        assert flow.h is not None
        if self.model.config.mean == "head":
            return torch.addmm(self.model.head_bias, flow.h, self.model.head_weight.T)
        return flow.from_zero()

    def _log_target(self, flow: FlowDistribution, y: Tensor, mean: Tensor | None) -> Tensor:
        """Return the log density (R,) that the last layer's refinement leaves invariant, normalised."""
        if mean is None:
            return flow.log_prob(y)
        variance = self.model.config.variance
        distance = (y - mean).square().sum(dim=1) / variance
        return -0.5 * (distance + y.shape[1] * (_LOG_2PI + math.log(variance)))


def _own_stream(generator: torch.Generator) -> torch.Generator:
    """Return a generator derived from the state of the given one, which is left unchanged."""
    ahead = torch.Generator(device=generator.device)
    ahead.set_state(generator.get_state())
    seed = int(torch.randint(2**62, (), generator=ahead, device=generator.device))
    return torch.Generator(device=generator.device).manual_seed(seed)
