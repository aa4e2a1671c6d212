"""Frames of a camera, from libav's capture devices."""

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from kinecast.errors import KinecastError
from kinecast.media.framing import centred

_DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


def camera_frames(number: int, size: tuple[int, int], fps: float = 25.0) -> Iterator[np.ndarray]:
    """Yield frames (H, W, 3) uint8 of camera `number`, centre-cropped and scaled to `size`, until closed.

    Raises:
        KinecastError: the camera does not exist, or is busy.
    """
    if sys.platform not in _DEVICES:
        raise KinecastError(f"camera: expected one of {', '.join(_DEVICES)}, found {sys.platform}: use a clip")
    kind, name = _DEVICES[sys.platform]
    device = name.format(number)
    if kind == "v4l2" and not Path(device).exists():
        raise KinecastError(f"camera {number}: expected {device}, found none there: plug it in, or use a clip")
    try:
        container = av.open(device, format=kind, options={"framerate": f"{fps:g}"})
    except (av.error.FFmpegError, OSError) as error:
        raise KinecastError(f"camera {number}: expected to open {device}, found: {error}") from error
    with container:
        for frame in container.decode(video=0):
            yield centred(frame.to_ndarray(format="rgb24"), size)
