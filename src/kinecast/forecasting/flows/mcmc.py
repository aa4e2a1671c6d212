"""Markov kernels that refine samples between the layers of a flow: energies, random-walk Metropolis, Langevin.

Stochastic normalising flows (Wu, Koehler & Noe 2020, arXiv 2002.06707) put between the layers of a flow steps of a
Markov chain that leaves exp(-u) invariant. Energies here:

    paper   u_l(y) = (1 - l) |y|^2 / 2 + l |y - mu|^2 / (2 var)            arXiv 2512.04282; a sum over dimensions
    exact   u(y) = -log of the flow's own density after that layer         the anchor: it changes no distribution

Kernels, each followed by acceptance with min(1, exp(u(y) - u(y')) q(y | y') / q(y' | y)):

    random-walk   y' = y + eps xi                                          Metropolis et al. 1953; q is symmetric
    langevin      y' = y - eps^2/2 grad u(y) + eps xi                      MALA, Roberts & Tweedie 1996

Acceptance is joint (a row moves or stays), or per dimension, which is valid only if u is a sum over dimensions: then
each dimension is its own chain. The work of a refinement is the sum of log k(y' -> y) / k(y -> y') over its steps, k
the kernel with its acceptance, which by detailed balance is u(y_after) - u(y_before) (Wu et al.). All rows are one
batch.

Notation: R rows, D numbers.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from kinecast.errors import KinecastError

Kernel = Literal["random-walk", "langevin"]
Acceptance = Literal["joint", "per-dimension"]
KERNELS: tuple[Kernel, ...] = ("random-walk", "langevin")
ACCEPTANCES: tuple[Acceptance, ...] = ("joint", "per-dimension")


class Energy(ABC):
    """u(y) of rows (R, D), each its own. `separable`: a sum over dimensions, whose terms `terms` then returns."""

    separable: bool

    @abstractmethod
    def terms(self, y: Tensor) -> Tensor:
        """Return u(y): (R,), or where it is separable its terms (R, D)."""

    def gradient(self, y: Tensor) -> Tensor:
        """Return grad u(y), (R, D)."""
        with torch.inference_mode(False), torch.enable_grad():  # a clone made here is not an inference tensor
            point = y.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.terms(point).sum(), point)
        return gradient


class PaperEnergy(Energy):
    """(1 - l) |y|^2 / 2 + l |y - mean|^2 / (2 variance), l = `share` in [0, 1]; mean (R, D) or anything that fits."""

    separable = True

    def __init__(self, mean: Tensor, variance: float, share: float) -> None:
        if variance <= 0 or not 0 <= share <= 1:
            raise KinecastError(
                f"refinement: expected a variance above 0 and a share in [0, 1], found {variance} and {share}"
            )
        self.mean = mean
        self.variance = variance
        self.share = share

    def terms(self, y: Tensor) -> Tensor:
        """Return the terms (R, D)."""
        if self.share == 0:
            return 0.5 * y.square()
        return 0.5 * (1 - self.share) * y.square() + (0.5 * self.share / self.variance) * (y - self.mean).square()

    def gradient(self, y: Tensor) -> Tensor:
        """Return grad u(y), (R, D)."""
        return (1 - self.share) * y + (self.share / self.variance) * (y - self.mean)


class DensityEnergy(Energy):
    """-log p(y) of any density: `log_prob` takes (R, D) and returns (R,)."""

    separable = False

    def __init__(self, log_prob: Callable[[Tensor], Tensor]) -> None:
        self.log_prob = log_prob

    def terms(self, y: Tensor) -> Tensor:
        """Return u(y), (R,)."""
        return -self.log_prob(y)


@dataclass(frozen=True)
class KernelConfig:
    """`steps` of a kernel with step size `epsilon` (eps)."""

    kernel: Kernel = "random-walk"
    acceptance: Acceptance = "per-dimension"
    steps: int = 2
    epsilon: float = 0.35

    def __post_init__(self) -> None:
        for name, known in (("kernel", KERNELS), ("acceptance", ACCEPTANCES)):
            if getattr(self, name) not in known:
                raise KinecastError(
                    f"refinement: expected {name} one of {', '.join(known)}, found {getattr(self, name)!r}"
                )
        if self.steps < 0 or not 0 <= self.epsilon < math.inf:
            raise KinecastError(
                f"refinement: expected steps and epsilon of at least 0, found {self.steps} and {self.epsilon}"
            )

    @property
    def moves(self) -> bool:
        """False: the kernel is the identity."""
        return self.steps > 0 and self.epsilon > 0


class Refined(NamedTuple):
    """Rows (R, D) after a refinement, its acceptance rate (a scalar), and its work (R,)."""

    y: Tensor
    accepted: Tensor
    work: Tensor


@torch.no_grad()
def refine(y: Tensor, energy: Energy, config: KernelConfig, generator: torch.Generator | None = None) -> Refined:
    """Make `steps` moves of rows (R, D) that leave exp(-u) invariant.

    Raises:
        KinecastError: acceptance per dimension for an energy that is not a sum over dimensions.
    """
    single = config.acceptance == "per-dimension"
    if single and not energy.separable:
        raise KinecastError(
            "refinement: expected joint acceptance, found per-dimension for an energy that is not a sum over "
            "dimensions: "
            "one dimension's move changes the others' terms, and the target would not stay invariant"
        )
    state = _state(y, energy, config)
    before = state.terms
    taken = []
    for _ in range(config.steps):
        proposed, log_ratio = _propose(state, energy, config, generator)
        if not single and log_ratio.ndim == 2:
            log_ratio = log_ratio.sum(dim=1)
        uniform = torch.rand(log_ratio.shape, generator=generator, device=y.device, dtype=y.dtype)
        take = uniform.log() < log_ratio  # of a ratio that is NaN, never
        taken.append(take)
        state = _chosen(take, proposed, state)
    work = state.terms - before
    rate = torch.stack(taken).float().mean() if taken else y.new_full((), math.nan)
    return Refined(state.y, rate, work.sum(dim=1) if work.ndim == 2 else work)


class _State(NamedTuple):
    """A point (R, D), u there ((R,) or (R, D)), and grad u (R, D) if the kernel asks for it."""

    y: Tensor
    terms: Tensor
    gradient: Tensor | None


def _state(y: Tensor, energy: Energy, config: KernelConfig) -> _State:
    return _State(y, energy.terms(y), energy.gradient(y) if config.kernel == "langevin" else None)


def _propose(
    state: _State, energy: Energy, config: KernelConfig, generator: torch.Generator | None
) -> tuple[_State, Tensor]:
    """Return the proposal, and log of its acceptance ratio: (R, D) for a separable energy, else (R,)."""
    epsilon = config.epsilon
    noise = torch.randn(state.y.shape, generator=generator, device=state.y.device, dtype=state.y.dtype)
    if state.gradient is None:
        proposed = _state(torch.add(state.y, noise, alpha=epsilon), energy, config)
        return proposed, state.terms - proposed.terms
    drift = 0.5 * epsilon**2
    proposed = _state(state.y - drift * state.gradient + epsilon * noise, energy, config)
    assert proposed.gradient is not None
    back = (state.y - proposed.y + drift * proposed.gradient) / epsilon  # the noise of the reverse move
    correction = 0.5 * (noise.square() - back.square())
    if not energy.separable:
        correction = correction.sum(dim=1)
    return proposed, state.terms - proposed.terms + correction


def _chosen(take: Tensor, proposed: _State, state: _State) -> _State:
    """Return the proposal where accepted, (R,) or (R, D), otherwise the state."""

    def pick(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(take.unsqueeze(1) if new.ndim > take.ndim else take, new, old)

    gradient = None if state.gradient is None or proposed.gradient is None else pick(proposed.gradient, state.gradient)
    return _State(pick(proposed.y, state.y), pick(proposed.terms, state.terms), gradient)
