"""One clip to render: its encoded source, its true frames read window by window, and motion animated.

Notation: T frames, N observed, H horizon, D numbers per frame.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor

from kinecast.data.datasets import Clip
from kinecast.media.pictures import to_tensor
from kinecast.models.base import Backbone
from kinecast.motion import Motion


class Stage:
    """A driving clip and the source that it animates.

    In reconstruction the source is the clip's own first frame and the truth its frames; in transfer the source is
    another clip's first frame and the truth the backbone's own output with the true keypoints.
    """

    def __init__(
        self, backbone: Backbone, clip: Clip, motion: Motion, source: Clip | None, crop: str, relative: bool
    ) -> None:
        self.backbone, self.clip, self.motion, self.crop = backbone, clip, motion, crop
        self.transfer = source is not None
        self.relative = relative and self.transfer
        self.source = (source or clip).first_frame(backbone.frame_size, crop)
        picture = self.source.to(backbone.device)
        self._state: Any = backbone.encode_source(picture)
        self._source_motion = backbone.detect(picture)

    def render(self, vectors: Tensor) -> Tensor:
        """Animate the source by motion vectors (T, D): frames (T, 3, H, W) on the CPU.

        Relative motion is the change since the clip's first frame, which is always sent.
        """
        motion = self.motion.with_vectors(vectors)
        if self.relative:
            source = self._source_motion.to("cpu")
            motion = self.backbone.retarget(source, self.motion[0], adapt_scale=False)(motion)
        return self.backbone.animate(self._state, self._source_motion, motion.to(self.backbone.device)).cpu()

    def truths(self, vectors: Tensor, windows: Sequence[int], every: int = 1) -> Iterator[Tensor]:
        """Yield the true frames (T, 3, H, W) of some windows, ascending, whose true motion is (W, T, D).

        Windows are of every k-th frame of the clip, k = `every`.
        """
        if self.transfer:
            yield from (self.render(vectors[window]) for window in windows)
            return
        length = vectors.shape[1]
        frames = self.clip.frames(self.backbone.frame_size, self.crop)
        at = 0
        for window in windows:
            start, span = window * length * every, (length - 1) * every + 1
            for _ in islice(frames, start - at):
                pass
            yield to_tensor(np.stack(list(islice(frames, span))[::every]))
            at = start + span
