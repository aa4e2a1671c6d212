"""What a forecaster expected the next second of a clip to look like, what came, and where the two differ.

Futures of the motion are animated from the clip's own first frame, and so is the motion that came: what the backbone
cannot draw is in both, and is no surprise. Of each pixel the surprise is the continuous ranked probability score of the
futures' pictures f against the picture of what came, x, mean over colours (Gneiting & Raftery 2007):

    mean |f - x| - mean |f - f'| / 2

It is in [0, 1] and small where all that came was among what was expected.

Notation: T frames, N observed, H frames of the second, S samples, D numbers per frame; pictures (3, A, B) in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.anomaly.scorer import ForecastScorer
from kinecast.apps.extraction import BATCH
from kinecast.errors import KinecastError
from kinecast.files import atomic_path
from kinecast.forecasting.median import sample_median
from kinecast.models.base import Backbone

_DPI = 110
_COLUMNS = 8  # frames that are shown, at most
_BRIGHTEST = 0.05  # the least surprise that the scale reaches: of a clip without any, noise is not blown up


@dataclass(frozen=True)
class Preview:
    """A forecast made at frame `made_at`, the last one it saw, of `frames` after it.

    `observed` and `expected` are (H, 3, A, B): the clip's own frames, and the animated median of the futures;
    `surprise` is (H, A, B).
    """

    made_at: int
    frames: tuple[int, ...]
    observed: Tensor
    expected: Tensor
    surprise: Tensor


def horizon_of(made_at: int, total: int, fps: float | None, seconds: float = 1.0) -> int:
    """Return how many frames of a clip of `total` are within so many seconds after one: at most what there are."""
    return min(max(1, round(seconds * (fps or 25.0))), total - 1 - made_at)


def when(alarm: int | None, fault: int | None, scores: Sequence[float | None], observed: int) -> int:
    """Return the frame that a preview is made at: before the fault if it is known, the alarm, or the largest score.

    `scores` are those of the alarm, None where there is none.

    Raises:
        KinecastError: that is before N frames were seen, or no frame comes after.
    """
    known = [(score, i) for i, score in enumerate(scores) if score is not None]
    first = fault if fault is not None else alarm if alarm is not None else max(known, default=(0.0, 0))[1]
    made_at = max(first - 1, observed - 1)
    if made_at >= len(scores) - 1:
        raise KinecastError(
            f"pictures: expected frames after the {observed} that are observed and after frame {made_at}, found "
            f"{len(scores)} in all: use a longer clip"
        )
    return made_at


@torch.inference_mode()
def preview(
    backbone: Backbone,
    scorer: ForecastScorer,
    motion: Tensor,
    pictures: Sequence[Tensor],
    made_at: int,
    samples: int = 8,
    seed: int = 0,
) -> Preview:
    """Forecast and animate the frames after `made_at`.

    Args:
        backbone: of the motion.
        scorer: of the forecaster; its config says how much is observed.
        motion: of the clip (T, D).
        pictures: the clip's first frame, and those after `made_at` that are forecast, each (3, A, B).
        made_at: the last frame that the forecast sees.
        samples: S.
        seed: of the samples.
    """
    horizon = len(pictures) - 1
    observed = motion[made_at + 1 - scorer.config.observed : made_at + 1]
    count = 2 if scorer.model.deterministic else samples
    futures = scorer.futures(observed[None], horizon, count, seed)[:, 0]
    first = pictures[0][None].to(backbone.device)
    state, start = backbone.encode_source(first), backbone.detect(first)

    def drawn(vectors: Tensor) -> Tensor:
        parts = vectors.to(backbone.device).split(BATCH)
        return torch.cat([backbone.animate(state, start, backbone.unflatten(part)).cpu() for part in parts])

    came = drawn(motion[made_at + 1 : made_at + 1 + horizon])
    rows = torch.stack([drawn(future) for future in futures])
    return Preview(
        made_at,
        tuple(range(made_at + 1, made_at + 1 + horizon)),
        torch.stack(list(pictures[1:])),
        drawn(sample_median(futures[:, None])[0]),
        surprise_of(rows, came),
    )


def surprise_of(futures: Tensor, came: Tensor) -> Tensor:
    """Return the surprise (H, A, B) of pictures (H, 3, A, B), given futures (S, H, 3, A, B)."""
    count = len(futures)
    far = (futures - came).abs().mean(dim=0)
    ranks = torch.arange(count, dtype=futures.dtype) * 2 - (count - 1)
    # The mean of |f - f'| over pairs, from the sorted samples.
    apart = (futures.sort(dim=0).values * ranks.view(-1, 1, 1, 1, 1)).sum(dim=0) * 2 / (count * max(1, count - 1))
    return (far - apart / 2).clamp_min(0).mean(dim=1)


def draw_preview(path: Path, made: Preview, title: str, fps: float | None, fault: int | None = None) -> None:
    """Write a grid: what came, what was expected and the heat of surprise, a column a frame; png or svg by suffix."""
    from matplotlib.figure import Figure

    shown = np.unique(np.linspace(0, len(made.frames) - 1, min(_COLUMNS, len(made.frames))).round().astype(int))
    height, width = made.observed.shape[2:]
    figure = Figure(figsize=(1.15 * len(shown) + 1.4, 1.2 * 3 * height / width + 0.9), layout="constrained")
    axes = figure.subplots(3, len(shown), squeeze=False)
    most = max(_BRIGHTEST, float(made.surprise.max()))
    heat: Any = None
    for row, (name, values) in enumerate(_rows(made)):
        for column, i in enumerate(shown):
            axis = axes[row, column]
            drawn = axis.imshow(values[i], cmap="inferno", vmin=0, vmax=most)
            heat = drawn if values.ndim == 3 else heat
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(_named(made, int(i), fps, fault), fontsize=7)
        axes[row, 0].set_ylabel(name, fontsize=8)
    bar = figure.colorbar(heat, ax=list(axes[2]), fraction=0.05, pad=0.01)
    bar.ax.tick_params(labelsize=6)
    figure.suptitle(title, fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)


def _rows(made: Preview) -> list[tuple[str, np.ndarray]]:
    pictures = [("observed", made.observed), ("forecast", made.expected)]
    rows = [(name, p.clamp(0, 1).permute(0, 2, 3, 1).numpy()) for name, p in pictures]
    return [*rows, ("surprise", made.surprise.numpy())]


def _named(made: Preview, index: int, fps: float | None, fault: int | None) -> str:
    frame = made.frames[index]
    ahead = f"+{(index + 1) / fps:.2f} s" if fps else f"+{index + 1}"
    return f"{frame}: {ahead}" + ("\nfault" if fault is not None and frame >= fault else "")
