"""The cost of a frame: MACs by stage, the published accounting, and this machine's seconds beside the published.

arXiv 2504.05537v2, section 5.4: 30 output frames in a repeating pattern of 6 observed and 6 predicted, so that half
of the frames are detected and half forecast, and all are generated; TOPS at 30 fps = MACs per output frame x 30 / (0.6
x 10^12), 0.6 being the assumed usable share of a processor's peak.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from kinecast.apps.pipeline import PLAIN_VIDEO_KBPS, published_kbps
from kinecast.errors import KinecastError
from kinecast.forecasting.base import Forecaster
from kinecast.models import FOMM, TPS, FaceVid2Vid
from kinecast.models.base import Backbone
from kinecast.models.blocks.layers import AntiAliasDownsample
from kinecast.runtime.offers import plain

OBSERVED = HORIZON = 6
FPS = 30
FRAMES = 30  # output frames of the published times
TIMED_FRAMES = 60  # half of them observed: two times 30
_UTILISATION = 0.6


@dataclass(frozen=True)
class Published:
    """One row of Tables 11 and 12: an RTX 3090, float32, 256x256, VoxCeleb; seconds and MAE of 30 frames."""

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
    mae: float


PUBLISHED = (
    Published("FOMM + VRNN", 0.0336, 0.0743, 0.7097, 0.8176, 0.031, 0.0001, 2.6883, 2.7194, 36.69, 17.36, 0.0511),
    Published("TPS + VRNN", 0.0283, 0.0878, 0.9466, 1.0627, 0.0592, 0.0001, 6.3617, 6.421, 28.23, 10.4, 0.0499),
    Published(
        "face-vid2vid + VRNN", 0.0893, 0.0782, 1.1323, 1.2999, 0.1958, 0.0001, 9.8067, 10.0026, 23.08, 20.42, 0.0619
    ),
)


COUNTED = FOMM, TPS, FaceVid2Vid


def count_macs(model: Backbone) -> dict[str, int]:
    """Count a backbone's MACs for one frame, by running it.

    The published network is counted, not an engine's version of it: `detect`, `dense motion`, `generate` (encoder
    included), and `source only`, the part of `generate` saved by an encoded source; for face-vid2vid also `canonical`,
    the source's keypoints, which are computed once.

    Raises:
        KinecastError: not one of `COUNTED`.
    """
    network = plain(model)
    if not isinstance(network, COUNTED):
        able = ", ".join(kind.name for kind in COUNTED)
        raise KinecastError(f"cost: expected one of {able}, found {model.name}: its products are not counted yet")
    frame = _pictures(network, 1)
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):  # shapes only: nothing is computed
        motion, detect = _counted(network.detect, frame)
        state, source = _counted(network.encode_source, frame)
        _, animate = _counted(network.animate, state, motion, motion)
    # The published networks blur at full size and then drop pixels; here only the pixels that stay are blurred.
    blurs: dict[str, Any] = {type(part).__name__: getattr(part, "down", None) for part in network.modules()}
    points, all_points = _blurred(blurs["KPDetector"], frame)
    moved, all_moved = _blurred(blurs["DenseMotionNetwork"], frame)
    if isinstance(network, FaceVid2Vid):
        canonical = source["KPDetector"]
        of_source, of_points = source["Global"] - canonical, {"canonical": canonical - points + all_points}
        detecting = detect["Global"]
    else:
        of_source, of_points = source["Global"] - moved, {}
        detecting = detect["Global"] - points + all_points
    moving = animate["DenseMotionNetwork"]
    return {
        "detect": detecting,
        "dense motion": moving + all_moved,
        "generate": animate["Global"] - moving + of_source,
        "source only": of_source,
        **of_points,
    }


def _counted(function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, int]]:
    """Return a result, and the MACs by module: torch counts operations, two per MAC."""
    with FlopCounterMode(display=False) as counter:
        result = function(*arguments)
    return result, {module: sum(counts.values()) // 2 for module, counts in counter.get_flop_counts().items()}


def _blurred(down: AntiAliasDownsample | None, frame: Tensor) -> tuple[int, int]:
    """Return the products of blurring the pixels that stay, and all."""
    if down is None or down.stride == 1:
        return 0, 0
    taps, pixels = down.weight[0].numel(), frame[0].numel()
    return pixels // down.stride**2 * taps, pixels * taps


def published_tops(macs: dict[str, int], fps: float = FPS) -> dict[str, float]:
    """Return the published accounting of `count_macs`: tera-operations a second at `fps`, by stage and in total.

    Forecasting is left out: its products are a ten-thousandth of the rest.
    """
    scale = fps / (_UTILISATION * 1e12)
    extract = 0.5 * macs["detect"] * scale
    generate = (macs["dense motion"] + macs["generate"]) * scale
    return {"extract": extract, "generate": generate, "total": extract + generate}


def check_whole_windows(frames: int) -> int:
    """Return the frames of a window, of which a round has whole ones.

    Raises:
        KinecastError: `frames` is not a multiple of the window.
    """
    window = OBSERVED + HORIZON
    if frames < window or frames % window:
        raise KinecastError(f"frames: expected a multiple of {window}, windows of {OBSERVED}-{HORIZON}, found {frames}")
    return window


def seconds_of_30_frames(
    model: Backbone, forecaster: Forecaster, rounds: int = 3, frames: int = TIMED_FRAMES
) -> dict[str, float]:
    """Run the 6-6 pattern and return the median seconds for 30 output frames by stage, and in total.

    Frame by frame, as in live use: each observed frame is detected when it comes, each block of 6 is forecast from the
    6 before it, each frame is animated alone. The source is encoded before timing starts, once per call. A round is
    `frames` output frames, scaled to 30.

    Raises:
        KinecastError: `frames` is not a multiple of the window.
    """
    window = check_whole_windows(frames)
    pictures = _pictures(model, OBSERVED)
    state, source = model.encode_source(pictures[:1]), model.detect(pictures[:1])
    model.animate(state, source, source)  # warms up, as does the detection
    forecaster.forecast(model.flatten(source).expand(1, OBSERVED, -1), HORIZON, 1, 0)
    found = []
    for _ in range(rounds):
        spent = {"extract": 0.0, "forecast": 0.0, "generate": 0.0}
        for _ in range(frames // window):
            started = _now(model.device)
            observed = torch.cat([model.flatten(model.detect(picture)) for picture in pictures.split(1)])
            detected = _now(model.device)
            predicted = forecaster.forecast(observed[None], HORIZON, 1, 0)[0, 0]
            forecast = _now(model.device)
            motion = model.unflatten(torch.cat([observed, predicted.to(observed)]))
            for t in range(len(motion)):
                model.animate(state, source, motion[t])
            done = _now(model.device)
            for stage, seconds in zip(spent, (detected - started, forecast - detected, done - forecast), strict=True):
                spent[stage] += seconds * FRAMES / frames
        found.append({**spent, "total": sum(spent.values())})
    return sorted(found, key=lambda each: each["total"])[len(found) // 2]


def cost_table(model: Backbone, forecaster: Forecaster, rounds: int = 3, frames: int = TIMED_FRAMES) -> dict[str, Any]:
    """Return this machine's and this model's figures in the form of the published tables."""
    macs = count_macs(model)
    seconds = seconds_of_30_frames(model, forecaster, rounds, frames)
    kbps = published_kbps(model.motion_dim, FPS, OBSERVED / (OBSERVED + HORIZON))
    return {
        "engine": model.engine,
        "precision": model.precision,
        "reason": model.reason,
        "frame_size": list(model.frame_size),
        "motion_dim": model.motion_dim,
        "macs": macs,
        "tops": published_tops(macs),
        "seconds_30_frames": seconds,
        "timed": {"frames": frames, "rounds": rounds},
        "fps": FRAMES / seconds["total"],
        "kbps_every_frame": published_kbps(model.motion_dim, FPS),
        "kbps": kbps,
        "saving": PLAIN_VIDEO_KBPS / kbps,
    }


def _now(device: torch.device) -> float:
    """Return the time after the device has finished: a GPU works asynchronously."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _pictures(model: Backbone, count: int) -> Tensor:
    coarse = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    frames = F.interpolate(coarse, size=model.frame_size, mode="bicubic", align_corners=False)
    return frames.clamp(0, 1).to(model.device)
