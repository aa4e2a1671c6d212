"""The motion of a clip, detected in constant memory: D numbers per frame are kept, frames are not."""

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from kinecast.apps.blendshapes import Blendshapes
from kinecast.errors import KinecastError
from kinecast.media.footage import Footage, footage
from kinecast.models.base import Backbone
from kinecast.motion import Motion

BATCH = 8  # frames per batch

Progress = Callable[[str, int], None]


def extract(
    backbone: Backbone,
    clip: str | Path,
    crop: str = "center",
    fps: float | None = None,
    limit: int | None = None,
    progress: Progress = lambda stage, frames: None,
    true_fps: float | None = None,
    faces: Blendshapes | None = None,
) -> Motion:
    """Detect the motion of a clip's frames, streaming. It has the frames' times if their rate is not constant.

    If the backbone needs a face, frames without one hold a neighbour's motion and are marked in `Motion.valid`.

    Args:
        backbone: its weights determine the frame size.
        clip: whatever `kinecast.media.video.read_frames` reads.
        crop: crop policy by name.
        fps: resample to this constant rate; None keeps the frames and their times.
        limit: maximum number of frames.
        progress: called with ("detect", frames done since the last call).
        true_fps: the true frame rate, if the file's times are wrong.
        faces: collects the blendshapes of each frame, if the backbone finds faces.

    Raises:
        KinecastError: unreadable input, or an option out of range, or no face in any frame where one is needed.
    """
    seen = footage(clip, backbone.frame_size, crop, fps, limit, true_fps=true_fps)
    return detect_motion(backbone, seen, progress, faces=faces)


def detect_motion(
    backbone: Backbone,
    driving: Footage,
    progress: Progress = lambda stage, frames: None,
    smooth: bool = False,
    faces: Blendshapes | None = None,
) -> Motion:
    """Detect the motion of the frames of some footage, streaming.

    Args:
        backbone: detects.
        driving: in any size the backbone accepts.
        progress: as of `extract`.
        smooth: filter jitter.
        faces: as of `extract`.

    Raises:
        KinecastError: unreadable input, no frame, or no face where the backbone needs one.
    """
    log = MotionLog(backbone, driving)
    detect = backbone.follow(driving.rate if smooth else None)
    for edges, frames in driving.batches(BATCH):
        log.add(edges, detect(frames.to(backbone.device)))
        if faces is not None:
            faces.add(getattr(detect, "faces", []))
        progress("detect", len(frames))
    return replace(log.motion().held(), clip=driving.info.path.name)


class MotionLog:
    """The motion of some footage, as far as it has been processed.

    Args:
        backbone: detects the motion.
        driving: the source of the frames, in order.
    """

    def __init__(self, backbone: Backbone, driving: Footage) -> None:
        self._backbone, self._driving = backbone, driving
        # One growing block, not a list of small tensors: those would fragment the heap between freed feature maps, and
        # memory would grow with the clip.
        self._numbers, self._times, self._valid = bytearray(), array("d"), bytearray()
        self._end = 0.0
        self._last: Motion | None = None

    def __len__(self) -> int:
        return len(self._valid)

    @property
    def fps(self) -> float:
        """The frame rate: the mean so far, if it is not constant."""
        return self._driving.rate if self._driving.constant or not len(self) else len(self) / self._end

    @property
    def shows_something(self) -> bool:
        """Whether any frame so far is valid."""
        return any(self._valid)

    def add(self, edges: np.ndarray, motion: Motion) -> None:
        """Append the motion of the next frames, T of them shown between `edges` (T + 1,)."""
        self._last = motion = motion.to("cpu")
        self._numbers += motion.vectors().numpy().tobytes()
        self._valid += motion.valid_frames().numpy().tobytes()
        self._times.extend(edges[:-1])
        self._end = float(edges[-1])

    def motion(self) -> Motion:
        """Return the motion of all frames so far, at least one; invalid ones are unchanged."""
        assert self._last is not None
        # Copies, since a buffer that a tensor references cannot grow.
        vectors = torch.frombuffer(bytearray(self._numbers), dtype=torch.float32).view(-1, self._last.dim)
        valid = torch.frombuffer(bytearray(self._valid), dtype=torch.bool)
        motion = replace(
            self._last.with_vectors(vectors), valid=valid, frame_size=self._backbone.frame_size, fps=self.fps
        )
        if self._driving.constant:
            return motion
        return replace(motion, times=torch.tensor(self._times, dtype=torch.float64), end=self._end)


def check_motion(backbone: Backbone, motion: Motion) -> None:
    """Check that motion is the backbone's, and not empty.

    Raises:
        KinecastError: it is not.
    """
    backbone.flatten(motion[:0])
    if not backbone.any_size and motion.frame_size not in (None, backbone.frame_size):
        raise KinecastError(
            f"driving: expected motion of frames of {backbone.frame_size}, this model's size, found "
            f"{motion.frame_size}: name the model that it was extracted with"
        )
    if not len(motion):
        raise KinecastError("driving: expected motion of at least one frame, found none: extract it again")
