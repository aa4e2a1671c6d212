"""The device to compute on."""

import torch

from kinecast.errors import KinecastError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        KinecastError: an unknown name, or a device that this machine or this build of torch lacks.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in present.items() if there)
    if name not in DEVICES:
        raise KinecastError(f"device: expected one of {', '.join(DEVICES)}, found {name!r}")
    if not present[name]:
        usable = ", ".join(device for device, there in present.items() if there)
        raise KinecastError(f"device: {name} is not available here: choose one of auto, {usable}")
    return torch.device(name)
