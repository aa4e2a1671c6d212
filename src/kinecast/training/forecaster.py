"""Training of forecasters on motion series: gradient steps, or only a fit for baselines, behind one entry point.

Notation: M training windows, T = N + H frames of one, D numbers per frame.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinecast.data.video_folder import PERSON_PATTERN
from kinecast.data.windows import Horizon, Series, Windows, evaluation_windows, split_by_person, training_windows
from kinecast.errors import KinecastError
from kinecast.files import atomic_path
from kinecast.forecasting import Forecaster, build_forecaster
from kinecast.forecasting.median import sample_median
from kinecast.forecasting.objectives import fair_crps
from kinecast.training.checkpoint import load_state, save_state

_SCORED_SAMPLES = 32  # of each validation window


@dataclass(frozen=True)
class ForecasterTrainingConfig:
    """One run: the model, its data, and its training.

    `validate` (a regex of persons) is held out and scored once at the end. `early_stop` (likewise, among the rest) is
    held out too and scored every `evaluate_every` steps: the weights of the best score are the result, and `patience`
    scores without improvement end the run. Without it the run has `steps` steps.
    """

    model: str = "vrnn"
    preset: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)  # config values of the model
    observed: int = 12
    forecast: int = 12
    stride: int = 1
    every: int = 1  # windows are of every k-th frame
    also_every: tuple[int, ...] = ()  # other k that training windows are of as well: one model for several rates
    person: str = PERSON_PATTERN
    validate: str | None = None
    early_stop: str | None = None
    evaluate_every: int = 100
    patience: int = 5
    steps: int = 400
    batch_size: int = 24
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    amplitude: float = 0.5  # sigma of the log-normal scale of a window's motion about its mean
    average: float = 0.99  # decay of the weights' moving average, which is scored and kept
    seed: int = 0
    checkpoint_every: int = 100
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("observed", "forecast", "stride", "every", "evaluate_every", "patience", "steps", "batch_size"):
            self._expect(name, getattr(self, name) >= 1, "of at least 1")
        for name in ("warmup_steps", "weight_decay", "amplitude"):
            self._expect(name, getattr(self, name) >= 0, "of at least 0")
        for name in ("learning_rate", "clip_norm", "checkpoint_every"):
            self._expect(name, getattr(self, name) > 0, "above 0")
        self._expect("average", 0 <= self.average < 1, "in [0, 1)")
        self._expect("also_every", all(each >= 1 for each in self.also_every), "of numbers of at least 1")

    @property
    def horizon(self) -> Horizon:
        """N-H of the windows."""
        return Horizon(self.observed, self.forecast)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON has them."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise KinecastError(f"forecaster training: expected {name} {expected}, found {getattr(self, name)!r}")


# How models of the preset `general` are trained, one file for every horizon, as they are bundled (recipes/bundle.py).
GENERAL: Mapping[str, Mapping[str, Any]] = {
    "direct": {"observed": 12, "forecast": 24, "every": 1, "steps": 800, "batch_size": 32},
    "transformer": {
        "observed": 12,
        "forecast": 24,
        "every": 1,
        "also_every": (2,),
        "steps": 900,
        "batch_size": 32,
        "amplitude": 0.25,
    },
}


@dataclass(frozen=True)
class CurvePoint:
    """Where a training was at a step: the mean loss since the last point, and the early-stopping CRPS if there is."""

    step: int
    loss: float
    crps: float | None


@dataclass(frozen=True)
class TrainingResult:
    """A trained forecaster with its record: figures are of held-out people, empty if there are none."""

    model: Forecaster
    steps: int
    seconds: float
    figures: dict[str, float]
    curve: tuple[CurvePoint, ...] = ()


def train_forecaster(
    series: Series,
    config: ForecasterTrainingConfig,
    checkpoint: Path | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> TrainingResult:
    """Train a forecaster on named series (T, D).

    With a `checkpoint` the state is written there every `checkpoint_every` steps, and an interrupted run resumes from
    it to exactly the same weights.

    Raises:
        KinecastError: clips shorter than the horizon, no such person, a checkpoint of another run, or a loss that is
            not finite.
    """
    started = time.monotonic()
    kept_out: dict[str, Tensor] = {}
    if config.validate:
        series, kept_out = split_by_person(series, config.validate, config.person)
    stopping: dict[str, Tensor] = {}
    if config.early_stop:
        series, stopping = split_by_person(series, config.early_stop, config.person)
    rates = (config.every, *config.also_every)
    frames = torch.cat([training_windows(series, config.horizon, config.stride, rate).frames for rate in rates])
    count = len(frames)
    log(f"{config.model} {config.horizon}: {count} windows of {len(series)} clips, {len(kept_out)} clips kept out")

    with torch.random.fork_rng(devices=[]):  # seeds here belong to this run
        torch.manual_seed(config.seed)
        model = build_forecaster(config.model, frames.shape[2], config.preset, **config.overrides)
        model.fit(frames, config.observed)
        model.to(config.device)
        steps, judge = 0, None
        curve: list[CurvePoint] = []
        if any(p.requires_grad for p in model.parameters()):
            judge = evaluation_windows(stopping, config.horizon, config.every) if stopping else None
            run = _Run(model, frames.to(config.device), judge, config, checkpoint, log)
            steps, curve = run.run(), run.curve
        model.calibrate((frames if judge is None else judge.frames).to(config.device), config.observed)
    model.eval()
    figures = scores_of(model, evaluation_windows(kept_out, config.horizon, config.every)) if kept_out else {}
    model.to("cpu")
    return TrainingResult(model, steps, time.monotonic() - started, figures, tuple(curve))


def scores_of(model: Forecaster, windows: Windows, seed: int = 0) -> dict[str, float]:
    """Return mean CRPS and mean absolute error of the median over windows, raw units, and that of the last frame."""
    observed, truth = windows.observed, windows.truth
    count = 2 if model.deterministic else _SCORED_SAMPLES
    samples = model.forecast(observed, truth.shape[1], count, seed=seed).to(truth.device)
    exact = model.exact_median and not model.deterministic
    median = model.median(observed, truth.shape[1], seed=seed).to(truth.device) if exact else sample_median(samples)
    return {
        "crps": float(fair_crps(samples, truth).mean()),
        "mae": float((median - truth).abs().mean()),
        "mae_repeat_last": float((observed[:, -1:] - truth).abs().mean()),
    }


class _Run:
    """The state of gradient training; `state` has everything the next step depends on."""

    def __init__(
        self,
        model: Forecaster,
        windows: Tensor,
        stopping: Windows | None,
        config: ForecasterTrainingConfig,
        checkpoint: Path | None,
        log: Callable[[str], None],
    ) -> None:
        self.model, self.windows, self.stopping, self.config = model, windows, stopping, config
        self.checkpoint, self.log = checkpoint, log
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.average = _copy(model.state_dict())
        self.best: dict[str, Tensor] | None = None
        self.best_score = math.inf
        self.without_better = 0
        self.step = 0
        self.losses = 0.0  # the sum of those since the last point of the curve
        self.curve: list[CurvePoint] = []

    def run(self) -> int:
        """Train to the end, leave the result in the model, return the number of steps."""
        if self.checkpoint and self.checkpoint.exists():
            self._restore(self.checkpoint)
            self.log(f"resuming from step {self.step}")
        while self.step < self.config.steps and self.without_better < self.config.patience:
            loss, parts = self._train_step()
            if self.step % self.config.evaluate_every == 0:
                self._evaluate(loss, parts)
            if self.step % self.config.checkpoint_every == 0:
                self._save()
        self._save()
        self.model.load_state_dict(self.average if self.best is None else self.best)
        return self.step

    def _train_step(self) -> tuple[float, dict[str, Tensor]]:
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * learning_rate_factor(self.config, self.step)
        picked = torch.randint(len(self.windows), (self.config.batch_size,))
        batch = augmented(self.windows[picked.to(self.windows.device)], self.config.amplitude)
        loss, parts = self.model.loss(batch, self.config.observed)
        if not torch.isfinite(loss):
            raise KinecastError(
                f"training stopped at step {self.step}: expected a finite loss, found {float(loss.detach())}: "
                "lower the learning rate"
            )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        decay = min(
            self.config.average, (1 + self.step) / (10 + self.step)
        )  # the initial weights lose their influence soon
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self.average[name].lerp_(parameter, 1 - decay)
        self.step += 1
        self.losses += float(loss.detach())
        return float(loss.detach()), parts

    def _evaluate(self, loss: float, parts: dict[str, Tensor]) -> None:
        line = f"step {self.step}/{self.config.steps}  loss {loss:.4f}  "
        line += "  ".join(f"{name} {float(part):.4f}" for name, part in parts.items())
        score = None
        if self.stopping is not None:
            current = _copy(self.model.state_dict())
            self.model.load_state_dict(self.average)
            score = scores_of(self.model, self.stopping)["crps"]
            self.model.load_state_dict(current)
            better = score < self.best_score
            self.without_better = 0 if better else self.without_better + 1
            if better:
                self.best, self.best_score = _copy(self.average), score
            line += f"  early-stopping CRPS {score:.5f}{' (best)' if better else ''}"
        self.curve.append(CurvePoint(self.step, self.losses / self.config.evaluate_every, score))
        self.losses = 0.0
        self.log(line)

    def _save(self) -> None:
        if self.checkpoint is None:
            return
        state = {
            "config": json.dumps(asdict(self.config), sort_keys=True),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "best": self.best,
            "best_score": self.best_score,
            "without_better": self.without_better,
            "step": self.step,
            "losses": self.losses,
            "curve": [asdict(point) for point in self.curve],
            "random": torch.get_rng_state(),
        }
        save_state(self.checkpoint, state)

    def _restore(self, path: Path) -> None:
        state = load_state(path)
        saved, mine = json.loads(state["config"]), self.config.to_json()
        saved = ForecasterTrainingConfig().to_json() | saved  # values that an earlier version did not have
        changed = sorted(name for name in mine if saved[name] != mine[name])
        if changed:
            raise KinecastError(
                f"{path}: expected the checkpoint of this run, found one with another {', '.join(changed)}: "
                "delete it, or name another output"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {name: tensor.to(self.windows.device) for name, tensor in state["average"].items()}
        self.best, self.best_score = state["best"], state["best_score"]
        self.without_better, self.step = state["without_better"], state["step"]
        self.losses = state.get("losses", 0.0)  # which an earlier version did not keep
        self.curve = [CurvePoint(**point) for point in state.get("curve", ())]
        torch.set_rng_state(state["random"])


def learning_rate_factor(config: ForecasterTrainingConfig, step: int) -> float:
    """Return the learning rate factor at a step: linear warm-up, then half a cosine to 0."""
    rise = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    return rise * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def augmented(batch: Tensor, amplitude: float) -> Tensor:
    """Scale each window's motion about its mean by a random factor, for people livelier or calmer than the data's."""
    if not amplitude:
        return batch
    factor = torch.exp(amplitude * torch.randn(len(batch), 1, 1)).to(batch.device)
    mean = batch.mean(dim=1, keepdim=True)
    return mean + factor * (batch - mean)


def save_run(path: Path, config: ForecasterTrainingConfig, result: TrainingResult) -> None:
    """Write the config with its seeds, and the figures, as JSON."""
    facts = {
        "config": asdict(config),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "torch": torch.__version__,
        "kept_out": result.figures,
    }
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n")


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
