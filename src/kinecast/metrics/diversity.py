"""The diverse protocol of arXiv 2504.05537, section 5.3: a choice of samples, and the scaled APD/MAE ratio.

Of D = 100 samples of a video the C = 20 of lowest MAE against the *truth* are kept. That is an oracle's choice, which
no forecaster could make. Every figure of the kept samples is labelled so, beside the figure of all.
`metrics.pixel.PixelSums` computes both without keeping the videos.

Notation: D samples drawn, C kept, V videos.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kinecast.errors import KinecastError

DRAWN, KEPT = 100, 20


def keep_closest_to_truth(mae: Tensor, kept: int = KEPT) -> Tensor:
    """Return the indices (C,) of the samples of lowest MAE (D,) against the truth: an ORACLE choice, closest first.

    Raises:
        KinecastError: fewer samples than to be kept.
    """
    if mae.ndim != 1 or not 1 <= kept <= len(mae):
        raise KinecastError(f"samples to keep: expected 1 to D of the errors (D,), found {kept} of {tuple(mae.shape)}")
    return mae.argsort(stable=True)[:kept]


@dataclass(frozen=True)
class ScaledRatios:
    """Scaled APD over scaled MAE of one model's V videos (higher is better), with care at the minimum.

    The video of lowest MAE has a scaled MAE of 0, so its ratio is infinite, or undefined (NaN) if its scaled APD is 0
    too; videos close to it have arbitrarily large ratios. `median` counts an infinite ratio as the largest, `mean`
    ignores it, and both ignore undefined ones. One video close to the minimum can decide the mean, which is the
    published figure: trust the median.
    """

    ratios: Tensor  # (V,), including infinity and NaN
    mean: float
    median: float
    infinite: int
    undefined: int


def scaled_ratios(apd: Mapping[str, Tensor], mae: Mapping[str, Tensor]) -> dict[str, ScaledRatios]:
    """Return for each model its ratios. APD and MAE are min-max scaled over all videos *and all models* together.

    A ratio thus depends on the other models in the comparison, and is not a property of one model.

    Args:
        apd: for each model, of each video (V,).
        mae: the same of MAE.

    Raises:
        KinecastError: different models or videos in the two, none at all, not finite, or all values equal.
    """
    if not apd or {name: v.shape for name, v in apd.items()} != {name: v.shape for name, v in mae.items()}:
        raise KinecastError(
            f"scaled ratio: expected APD and MAE of the same videos of the same models, found "
            f"{_shapes(apd)} and {_shapes(mae)}"
        )
    diversity, error = _scaled("APD", apd), _scaled("MAE", mae)
    return {name: _summary(diversity[name] / error[name]) for name in apd}


def _scaled(what: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    together = torch.cat([v.double().flatten() for v in values.values()])
    low, high = together.amin(), together.amax()
    if not torch.isfinite(together).all() or not high > low:
        raise KinecastError(
            f"scaled ratio: expected finite {what} that differs between videos or models, found {float(low):g} to "
            f"{float(high):g}: the scale is undefined"
        )
    return {name: (v.double() - low) / (high - low) for name, v in values.items()}


def _summary(ratios: Tensor) -> ScaledRatios:
    defined, finite = ratios[~ratios.isnan()], ratios[ratios.isfinite()]
    return ScaledRatios(
        ratios=ratios,
        mean=float(finite.mean()),
        median=_median(defined),
        infinite=int(ratios.isinf().sum()),
        undefined=int(ratios.isnan().sum()),
    )


def _median(values: Tensor) -> float:
    if not len(values):
        return float("nan")
    ordered = values.sort().values
    low, high = ordered[(len(values) - 1) // 2], ordered[len(values) // 2]
    return float(low if low == high else (low + high) / 2)  # of two infinities, too


def _shapes(values: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {tuple(v.shape)}" for name, v in values.items()) or "none"
