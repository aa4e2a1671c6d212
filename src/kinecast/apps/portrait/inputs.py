"""Pictures in any form a program may have."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.media.display import on_white
from kinecast.media.pictures import as_frames
from kinecast.media.video import read_frames


def as_picture(picture: Any) -> np.ndarray:
    """Return a picture as uint8 (H, W, 3).

    Args:
        picture: a path of a picture or a clip (its first frame); a PIL image; an array (H, W), (H, W, 3) or (H, W, 4)
            of uint8; or an array or a tensor of floats in [0, 1], (3, H, W) or (1, 3, H, W).

    Raises:
        KinecastError: it is none of these, or unreadable.
    """
    if isinstance(picture, str | Path):
        return next(read_frames(picture, crop="none", limit=1))
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 2:
        picture = np.repeat(picture[:, :, None], 3, axis=2)
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 4:
        picture = Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        return on_white(picture) if picture.has_transparency_data else np.array(picture.convert("RGB"))
    if isinstance(picture, np.ndarray) and np.issubdtype(picture.dtype, np.floating):
        picture = torch.from_numpy(np.ascontiguousarray(picture, np.float32))
    if not isinstance(picture, np.ndarray | Tensor):
        raise KinecastError(
            f"picture: expected a path, a PIL image, an array or a tensor, found {type(picture).__name__}: convert it"
        )
    found = as_frames(picture)
    if len(found) != 1:
        raise KinecastError(f"picture: expected one, found {len(found)}: give one, or a list of them as driving frames")
    return np.ascontiguousarray(found[0])
