"""One clip under test: its true frames and motion, and a cache of frames rendered from motion.

Notation: T frames, D numbers per frame.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinecast.codec.stream import code_picture, open_picture
from kinecast.media.pictures import to_tensor, to_uint8
from kinecast.media.video import probe, read_frames
from kinecast.models.base import Backbone
from kinecast.motion import concatenate
from kinecast.research.distortions import Distortions, Reference

_BATCH = 8
_KEPT = 1000  # cached renders: several times a clip's frames, 50 MB at 128x128


@dataclass
class RateClip:
    """A clip at a backbone's size: frames (T, H, W, 3) uint8, motion vectors (T, D) float32, what it is compared by."""

    name: str
    fps: Fraction
    frames: np.ndarray
    vectors: np.ndarray
    backbone: Backbone
    reference: Reference
    _sources: dict[int, tuple[int, Any, Any]] = field(default_factory=dict)
    _drawn: OrderedDict[tuple[int, bytes], np.ndarray] = field(default_factory=OrderedDict)

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.frames) / float(self.fps)

    def picture_bytes(self, quality: int) -> int:
        """Return the size of the reference picture, the first frame, as `kinecast encode` stores it."""
        return self._source(quality)[0]

    def draw(self, vectors: np.ndarray, picture_quality: int) -> Tensor:
        """Animate the coded reference picture by motion (T, D): frames (T, 3, H, W) in [0, 1], rounded to 8 bits."""
        return to_tensor(
            np.stack([self._picture(picture_quality, np.ascontiguousarray(v, np.float32)) for v in vectors])
        )

    def _picture(self, quality: int, vector: np.ndarray) -> np.ndarray:
        """Render one frame by itself: in a batch its last bits would depend on the rest of the batch."""
        key = quality, vector.tobytes()
        if key in self._drawn:
            self._drawn.move_to_end(key)
            return self._drawn[key]
        _, state, source_motion = self._source(quality)
        motion = self.backbone.unflatten(torch.from_numpy(vector[None]))
        with torch.inference_mode():
            frame = self.backbone.animate(state, source_motion, motion.to(self.backbone.device)).cpu()
        drawn = self._drawn[key] = to_uint8(frame)[0]
        if len(self._drawn) > _KEPT:
            self._drawn.popitem(last=False)
        return drawn

    def compare(self, frames: Tensor) -> dict[str, np.ndarray]:
        """Compare frames (T, 3, H, W) with the true ones."""
        return self.reference.compare(frames)

    def _source(self, quality: int) -> tuple[int, Any, Any]:
        if quality not in self._sources:
            data, _ = code_picture(self.frames[0], quality)
            picture = to_tensor(open_picture(data, self.frames.shape[1:3])[None]).to(self.backbone.device)
            with torch.inference_mode():
                self._sources[quality] = (
                    len(data),
                    self.backbone.encode_source(picture),
                    self.backbone.detect(picture),
                )
        return self._sources[quality]


def load_rate_clip(
    backbone: Backbone, path: str | Path, measures: Distortions, crop: str, fps: float | None, limit: int | None
) -> RateClip:
    """Read a clip, detect its motion, and look at its faces."""
    frames = np.stack(list(read_frames(path, backbone.frame_size, crop, limit)))
    truth, detect = to_tensor(frames), backbone.follow()
    with torch.inference_mode():
        parts = [detect(part.to(backbone.device)).to("cpu") for part in truth.split(_BATCH)]
    rate = Fraction(fps or probe(path).fps).limit_denominator(1001)
    return RateClip(
        Path(path).stem, rate, frames, concatenate(parts).held().vectors().numpy(), backbone, measures.against(truth)
    )
