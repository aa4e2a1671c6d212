"""A camera that other programs see, through pyvirtualcam: the one place that knows the device and its driver."""

import sys
from typing import Protocol

import numpy as np

from kinecast.errors import KinecastError, one_line
from kinecast.packages import optional

# What brings the device on each system; pyvirtualcam brings none.
_DRIVERS = {
    "linux": "install v4l2loopback: sudo apt install v4l2loopback-dkms, then sudo modprobe v4l2loopback "
    "exclusive_caps=1 card_label=kinecast",
    "darwin": "install OBS, and start and stop its virtual camera once",
    "win32": "install OBS, and start and stop its virtual camera once",
}


class FrameSink(Protocol):
    """What takes frames: a virtual camera, or what stands in for one."""

    name: str

    def send(self, frame: np.ndarray) -> None:
        """Show a frame (H, W, 3), uint8."""

    def close(self) -> None:
        """Let go of the device."""


class VirtualCamera:
    """A virtual camera, open.

    Args:
        size: width and height of its frames, in pixels.
        fps: at about which `send` is called.
        device: its name, /dev/video10 for instance; None takes the first that is free.

    Attributes:
        name: by which other programs know it.

    Raises:
        KinecastError: pyvirtualcam is not installed, or its driver is not, or there is no such device.

    Example:
        >>> camera = VirtualCamera((1280, 720), 30)
        >>> camera.send(np.zeros((720, 1280, 3), np.uint8))
        >>> camera.close()
    """

    def __init__(self, size: tuple[int, int], fps: float, device: str | None = None) -> None:
        library = optional("the virtual camera", "pyvirtualcam")
        self.size, self.fps = size, fps
        try:
            self._camera = library.Camera(width=size[0], height=size[1], fps=fps, device=device)
        except (RuntimeError, OSError, ValueError) as error:
            wanted = device or "a device"
            advice = _DRIVERS.get(sys.platform, "see pyvirtualcam's documentation")
            raise KinecastError(
                f"virtual camera: expected {wanted}, found none that can be used ({one_line(error, 200)}): {advice}"
            ) from error
        self.name = str(self._camera.device)

    def send(self, frame: np.ndarray) -> None:
        """Show a frame (H, W, 3), uint8, of the size that was asked for.

        Raises:
            KinecastError: the device is gone.
        """
        try:
            self._camera.send(frame)
        except (RuntimeError, OSError) as error:
            raise KinecastError(
                f"virtual camera: expected {self.name}, found it gone ({one_line(error, 200)}): start again"
            ) from error

    def close(self) -> None:
        """Let go of the device; other programs see no more frames."""
        self._camera.close()
