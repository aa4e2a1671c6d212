"""Frames of a camera, as libav's capture devices give them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from kinecast.errors import KinecastError
from kinecast.media.framing import centred

_DEVICES = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


def camera_frames(
    number: int, size: tuple[int, int] | None, fps: float = 25.0, longest: int | None = None
) -> Iterator[np.ndarray]:
    """Yield frames (H, W, 3) uint8 of camera `number` until it is closed.

    Args:
        number: from 0.
        size: height and width that frames are cut to in the middle and scaled to; None leaves them whole.
        fps: that the camera is asked for; it may give another rate.
        longest: pixels of a whole frame's longer side, at most.

    Raises:
        KinecastError: there is no such camera, it is busy, or it is unplugged.
    """
    device, container = _opened(number, fps)
    with container:
        try:
            for frame in container.decode(video=0):
                picture = _reduced(frame, longest).to_ndarray(format="rgb24")
                yield picture if size is None else centred(picture, size)
        except (av.error.FFmpegError, OSError) as error:
            raise _gone(number, device, str(error)) from error
    raise _gone(number, device, "the end of its frames")


def camera_device(number: int) -> str:
    """Return the name of a camera's device on this system.

    Raises:
        KinecastError: cameras cannot be read here, or there is none of this number.
    """
    if sys.platform not in _DEVICES:
        raise KinecastError(f"camera: expected one of {', '.join(_DEVICES)}, found {sys.platform}: use a clip")
    kind, name = _DEVICES[sys.platform]
    device = name.format(number)
    if kind == "v4l2" and not Path(device).exists():
        raise KinecastError(f"camera {number}: expected {device}, found none there: plug it in, or use a clip")
    return device


def _opened(number: int, fps: float) -> tuple[str, av.container.InputContainer]:
    device, kind = camera_device(number), _DEVICES[sys.platform][0]
    try:
        return device, av.open(device, format=kind, options={"framerate": f"{fps:g}"})
    except (av.error.FFmpegError, OSError) as error:
        raise KinecastError(f"camera {number}: expected to open {device}, found: {error}") from error


def _reduced(frame: av.VideoFrame, longest: int | None) -> av.VideoFrame:
    scale = 1.0 if longest is None else longest / max(frame.width, frame.height)
    if scale >= 1:
        return frame
    return frame.reformat(width=max(round(frame.width * scale), 1), height=max(round(frame.height * scale), 1))


def _gone(number: int, device: str, found: str) -> KinecastError:
    return KinecastError(f"camera {number}: expected frames of {device}, found {found}: plug it in, and start again")
