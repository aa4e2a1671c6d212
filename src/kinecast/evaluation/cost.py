"""What a frame costs: products by stage, the published accounting, and this machine's seconds beside the published.

[A] arXiv 2504.05537v2, section 5.4: 30 output frames in a repeating pattern of 6 observed and 6 predicted, so that half
of the frames are detected and half forecast, and all are generated; TOPS at 30 fps = MACs an output frame x 30 /
(0.6 x 10^12), 0.6 being the share of a processor's peak that is thought usable.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.backbones.base import Backbone
from kinecast.backbones.fomm import FOMM
from kinecast.backbones.layers import AntiAliasDownsample
from kinecast.engine.fomm import EngineFOMM
from kinecast.errors import KinecastError
from kinecast.forecasters.base import Forecaster
from kinecast.pipeline import PLAIN_VIDEO_KBPS, published_kbps

OBSERVED = HORIZON = 6
FPS = 30
FRAMES = 30  # output frames that the published times are for
_WINDOWS = 5  # 60 frames, half of them observed: two times 30
_UTILISATION = 0.6


@dataclass(frozen=True)
class Published:
    """One row of Tables 11 and 12 of [A]: an RTX 3090, float32, 256x256, VoxCeleb; seconds for 30 frames."""

    model: str
    extract_s: float
    forecast_s: float
    generate_s: float
    total_s: float
    extract_tops: float
    forecast_tops: float
    generate_tops: float
    total_tops: float
    fps: float
    saving: float


PUBLISHED = (
    Published("FOMM + VRNN", 0.0336, 0.0743, 0.7097, 0.8176, 0.031, 0.0001, 2.6883, 2.7194, 36.69, 17.36),
    Published("TPS + VRNN", 0.0283, 0.0878, 0.9466, 1.0627, 0.0592, 0.0001, 6.3617, 6.421, 28.23, 10.4),
    Published("face-vid2vid + VRNN", 0.0893, 0.0782, 1.1323, 1.2999, 0.1958, 0.0001, 9.8067, 10.0026, 23.08, 20.42),
)


def count_macs(model: Backbone) -> dict[str, int]:
    """Count the multiplications and additions of a FOMM's convolutions for one frame, by running it.

    The network as published is counted, not what an engine makes of it: `detect`, `dense motion`, `generate` (encoder
    included), and `source only`, the part of `generate` that an encoded source saves.

    Raises:
        KinecastError: another backbone.
    """
    network = model.model if isinstance(model, EngineFOMM) else model
    if not isinstance(network, FOMM):
        raise KinecastError(f"cost: expected a fomm, found {model.name}: its stages are not counted yet")
    frame = _pictures(network, 1)
    with torch.inference_mode():
        with _counting(network) as detect:
            motion = network.detect(frame)
        with _counting(network) as source:
            state = network.encode_source(frame)
        with _counting(network) as animate, _counting(network.generator.dense_motion_network) as dense:
            network.animate(state, motion, motion)
    # The published networks blur at full size and then drop pixels.
    blurs = [_blur_macs(part.down, frame) for part in (network.kp_detector, network.generator.dense_motion_network)]
    return {
        "detect": detect[0] + blurs[0],
        "dense motion": dense[0] + blurs[1],
        "generate": animate[0] - dense[0] + source[0],
        "source only": source[0],
    }


@contextmanager
def _counting(module: nn.Module) -> Iterator[list[int]]:
    total = [0]

    def add(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        total[0] += output.numel() * conv.weight[0].numel()

    hooks = [part.register_forward_hook(add) for part in module.modules() if isinstance(part, nn.Conv2d)]
    try:
        yield total
    finally:
        for hook in hooks:
            hook.remove()


def _blur_macs(down: AntiAliasDownsample, frame: Tensor) -> int:
    return 0 if down.stride == 1 else frame[0].numel() * down.weight[0].numel()


def published_tops(macs: dict[str, int], fps: float = FPS) -> dict[str, float]:
    """Return the published accounting of `count_macs`: tera-operations a second at `fps`, by stage and in total.

    Forecasting is left out: its products are a ten-thousandth of the rest.
    """
    scale = fps / (_UTILISATION * 1e12)
    extract = 0.5 * macs["detect"] * scale
    generate = (macs["dense motion"] + macs["generate"]) * scale
    return {"extract": extract, "generate": generate, "total": extract + generate}


def seconds_of_30_frames(model: Backbone, forecaster: Forecaster, rounds: int = 3) -> dict[str, float]:
    """Run the 6-6 pattern and return the median seconds for 30 output frames by stage, and in total.

    Frame by frame, as live: each observed frame is detected when it comes, each block of 6 is forecast from the 6
    before it, each frame is animated alone. The source is encoded before the clock starts, once a call.
    """
    frames = _pictures(model, OBSERVED)
    state, source = model.encode_source(frames[:1]), model.detect(frames[:1])
    found = []
    for turn in range(rounds + 1):
        spent = {"extract": 0.0, "forecast": 0.0, "generate": 0.0}
        for _ in range(_WINDOWS):
            started = time.perf_counter()
            observed = torch.cat([model.flatten(model.detect(frame)) for frame in frames.split(1)])
            detected = time.perf_counter()
            predicted = forecaster.forecast(observed[None], HORIZON, 1, 0)[0, 0]
            forecast = time.perf_counter()
            motion = model.unflatten(torch.cat([observed, predicted.to(observed)]))
            for t in range(len(motion)):
                model.animate(state, source, motion[t])
            done = time.perf_counter()
            for stage, seconds in zip(spent, (detected - started, forecast - detected, done - forecast), strict=True):
                spent[stage] += seconds * FRAMES / (_WINDOWS * (OBSERVED + HORIZON))
        if turn:  # the first round warms up
            found.append({**spent, "total": sum(spent.values())})
    return sorted(found, key=lambda each: each["total"])[len(found) // 2]


def cost_table(model: Backbone, forecaster: Forecaster, rounds: int = 3) -> dict[str, Any]:
    """Return this machine's and this model's figures in the terms of the published tables."""
    macs = count_macs(model)
    seconds = seconds_of_30_frames(model, forecaster, rounds)
    kbps = published_kbps(model.motion_dim, FPS, OBSERVED / (OBSERVED + HORIZON))
    return {
        "engine": model.engine,
        "precision": model.precision,
        "reason": model.reason,
        "frame_size": list(model.frame_size),
        "macs": macs,
        "tops": published_tops(macs),
        "seconds_30_frames": seconds,
        "fps": FRAMES / seconds["total"],
        "kbps": kbps,
        "saving": PLAIN_VIDEO_KBPS / kbps,
    }


def _pictures(model: Backbone, count: int) -> Tensor:
    coarse = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    frames = F.interpolate(coarse, size=model.frame_size, mode="bicubic", align_corners=False)
    return frames.clamp(0, 1).to(model.device)
