"""S trajectories a window, all animated, C kept: what the diverse tables are made of (arXiv 2504.05537, section 5.3).

Frame t of all samples is animated, measured and let go before frame t + 1: no more than one frame of each sample is
ever held. Observed frames are the same in all samples, so they add nothing to APD.

Notation: W windows, N observed, H horizon, S samples, C kept.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from kinecast.data.windows import Windows
from kinecast.metrics.diversity import keep_closest_to_truth
from kinecast.metrics.pixel import PixelSums
from kinecast.research.predictors import predict
from kinecast.research.rendering import Stage
from kinecast.research.single import Arrays, reference_arrays
from kinecast.research.study import Job, unit_seed


def measure_diverse(stage: Stage, windows: Windows, job: Job) -> Mapping[str, Arrays]:
    """Return for each unit of a job, by its key, arrays over its windows, of predicted frames alone.

    A forecast: mae and ssim of each sample (W, S), apd of all samples and apd_kept of the kept (W,), kept (W, C).
    A row without randomness has one sample. The reference is that of `measure_single`.
    """
    observed = job.horizon.observed
    drawn = {
        unit.key: predict(
            unit.row,
            windows,
            job.windows,
            job.study.samples,
            unit_seed(unit.seed, job.clip, job.horizon, job.windows),
        )
        for unit in job.units
        if unit.row is not None
    }
    collected: dict[str, list[Arrays]] = {unit.key: [] for unit in job.units}
    truths = stage.truths(windows.frames, job.windows, job.study.every)
    for i, (window, truth) in enumerate(zip(job.windows, truths, strict=True)):
        for unit in job.units:
            if unit.row is None:
                arrays = reference_arrays(stage, windows.frames[window], truth)
            else:
                arrays = _sampled(stage, drawn[unit.key][:, i], truth[observed:], job.study.keep)
            collected[unit.key].append(arrays)
    return {key: {name: np.stack([p[name] for p in parts]) for name in parts[0]} for key, parts in collected.items()}


def _sampled(stage: Stage, samples: Tensor, truth: Tensor, keep: int) -> Arrays:
    """Animate samples (S, H, D) frame by frame against the true frames (H, 3, h, w)."""
    sums = PixelSums(len(samples))
    for t, target in enumerate(truth):
        sums.add(stage.render(samples[:, t]), target)
    kept = keep_closest_to_truth(sums.mae, min(keep, len(samples)))
    return {
        "mae": sums.mae.numpy(),
        "ssim": sums.ssim.numpy(),
        "apd": np.array(sums.apd()),
        "apd_kept": np.array(sums.apd(kept)),
        "kept": kept.numpy(),
    }
