"""Which frames of a clip are forecast, and their motion.

Notation: T frames, N observed, H horizon, S samples.
"""

import numpy as np
import torch

from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster
from kinecast.motion import Motion


def forecast_mask(frames: int, observed: int, horizon: int) -> np.ndarray:
    """Return (T,) bool, True where a frame is forecast: N observed and H forecast alternately, whole windows only.

    Raises:
        KinecastError: the clip is shorter than one window.
    """
    if observed < 1 or horizon < 1:
        raise KinecastError(f"horizon: expected N-H with both at least 1, found {observed}-{horizon}")
    window = observed + horizon
    if frames < window:
        raise KinecastError(
            f"driving has {frames} frame{'s' if frames != 1 else ''}; horizon {observed}-{horizon} needs at least "
            f"{window}: choose a shorter horizon or a longer clip"
        )
    index = np.arange(frames)
    return (index % window >= observed) & (index < frames // window * window)


def forecast_motion(
    motion: Motion, forecaster: Forecaster, observed: int, horizon: int, samples: int = 1, seed: int = 0
) -> tuple[list[Motion], np.ndarray]:
    """Replace the forecast blocks of a motion by forecasts of the N frames before each: S motions and the mask.

    A forecast depends only on the N observed frames before it; frames after the last whole window are kept.
    If one of the N is invalid, the last of them is held: a held pose is no motion to forecast from.
    Motion of variable frame rate is resampled first, see `Motion.evenly_timed`.
    """
    motion = motion.evenly_timed()
    mask = forecast_mask(len(motion), observed, horizon)
    vectors = motion.vectors()
    window = observed + horizon
    count = len(motion) // window
    windows = vectors[: count * window].view(count, window, -1)
    futures = forecaster.forecast(windows[:, :observed].contiguous(), horizon, samples, seed)
    unseen = ~motion.valid_frames()[: count * window].view(count, window)[:, :observed].all(dim=1)
    futures = torch.where(unseen[:, None, None], windows[:, observed - 1 : observed].to(futures), futures)
    motions = []
    for future in futures:
        filled = vectors.clone()
        filled[torch.from_numpy(mask)] = future.reshape(count * horizon, -1).to(filled)
        motions.append(motion.with_vectors(filled))
    return motions, mask
