"""A small classifier of defects in motion, to ask what synthetic defects are worth as its training data.

Two convolutions in time over the whitened changes of W frames, the largest response of each feature, and one number:
the log odds that the last of these frames is of a defect. Training sets are weighted alike, however many windows they
have: half of each batch is normal, half defects, and each half is drawn in equal shares from the sets that have any.

Notation: T frames, W frames of a window, D numbers per frame.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.apps.anomaly.scorer import Whitening
from kinecast.data.windows import Series
from kinecast.errors import KinecastError


@dataclass(frozen=True)
class Labelled:
    """Clips (T, D) with the first frame of the defect in each; T or more where there is none."""

    clips: Series
    onsets: Mapping[str, int]

    @classmethod
    def normal(cls, clips: Series) -> "Labelled":
        """Return clips without a defect."""
        return cls(clips, {name: len(motion) for name, motion in clips.items()})


@dataclass(frozen=True)
class ClassifierConfig:
    """W frames of a window, channels of a convolution, steps and size of training batches."""

    window: int = 8
    hidden: int = 32
    steps: int = 300
    batch: int = 128
    learning_rate: float = 3e-3
    decay: float = 1e-3
    seed: int = 0


class DefectClassifier:
    """A scorer, as the detectors of `kinecast.apps.anomaly` take them; its score is named `name`."""

    def __init__(self, name: str, network: nn.Module, whitening: Whitening, window: int) -> None:
        self.name, self.network, self.whitening, self.window = name, network.eval(), whitening, window

    @torch.inference_mode()
    def score_series(self, series: Tensor) -> dict[str, np.ndarray]:
        """Return the log odds of each frame of a series (T, D), (T,), by name: NaN where too little was seen."""
        scores = np.full(len(series), np.nan)
        if len(series) >= self.window:
            scores[self.window - 1 :] = self.network(_windows(self.whitening(series), self.window))[:, 0].numpy()
        return {self.name: scores}

    def watch(self, frames: Iterable[Tensor]) -> Iterator[Mapping[str, float]]:
        """Yield the score of each frame (D,) as it comes."""
        kept: list[Tensor] = []
        for frame in frames:
            kept = [*kept, frame][-self.window :]
            score = self.score_series(torch.stack(kept))[self.name][-1]
            yield {} if np.isnan(score) else {self.name: float(score)}


def train_classifier(
    name: str, sets: Sequence[Labelled], whitening: Whitening, config: ClassifierConfig | None = None
) -> DefectClassifier:
    """Train on sets of labelled clips.

    A window counts as a defect if its last frame is one.

    Raises:
        KinecastError: there are no windows of one of the two.
    """
    config = config or ClassifierConfig()
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])  # normal, defects: a tensor (M, W-1, D) a set
    for each in sets:
        cut = [_cut(whitening(m), each.onsets[n], config.window) for n, m in each.clips.items()]
        for side, parts in zip(sides, zip(*cut, strict=True), strict=True):
            if any(len(part) for part in parts):
                side.append(torch.cat([part for part in parts if len(part)]))
    if not all(sides):
        raise KinecastError("defects: expected windows with and without a defect, found none of one: use longer clips")
    generator = torch.Generator().manual_seed(config.seed)
    network = _network(sides[0][0].shape[2], config.hidden, generator)
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=config.steps)
    truth = torch.cat([torch.zeros(config.batch // 2, 1), torch.ones(config.batch // 2, 1)])
    for _ in range(config.steps):
        batch = torch.cat([_draw(side, config.batch // 2, generator) for side in sides])
        loss = F.binary_cross_entropy_with_logits(network(batch), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return DefectClassifier(name, network, whitening, config.window)


def _windows(white: Tensor, window: int) -> Tensor:
    """Return the changes within each window of motion (T, D): (T-W+1, W-1, D)."""
    return white.diff(dim=0).unfold(0, window - 1, 1).transpose(1, 2)


def _cut(white: Tensor, onset: int, window: int) -> tuple[Tensor, Tensor]:
    """Return the windows without a defect and those whose last frame is of one."""
    if len(white) < window:
        empty = white.new_zeros(0, window - 1, white.shape[1])
        return empty, empty
    windows = _windows(white, window)
    defect = torch.arange(window - 1, len(white)) >= onset
    return windows[~defect], windows[defect]


def _draw(parts: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Draw windows, in equal shares from each part."""
    shares = [count // len(parts) + (i < count % len(parts)) for i in range(len(parts))]
    drawn = [
        part[torch.randint(len(part), (share,), generator=generator)] for part, share in zip(parts, shares, strict=True)
    ]
    return torch.cat(drawn)


def _network(dim: int, hidden: int, generator: torch.Generator) -> nn.Module:
    """Return the network, its weights drawn by a generator of its own."""
    network = _Network(dim, hidden)
    with torch.no_grad():
        for parameter in network.parameters():
            bound = 1 / np.sqrt(max(1, parameter[0].numel()))
            parameter.copy_((torch.rand(parameter.shape, generator=generator) * 2 - 1) * bound)
    return network


class _Network(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(dim, hidden, 3, padding=1)
        self.second = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.read = nn.Linear(hidden, 1)

    def forward(self, changes: Tensor) -> Tensor:
        """Return log odds (B, 1) of changes (B, W-1, D)."""
        x = torch.asinh(changes).transpose(1, 2)  # faults are far from 1: what matters of them is their order
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.read(x.amax(dim=2))
