"""Simulated motion: processes whose true future, given observed frames, can be sampled exactly.

    oscillator   a point on a circle; the rate of its phase is hidden and inferred exactly from the observed frames
    branching    a path that forks two ways: a bimodal future, with odds that depend on the observed frames
    jumps        mean-reverting diffusion of three numbers with rare common jumps: heavy tails
    arm          three joints of an arm that swings by itself: curved, strongly dependent coordinates

`futures` draws from the posterior predictive p(x_{N+1..N+H} | x_{1..N}) of an observer who knows the process and its
constants but sees only the frames. Where a series has a hidden quantity it is drawn from its exact posterior; all else
that the future depends on is a function of the observed frames. No forecaster can do better on average.

Notation: B windows, T frames, N observed, H horizon, D numbers per frame, S samples, R rows.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from kinecast.data.windows import Horizon, Windows
from kinecast.errors import KinecastError

_SETTLING = 4  # frames at a window's end whose sideways motion decides its branch


class Process(ABC):
    """A stochastic process of motion (T, D) of which the conditional distribution is known."""

    name: ClassVar[str]
    motion_dim: ClassVar[int]
    min_observed: ClassVar[int] = 1  # the fewest frames that determine what `futures` needs

    @abstractmethod
    def simulate(self, count: int, frames: int, generator: torch.Generator) -> Tensor:
        """Return independent series (B, T, D) from their start."""

    @abstractmethod
    def _futures(self, observed: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
        """Return one true future (R, H, D) of each row observed (R, N, D), in double precision."""

    def futures(self, observed: Tensor, horizon: int, samples: int, generator: torch.Generator) -> Tensor:
        """Sample the true conditional distribution of what follows observed frames (B, N, D): (S, B, H, D).

        Raises:
            KinecastError: another D, or too few frames observed.
        """
        if observed.ndim != 3 or observed.shape[2] != self.motion_dim or observed.shape[1] < self.min_observed:
            raise KinecastError(
                f"{self.name}: expected observed motion (B, N, {self.motion_dim}) of at least {self.min_observed} "
                f"frames, found {tuple(observed.shape)}"
            )
        rows = self._futures(observed.double().repeat(samples, 1, 1), horizon, generator)
        return rows.view(samples, len(observed), horizon, self.motion_dim).to(observed.dtype)


@dataclass(frozen=True)
class PhaseOscillator(Process):
    """x_t = a (cos p_t, sin p_t), p_{t+1} = p_t + w + noise; a and the rate w are the series' own, w is hidden.

    The N-1 observed phase steps are Gaussian about w, so that w | x_{1..N} is Gaussian too, in closed form. Steps are
    far below half a turn, so that they are known from the frames without ambiguity.
    """

    name = "oscillator"
    motion_dim = 2
    rate: float = 0.4  # radians a frame: mean and spread over series
    rate_spread: float = 0.15
    noise: float = 0.12  # radians a frame
    amplitude: float = 0.5
    amplitude_spread: float = 0.3  # of its logarithm

    def simulate(self, count: int, frames: int, generator: torch.Generator) -> Tensor:
        """Simulate; the phase begins anywhere."""
        rate = self.rate + self.rate_spread * _normal((count, 1), generator)
        start = 2 * math.pi * _uniform((count, 1), generator)
        steps = torch.cat([start, rate + self.noise * _normal((count, frames - 1), generator)], dim=1)
        amplitude = self.amplitude * torch.exp(self.amplitude_spread * _normal((count, 1), generator))
        return self._points(amplitude, steps.cumsum(dim=1)).float()

    def _futures(self, observed: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
        phase = torch.atan2(observed[..., 1], observed[..., 0])
        steps = _wrapped(phase.diff(dim=1))
        precision = 1 / self.rate_spread**2 + steps.shape[1] / self.noise**2
        mean = (self.rate / self.rate_spread**2 + steps.sum(dim=1, keepdim=True) / self.noise**2) / precision
        rate = mean + precision**-0.5 * _normal((len(observed), 1), generator)
        walk = (rate + self.noise * _normal((len(observed), horizon), generator)).cumsum(dim=1)
        return self._points(observed[:, -1].norm(dim=1, keepdim=True), phase[:, -1:] + walk)

    def _points(self, amplitude: Tensor, phase: Tensor) -> Tensor:
        return torch.stack([amplitude * phase.cos(), amplitude * phase.sin()], dim=2)


@dataclass(frozen=True)
class BranchingPath(Process):
    """A point (x, y) drifts along a stem; past the fork at x = 0 it turns to one side and keeps to it.

    At the first frame with x >= 0 the side is drawn, +1 with probability sigmoid(`odds` y). The side is hidden; the
    sideways steps since that frame are Gaussian about side * `turn`, which gives its exact posterior.
    """

    name = "branching"
    motion_dim = 2
    fork: float = 13.0  # the frame, counted from 0, about which the fork is reached
    jitter: float = 2.0  # frames by which that differs at most at the start
    speed: float = 0.05
    speed_noise: float = 0.005
    turn: float = 0.04
    noise: float = 0.008  # sideways, a frame
    spread: float = 0.1  # of y at the start
    odds: float = 8.0

    def simulate(self, count: int, frames: int, generator: torch.Generator) -> Tensor:
        """Simulate from before the fork."""
        x = -self.speed * (self.fork + self.jitter * (2 * _uniform((count,), generator) - 1))
        start = torch.stack([x, self.spread * _normal((count,), generator)], dim=1)
        walked = self._walk(start, torch.zeros(count, dtype=torch.float64), frames - 1, generator)
        return torch.cat([start[:, None], walked], dim=1).float()

    def branches(self, samples: Tensor) -> Tensor:
        """Return the branch that each trajectory (S, B, H, 2) is on at its end, (S, B): 0 left, 1 right, -1 neither.

        By its mean sideways step over the last frames, which must be beyond half of `turn`.
        """
        if samples.shape[2] < 2:
            raise KinecastError(f"{self.name}: expected trajectories of at least 2 frames, found {samples.shape[2]}")
        sideways = samples[..., 1].diff(dim=2)[:, :, -_SETTLING:].mean(dim=2)
        left, right = sideways < -self.turn / 2, sideways > self.turn / 2
        return torch.where(right, 1, torch.where(left, 0, -1))

    def _futures(self, observed: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
        x, y = observed.unbind(dim=2)
        past = (x >= 0).cummax(dim=1).values  # at or after the first frame past the fork
        first = y.gather(1, past.int().argmax(dim=1, keepdim=True))[:, 0]
        evidence = (y.diff(dim=1) * past[:, :-1]).sum(dim=1) * 2 * self.turn / self.noise**2
        side = self._side(self.odds * first + evidence, generator)
        return self._walk(observed[:, -1], torch.where(past[:, -1], side, 0.0), horizon, generator)

    def _walk(self, frame: Tensor, side: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Go on from frames (R, 2); a side (R,) of 0 is not yet drawn."""
        frames = []
        for _ in range(steps):
            drawn = self._side(self.odds * frame[:, 1], generator)
            side = torch.where((side == 0) & (frame[:, 0] >= 0), drawn, side)
            forward = self.speed + self.speed_noise * _normal(side.shape, generator)
            sideways = side * self.turn + self.noise * _normal(side.shape, generator)
            frame = frame + torch.stack([forward, sideways], dim=1)
            frames.append(frame)
        return torch.stack(frames, dim=1) if frames else frame[:, None][:, :0]

    def _side(self, log_odds: Tensor, generator: torch.Generator) -> Tensor:
        return torch.where(_uniform(log_odds.shape, generator) < log_odds.sigmoid(), 1.0, -1.0).double()


