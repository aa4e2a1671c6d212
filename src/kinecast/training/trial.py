"""A small training step of each backbone in each precision, to find kernels that crash or compute wrongly.

Libraries choose kernels by processor, and a kernel may fail on one kind only. So every step runs in its own process
(`python -m kinecast.training.trial BACKBONE PRECISION DEVICE`), whose crash is only reported, and every convolution's
gradient is compared with that in float32 for the same input.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight, conv3d_weight

from kinecast.data.video_folder import CachedClip
from kinecast.faces.weights import mean_face
from kinecast.machine.process_state import denormals_flushed, seeded
from kinecast.models import BACKBONES
from kinecast.models.mesh.following import POINTS
from kinecast.training.backbone_config import BackboneTrainingConfig
from kinecast.training.methods import Guide, method_named, trainable
from kinecast.training.step import Batch, TrainingLosses

PRECISIONS = ("32-true", "bf16-mixed")
GOOD = "works"
_SECONDS = 300
_BATCH = 4
_TOLERANCE = 0.05  # of a kernel's largest gradient; bfloat16 rounds by 0.004 of a number

_PART: dict[str, Any] = {"block_expansion": 4, "num_blocks": 2, "max_features": 16}
# Small, but with every kind of layer; frames of 32x32 give volumes smaller than their kernels.
_SIZES: dict[str, dict[str, Any]] = {
    "fomm": {
        "num_keypoints": 3,
        "detector": {**_PART, "scale_factor": 0.5},
        "dense_motion": {**_PART, "scale_factor": 0.5},
        "generator": {"block_expansion": 4, "max_features": 16, "num_bottleneck_blocks": 1},
    },
    "tps": {
        "num_splines": 2,
        "detector": 4,
        "background": 4,
        "dense_motion": {**_PART, "scale_factor": 0.5},
        "inpainting": {"block_expansion": 4, "max_features": 16, "num_down_blocks": 2},
        "avd": {"hidden": (6, 9), "identity": 5, "pose": 3},
    },
    "mesh": {"expression": 4, "motion_widths": (4, 6), "render_widths": (4, 6, 8), "hints": 2},
    "face-vid2vid": {
        "num_keypoints": 3,
        "detector": {**_PART, "depth": 4, "scale_factor": 0.5},
        "head_pose": {"width": 4, "blocks": (1, 1, 2, 1)},
        "dense_motion": {**_PART, "compress": 2},
        "generator": {
            **{"block_expansion": 4, "max_features": 16, "channels": 4, "depth": 4},
            **{"volume_blocks": 1, "blocks": 1, "spade": 6},
        },
    },
}


def trials() -> dict[str, str]:
    """Try every backbone in every precision on the CPU, and on CUDA if available; returns findings by name."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    tasks = [(name, precision, device) for device in devices for name in trainable() for precision in PRECISIONS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # of threads, each waiting for a process
        found = list(pool.map(lambda task: trial(*task), tasks))
    names = [f"training {name} {precision} on {device}" for name, precision, device in tasks]
    return dict(zip(names, found, strict=True))


def trial(name: str, precision: str, device: str = "cpu") -> str:
    """Train a small backbone for one step in another process: returns `GOOD`, or the fault in one line."""
    command = [sys.executable, "-m", "kinecast.training.trial", name, precision, device]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # the kinecast of this process
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment)
    except subprocess.TimeoutExpired:
        return f"broken: no step within {_SECONDS} s"
    if done.returncode == 0:
        return GOOD
    advice = "" if precision == "32-true" else ": train with --precision 32-true"
    if done.returncode < 0:
        return f"broken: a step ends the process ({signal.Signals(-done.returncode).name}){advice}"
    said = (done.stdout or done.stderr).strip().splitlines() or [f"exit status {done.returncode}"]
    return f"broken: {said[-1]}{advice}"


def step(name: str, precision: str, device: str = "cpu") -> list[str]:
    """Compute a small backbone's losses and gradients in this process; returns faults, one line each."""
    method = method_named(name)
    sizes = method.sizes.from_dict({**_SIZES[name], **({"size": 32} if name == "mesh" else {"frame_size": (32, 32)})})
    settings = {"perceptual": 0.0, "pixel": 10.0}
    config = BackboneTrainingConfig.from_dict(
        {"data": ["none"], "backbone": name, "model": sizes.to_dict(), "loss": settings}
    )
    with seeded(0), denormals_flushed():
        losses = TrainingLosses(config, BACKBONES[name](sizes)).to(device).train()
        source, driving = torch.rand(2, _BATCH, 3, 32, 32).to(device)
        guide: Guide = method.transform(sizes, _BATCH, torch.Generator().manual_seed(0), device)
        if method.prepare:
            guide = _points()
            method.prepare(losses.model, [CachedClip("", "", np.empty(len(guide)), guide[:, 1].numpy())])
            guide = guide.to(device)
        watched = [_Watched(part, module) for part, module in losses.model.named_modules() if _is_convolution(module)]
        with _autocast(precision, device):
            parts, _ = losses(Batch(source, driving, driving, guide))
        torch.stack([part.float() for part in parts.values()]).sum().backward()
    # Without the optimiser, which is elementwise and takes longer to load than everything else to run.
    found = []
    if wrong := [each.name for each in watched if not each.right()]:
        found.append(f"wrong gradient of {', '.join(wrong)}")
    if any(p.grad is not None and not torch.isfinite(p.grad).all() for p in losses.parameters()):
        found.append("gradients that are no numbers")
    return found


def _points() -> Tensor:
    """Return landmarks (B, 2, 478, 3) of faces, random variations of the mean face."""
    mean = torch.from_numpy(mean_face().vertices).float() * torch.tensor([0.1, -0.1, -0.1])
    face = torch.cat([mean, mean[: POINTS - len(mean)]])
    return face + 0.01 * torch.randn(_BATCH, 2, POINTS, 3)


def _autocast(precision: str, device: str) -> AbstractContextManager[Any]:
    return nullcontext() if precision == "32-true" else torch.autocast(device, torch.bfloat16)


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Conv3d)


class _Watched:
    """A convolution that records every pass, to recompute its kernel's gradient in float32."""

    def __init__(self, name: str, module: Any) -> None:
        self.name, self.module = name, module
        self.passes: list[tuple[Tensor, Tensor]] = []
        module.register_forward_hook(self._forward)

    def _forward(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            seen = inputs[0].detach().to(output.dtype).float()  # rounded as the convolution saw it
            output.register_hook(lambda gradient: self.passes.append((seen, gradient.detach().float())))

    def right(self) -> bool:
        if not self.passes:
            return True
        module = self.module
        gradient: Callable[..., Tensor] = conv2d_weight if module.weight.ndim == 4 else conv3d_weight
        options = module.stride, module.padding, module.dilation, module.groups
        wanted = [gradient(seen, module.weight.shape, given, *options) for seen, given in self.passes]
        largest = torch.stack([each.abs().max() for each in wanted]).sum()
        difference = (module.weight.grad - torch.stack(wanted).sum(dim=0)).abs().max()
        return bool(difference <= _TOLERANCE * largest + 1e-12)


def main(arguments: list[str]) -> int:
    """Do one step; the exit status reports success, the output lists faults."""
    torch.set_num_threads(1)
    found = step(*arguments)
    print("; ".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
