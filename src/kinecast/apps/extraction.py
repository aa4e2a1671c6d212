"""The motion of a clip, detected in constant memory: D numbers per frame are kept, frames never are."""

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from kinecast.apps.blendshapes import Blendshapes
from kinecast.errors import KinecastError
from kinecast.media.footage import Footage, footage
from kinecast.models.base import Backbone
from kinecast.motion import Motion

BATCH = 8  # frames that are looked at together

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
    """Detect the motion of a clip's frames, streaming. It has the frames' times where their rate is not constant.

    Where the backbone needs a face, frames without one hold the motion beside them and are marked in `Motion.valid`.

    Args:
        backbone: its weights say at what frame size.
        clip: whatever `kinecast.media.video.read_frames` reads.
        crop: crop policy by name.
        fps: resample to this constant rate; None keeps the frames and their times.
        limit: at most so many frames.
        progress: called with ("detect", frames done since the last call).
        true_fps: the true frame rate where the file's times are wrong.
        faces: takes the blendshapes of each frame, where the backbone finds faces.

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
        driving: in whatever size the backbone can see.
        progress: as of `extract`.
        smooth: filter what trembles.
        faces: as of `extract`.

    Raises:
        KinecastError: unreadable input, no frame, or no face where the backbone needs one.
    """
    # One growing block, not a list of small tensors: those would lie between the freed feature maps, which the
    # allocator then cannot reuse, and memory would grow with the clip.
    numbers, times, valid = bytearray(), array("d"), bytearray()
    detect = backbone.follow(driving.rate if smooth else None)
    for edges, frames in driving.batches(BATCH):
        motion = detect(frames.to(backbone.device)).to("cpu")
        numbers += motion.vectors().numpy().tobytes()
        times.extend(edges[:-1])
        valid += motion.valid_frames().numpy().tobytes()
        if faces is not None:
            faces.add(getattr(detect, "faces", []))
        progress("detect", len(frames))
    motion = motion.with_vectors(torch.frombuffer(numbers, dtype=torch.float32).view(-1, motion.dim))
    seen = torch.frombuffer(valid, dtype=torch.bool)
    motion = replace(motion, frame_size=backbone.frame_size, clip=driving.info.path.name, valid=seen).held()
    motion = replace(motion, fps=driving.rate)
    if driving.constant:
        return motion
    end = float(edges[-1])
    return replace(motion, fps=len(motion) / end, times=torch.tensor(times, dtype=torch.float64), end=end)


def check_motion(backbone: Backbone, motion: Motion) -> None:
    """Check that motion is the backbone's, and that there is some.

    Raises:
        KinecastError: it is not.
    """
    backbone.flatten(motion[:0])
    if not backbone.any_size and motion.frame_size not in (None, backbone.frame_size):
        raise KinecastError(
            f"driving: expected motion of frames of {backbone.frame_size}, as this model sees, found "
            f"{motion.frame_size}: name the model that it was extracted with"
        )
    if not len(motion):
        raise KinecastError("driving: expected motion of at least one frame, found none: extract it again")