@dataclass(frozen=True)
class JumpDiffusion(Process):
    """x_{t+1} = (1 - r) x_t + L e_t + b_t j_t u: correlated noise, and at rare frames a jump along one direction.

    Markov: the last frame is all that its future depends on.
    """

    name = "jumps"
    motion_dim = 3
    reversion: float = 0.05
    noise: float = 0.03
    correlation: float = 0.6
    jump_rate: float = 0.06  # a frame
    jump: float = 0.3  # spread of its length
    spread: float = 0.3  # at the start

    def simulate(self, count: int, frames: int, generator: torch.Generator) -> Tensor:
        """Simulate."""
        start = self.spread * _normal((count, self.motion_dim), generator)
        return torch.cat([start[:, None], self._walk(start, frames - 1, generator)], dim=1).float()

    def _futures(self, observed: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
        return self._walk(observed[:, -1], horizon, generator)

    def _walk(self, frame: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        direction = torch.tensor([1.0, -0.7, 0.4], dtype=torch.float64)
        frames = [frame[:, None][:, :0]]
        for _ in range(steps):
            common, own = _normal((len(frame), 1), generator), _normal(frame.shape, generator)
            diffusion = self.correlation**0.5 * common + (1 - self.correlation) ** 0.5 * own
            jumps = (_uniform((len(frame), 1), generator) < self.jump_rate) * self.jump
            length = jumps * _normal((len(frame), 1), generator)
            frame = (1 - self.reversion) * frame + self.noise * diffusion + length * direction
            frames.append(frame[:, None])
        return torch.cat(frames, dim=1)


@dataclass(frozen=True)
class Arm(Process):
    """Joints of an arm of three links, (x, y) each. Link angles are damped springs about rest, driven by noise:

        v_{t+1} = `keep` v_t - `pull` (angle_t - rest) + noise,    angle_{t+1} = angle_t + v_{t+1}

    Link lengths are the series' own. Frames give lengths and angles, two frames the velocity: nothing is hidden.
    """

    name = "arm"
    motion_dim = 6
    min_observed = 2
    keep: float = 0.85
    pull: float = 0.04
    noise: float = 0.05  # radians a frame
    spread: float = 0.4  # radians about rest at the start
    length_spread: float = 0.15  # of their logarithm

    def simulate(self, count: int, frames: int, generator: torch.Generator) -> Tensor:
        """Simulate from anywhere near rest, at rest."""
        lengths = self._lengths * torch.exp(self.length_spread * _normal((count, 3), generator))
        angles = self._rest + self.spread * _normal((count, 3), generator)
        swung = self._swing(angles, torch.zeros_like(angles), frames - 1, generator)
        return self._joints(lengths, torch.cat([angles[:, None], swung], dim=1)).float()

    def _futures(self, observed: Tensor, horizon: int, generator: torch.Generator) -> Tensor:
        joints = observed[:, -2:].unflatten(2, (3, 2))
        links = torch.cat([joints[:, :, :1], joints.diff(dim=2)], dim=2)
        angles = torch.atan2(links[..., 1], links[..., 0])
        velocity = _wrapped(angles[:, 1] - angles[:, 0])
        return self._joints(links[:, -1].norm(dim=2), self._swing(angles[:, 1], velocity, horizon, generator))

    @property
    def _lengths(self) -> Tensor:
        return torch.tensor([0.4, 0.3, 0.2], dtype=torch.float64)

    @property
    def _rest(self) -> Tensor:
        return torch.tensor([0.3, 0.8, 1.2], dtype=torch.float64)

    def _swing(self, angles: Tensor, velocity: Tensor, steps: int, generator: torch.Generator) -> Tensor:
        """Return the next angles (R, steps, 3)."""
        swung = [angles[:, None][:, :0]]
        for _ in range(steps):
            force = self.noise * _normal(angles.shape, generator) - self.pull * _wrapped(angles - self._rest)
            velocity = self.keep * velocity + force
            angles = angles + velocity
            swung.append(angles[:, None])
        return torch.cat(swung, dim=1)

    def _joints(self, lengths: Tensor, angles: Tensor) -> Tensor:
        """Lengths (R, 3) and angles (R, T, 3) to (R, T, 6)."""
        links = lengths[:, None, :, None] * torch.stack([angles.cos(), angles.sin()], dim=3)
        return links.cumsum(dim=2).flatten(2)


PROCESSES: dict[str, Callable[[], Process]] = {
    kind.name: kind for kind in (PhaseOscillator, BranchingPath, JumpDiffusion, Arm)
}


def build_process(name: str) -> Process:
    """Return the process of a name, with its default constants.

    Raises:
        KinecastError: there is none of that name.
    """
    if name not in PROCESSES:
        raise KinecastError(f"process {name!r}: expected one of {', '.join(PROCESSES)}")
    return PROCESSES[name]()


def synthetic_series(process: Process, count: int, frames: int, seed: int) -> dict[str, Tensor]:
    """Return named independent series (T, D), as training takes them. The same seed gives the same series."""
    simulated = process.simulate(count, frames, torch.Generator().manual_seed(seed))
    return {f"{process.name}_{i:05d}": series for i, series in enumerate(simulated)}


def synthetic_windows(process: Process, count: int, horizon: Horizon, seed: int) -> Windows:
    """Return independent windows, each a series of its own from its beginning."""
    series = synthetic_series(process, count, horizon.frames, seed)
    return Windows(torch.stack(list(series.values())), list(series), horizon)


def _normal(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _uniform(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _wrapped(angle: Tensor) -> Tensor:
    """Return angles in [-pi, pi)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi
