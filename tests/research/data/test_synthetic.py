import math

import pytest
import torch
from torch import Tensor

from kinecast.data.windows import Horizon
from kinecast.errors import KinecastError
from kinecast.metrics.scores import coverage, pit_deviation, pit_histogram
from kinecast.research.data.synthetic import (
    PROCESSES,
    BranchingPath,
    PhaseOscillator,
    Process,
    build_process,
    synthetic_series,
    synthetic_windows,
)

# In the small cases what is hidden matters: little of it is told by three frames.
SMALL: dict[str, Process] = {name: build_process(name) for name in ("jumps", "arm")} | {
    "oscillator": PhaseOscillator(amplitude_spread=0.05),
    "branching": BranchingPath(fork=0.5, jitter=0.4, turn=0.06, noise=0.04, speed_noise=0.01, spread=0.05),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def p_value(x: Tensor, y: Tensor, permutations: int = 60) -> float:
    """Share of random relabellings of equally many rows that are as far apart as these."""
    distances = torch.cdist(torch.cat([x, y]), torch.cat([x, y]))
    sign = torch.cat([torch.ones(len(x)), -torch.ones(len(y))]).to(x)
    shuffled = torch.stack([sign, *(sign[torch.randperm(len(sign))] for _ in range(permutations))])
    apart = -torch.einsum("pi,ij,pj->p", shuffled, distances, shuffled)
    return float((apart[1:] >= apart[0]).double().mean())


@pytest.fixture(params=list(PROCESSES))
def process(request: pytest.FixtureRequest) -> Process:
    return build_process(request.param)


def test_shapes_and_seeds(process: Process) -> None:
    series = process.simulate(5, 20, seeded())
    assert series.shape == (5, 20, process.motion_dim) and series.dtype == torch.float32
    assert torch.equal(process.simulate(5, 20, seeded()), series)
    assert not torch.equal(process.simulate(5, 20, seeded(1)), series)
    futures = process.futures(series[:, :12], 7, 3, seeded(2))
    assert futures.shape == (3, 5, 7, process.motion_dim) and torch.isfinite(futures).all()
    assert torch.equal(process.futures(series[:, :12], 7, 3, seeded(2)), futures)
    assert len(torch.unique(futures.flatten(1), dim=0)) == 3


def test_the_truth_is_calibrated_under_its_conditional_distribution(process: Process) -> None:
    windows = synthetic_windows(process, 1500, Horizon(12, 8), seed=3)
    samples = process.futures(windows.observed, 8, 39, seeded(4))
    histogram = pit_histogram(samples, windows.truth)
    assert pit_deviation(histogram) < 0.025, histogram
    for level, share in coverage(samples, windows.truth).items():
        assert share == pytest.approx(level, abs=0.025)
    # Of what the numbers do together, too: a wrong dependence of frames or numbers would show in these.
    for direction in (torch.ones(8, process.motion_dim), torch.randn(8, process.motion_dim)):
        joint = [(t * direction).sum(dim=(-2, -1))[..., None, None] for t in (samples, windows.truth)]
        assert pit_deviation(pit_histogram(joint[0], joint[1])) < 0.07


@pytest.mark.parametrize("name", list(SMALL))
def test_futures_agree_with_joint_draws_that_began_alike(name: str) -> None:
    # Rejection: of many joint draws keep those whose observed frames are near one window's. What followed them, and
    # what `futures` lets follow them, must be one distribution; what follows other windows must not.
    process = SMALL[name]
    drawn = process.simulate(30_000, 6, seeded(5)).double()
    observed, followed = drawn[:, :3], drawn[:, 3:].flatten(1)
    units = observed.flatten(1).std(dim=0).clamp_min(1e-6)
    near = ((observed - observed[7]).flatten(1) / units).norm(dim=1).argsort()[:400]
    scale = followed[near].std(dim=0)

    def agreement(seen: Tensor) -> float:
        continued = process.futures(seen, 3, 1, seeded(6))[0].flatten(1)
        return p_value(followed[near] / scale, continued / scale)

    assert agreement(observed[near]) > 0.02
    assert agreement(observed[:400]) < 0.02
    if name in ("oscillator", "branching"):  # where the last frame does not tell what is hidden
        assert agreement(observed[near, -1:]) < 0.02


def test_the_oscillators_rate_is_inferred() -> None:
    process = PhaseOscillator(rate_spread=0.2, noise=0.1)
    phase = torch.tensor([0.0, 0.6, 1.3, 1.9], dtype=torch.float64)
    observed = 2 * torch.stack([phase.cos(), phase.sin()], dim=1)[None]
    future = process.futures(observed, 1, 40_000, seeded())[:, 0, 0]
    assert future.norm(dim=1).numpy() == pytest.approx(2)
    step = torch.atan2(future[:, 1], future[:, 0]) - 1.9
    precision = 25 + 3 * 100
    mean = (0.4 * 25 + 1.9 * 100) / precision
    assert float(step.mean()) == pytest.approx(mean, abs=0.003)
    assert float(step.std()) == pytest.approx(math.sqrt(1 / precision + 0.01), rel=0.02)


def test_steps_across_half_a_turn_are_read_right() -> None:
    phase = torch.tensor([2.9, 3.3, 3.7], dtype=torch.float64)  # past pi
    observed = torch.stack([phase.cos(), phase.sin()], dim=1)[None]
    future = PhaseOscillator(noise=1e-3, rate_spread=0.5).futures(observed, 1, 50, seeded())[:, 0, 0]
    assert torch.atan2(future[:, 1], future[:, 0]).numpy() == pytest.approx(4.1 - 2 * math.pi, abs=0.01)


def test_the_side_is_told_by_what_was_seen_of_the_turn() -> None:
    process = BranchingPath(noise=0.04, turn=0.04, odds=10.0)
    observed = torch.tensor([[-0.01, 0.05], [0.04, 0.1], [0.09, 0.12]], dtype=torch.float64)[None]
    right = process.futures(observed, 40, 20_000, seeded())[:, 0, -1, 1] > 0.12
    log_odds = 10 * 0.1 + 2 * 0.04 * 0.02 / 0.04**2  # the odds at the first frame past the fork, and one step since
    expected = 1 / (1 + math.exp(-log_odds))
    assert float(right.double().mean()) == pytest.approx(expected, abs=0.01)


def test_both_branches_are_taken_and_told_apart() -> None:
    process = BranchingPath()
    windows = synthetic_windows(process, 200, Horizon(12, 12), seed=1)
    branches = process.branches(windows.truth[None])[0]
    assert (branches >= 0).all() and 0.3 < branches.double().mean() < 0.7
    assert (windows.observed[:, -1, 0] < 0).double().mean() > 0.7  # the fork is still ahead
    futures = process.branches(process.futures(windows.observed, 12, 100, seeded()))
    share = (futures == 1).double().mean(dim=0)
    assert share.std() > 0.1 and ((share > 0.1) & (share < 0.9)).double().mean() > 0.9
    straight = windows.observed[:, -1:] + torch.arange(12).view(1, 12, 1) * torch.tensor([0.05, 0.0])
    assert (process.branches(straight[None]) == -1).all()


def test_jumps_have_heavy_tails() -> None:
    steps = build_process("jumps").simulate(2000, 12, seeded()).diff(dim=1)[..., 0].flatten().double()
    assert (steps / steps.std()).pow(4).mean() > 8  # a Gaussian's is 3


def test_an_arm_keeps_its_lengths() -> None:
    process = build_process("arm")
    series = process.simulate(4, 12, seeded())
    futures = process.futures(series, 9, 2, seeded())

    def lengths(motion: Tensor) -> Tensor:
        joints = motion.unflatten(-1, (3, 2))
        return torch.cat([joints[..., :1, :], joints.diff(dim=-2)], dim=-2).norm(dim=-1)

    torch.testing.assert_close(lengths(futures), lengths(series)[None, :, -1:].expand(2, -1, 9, -1))


def test_named_series_are_what_training_takes() -> None:
    series = synthetic_series(build_process("arm"), 3, 15, seed=2)
    assert list(series) == ["arm_00000", "arm_00001", "arm_00002"]
    assert all(motion.shape == (15, 6) for motion in series.values())


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(KinecastError, match="expected one of oscillator, branching, jumps, arm"):
        build_process("weather")
    with pytest.raises(KinecastError, match=r"arm: expected observed motion \(B, N, 6\) of at least 2 frames"):
        build_process("arm").futures(torch.zeros(1, 1, 6), 3, 1, seeded())
    with pytest.raises(KinecastError, match="at least 2 frames, found 1"):
        BranchingPath().branches(torch.zeros(1, 1, 1, 2))
