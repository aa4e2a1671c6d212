"""One trajectory per window, rendered: the data of the single-prediction tables.

The trajectory is the median over samples, number by number, or the single prediction of a deterministic row. CRPS and
energy score are of the samples themselves. Observed frames are animated by their true keypoints in every row, so they
are measured once, in the reference unit, with the rows that need no forecast: true keypoints (the ceiling that the
backbone sets) and a copy of the source.

Notation: W windows, T = N + H frames, D numbers per frame, S samples.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from kinecast.data.windows import Windows
from kinecast.forecasting.median import sample_median
from kinecast.metrics.jedi import VJEPA
from kinecast.metrics.pixel import mae, ssim
from kinecast.metrics.scores import crps, energy_score
from kinecast.research.predictors import predict
from kinecast.research.rendering import Stage
from kinecast.research.study import Job, Unit, unit_seed

Arrays = dict[str, np.ndarray]


def measure_single(stage: Stage, windows: Windows, job: Job, jedi: VJEPA | None = None) -> Mapping[str, Arrays]:
    """Return for each unit of a job, by its key, arrays over its windows.

    Reference: true_mae, true_ssim, copy_mae, copy_ssim (W, T) and vectors (W, T, D). A forecast: mae, ssim,
    keypoint_mae (W, H), crps, energy_score (W,), forecast and sample (W, H, D). With JEDi's network: features (W, C)
    of whole windows, in the reference those of the truth, and true_features and copy_features.
    """
    observed = job.horizon.observed
    drawn = {unit.key: _forecasts(windows, job, unit) for unit in job.units if unit.row is not None}
    collected: dict[str, list[Arrays]] = {unit.key: [] for unit in job.units}
    truths = stage.truths(windows.frames, job.windows, job.study.every)
    for i, (window, truth) in enumerate(zip(job.windows, truths, strict=True)):
        vectors = windows.frames[window]
        given = stage.render(vectors[:observed]) if jedi is not None else None
        for unit in job.units:
            if unit.row is None:
                arrays = reference_arrays(stage, vectors, truth, jedi)
            else:
                forecast = {name: values[i] for name, values in drawn[unit.key].items()}
                frames = stage.render(torch.from_numpy(forecast["forecast"]))
                arrays = forecast | _distances(frames, truth[observed:])
                if jedi is not None and given is not None:
                    arrays["features"] = _features(jedi, torch.cat([given, frames]))
            collected[unit.key].append(arrays)
    return {key: {name: np.stack([p[name] for p in parts]) for name in parts[0]} for key, parts in collected.items()}


def reference_arrays(stage: Stage, vectors: Tensor, truth: Tensor, jedi: VJEPA | None = None) -> Arrays:
    """Return what needs no forecast, of one window: frames from true keypoints, and the source held still."""
    true = truth if stage.transfer else stage.render(vectors)  # in transfer the truth *is* what true keypoints give
    rows = {"true": true, "copy": stage.source.expand_as(truth)}
    arrays = {f"{row}_{name}": v for row, frames in rows.items() for name, v in _distances(frames, truth).items()}
    arrays["vectors"] = vectors.numpy()
    if jedi is not None:
        arrays |= {f"{row}_features": _features(jedi, frames) for row, frames in rows.items()}
        arrays["features"] = _features(jedi, truth)
    return arrays


def _forecasts(windows: Windows, job: Job, unit: Unit) -> Arrays:
    """Draw the forecasts of a unit and score them as motion."""
    assert unit.row is not None
    seed = unit_seed(unit.seed, job.clip, job.horizon, job.windows)
    samples = predict(unit.row, windows, job.windows, job.study.samples, seed)
    truth = windows.truth[list(job.windows)]
    central = sample_median(samples)
    scored = samples.expand(2, -1, -1, -1) if len(samples) == 1 else samples  # the fair estimators ask for two
    return {
        "forecast": central.numpy(),
        "sample": samples[0].numpy(),
        "keypoint_mae": (central - truth).abs().mean(dim=2).numpy(),
        "crps": crps(scored, truth).mean(dim=(1, 2)).numpy(),
        "energy_score": energy_score(scored, truth).numpy(),
    }


def _distances(frames: Tensor, truth: Tensor) -> Arrays:
    return {"mae": mae(frames, truth).numpy(), "ssim": ssim(frames, truth).numpy()}


def _features(jedi: VJEPA, frames: Tensor) -> np.ndarray:
    return jedi.features(frames.unsqueeze(0))[0].cpu().numpy()
