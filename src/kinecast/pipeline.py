"""The whole way: detect -> forecast -> animate, from a clip on disk to a clip on disk, in constant memory.

Motion of a whole clip is kept (D numbers a frame); frames never are.

Letters: T frames, N observed, H horizon, S samples.
"""

import io
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kinecast.backbones.base import Backbone
from kinecast.driving import Driving, background_motion, held_background, tps_with
from kinecast.errors import KinecastError
from kinecast.forecasters.base import Forecaster
from kinecast.metrics.pixel import mae, ssim
from kinecast.motion import Motion
from kinecast.video import VideoWriter, border, caption, probe, read_batches, read_image, side_by_side, to_uint8

BATCH = 8
PLAIN_VIDEO_KBPS = 500.0  # what the papers compare with
MAX_SHOWN_SAMPLES = 8
_OBSERVED, _PREDICTED, _NEUTRAL = (40, 140, 70), (215, 110, 20), (32, 32, 32)

Progress = Callable[[str, int], None]


def extract(
    backbone: Backbone,
    clip: str | Path,
    crop: str = "center",
    fps: float | None = None,
    limit: int | None = None,
    progress: Progress = lambda stage, frames: None,
) -> Motion:
    """Detect the motion of a clip's frames, streaming.

    Args:
        backbone: its weights say at what frame size.
        clip: whatever `kinecast.video.read_frames` reads.
        crop: crop policy by name.
        fps: the true frame rate where the container's is wrong; None keeps the container's.
        limit: at most so many frames.
        progress: called with ("detect", frames done since the last call).
    """
    # One growing block, not a list of small tensors: those would lie between the freed feature maps, which the
    # allocator then cannot reuse, and memory would grow with the clip.
    numbers = bytearray()
    for frames in read_batches(clip, backbone.frame_size, crop, BATCH, limit):
        motion = backbone.detect(frames.to(backbone.device)).to("cpu")
        numbers += motion.vectors().numpy().tobytes()
        progress("detect", len(frames))
    motion = motion.with_vectors(torch.frombuffer(numbers, dtype=torch.float32).view(-1, motion.dim))
    return replace(motion, fps=_rate(clip, fps), frame_size=backbone.frame_size, clip=Path(clip).name)


def forecast_mask(frames: int, observed: int, horizon: int) -> np.ndarray:
    """Return (T,) bool, True where a frame is forecast: N observed and H forecast in turn, whole windows only.

    Raises:
        KinecastError: the clip is shorter than one window.
    """
    if observed < 1 or horizon < 1:
        raise KinecastError(f"horizon: expected N-H with both at least 1, found {observed}-{horizon}")
    window = observed + horizon
    if frames < window:
        raise KinecastError(
            f"driving has {frames} frame{'s' if frames != 1 else ''}; horizon {observed}-{horizon} needs at least "
            f"{window}: choose a shorter horizon or a longer clip"
        )
    index = np.arange(frames)
    return (index % window >= observed) & (index < frames // window * window)


def forecast_motion(
    motion: Motion, forecaster: Forecaster, observed: int, horizon: int, samples: int = 1, seed: int = 0
) -> tuple[list[Motion], np.ndarray]:
    """Replace the forecast blocks of a motion by forecasts of the N frames before each: S motions and the mask.

    A forecast sees the N observed frames before it and nothing else; frames after the last whole window are kept.
    """
    mask = forecast_mask(len(motion), observed, horizon)
    vectors = motion.vectors()
    window = observed + horizon
    count = len(motion) // window
    windows = vectors[: count * window].view(count, window, -1)
    futures = forecaster.forecast(windows[:, :observed].contiguous(), horizon, samples, seed)
    motions = []
    for future in futures:
        filled = vectors.clone()
        filled[torch.from_numpy(mask)] = future.reshape(count * horizon, -1).to(filled)
        motions.append(motion.with_vectors(filled))
    return motions, mask


@dataclass(frozen=True)
class AnimateOptions:
    """What `animate_clip` does.

    `mode` is "reconstruction" (the source is the driving clip's first frame) or "transfer". Motion is absolute, or
    `relative`, FOMM's animation mode with `adapt_scale` and `best_frame`, or `avd`, the source's shape in the driving's
    pose (TPS). `background` moves the background too (TPS). `observed` and `horizon` are N and H of a forecast.
    `compare` shows the driving frame and the animation by true keypoints beside the result.
    """

    mode: str = "reconstruction"
    relative: bool = False
    adapt_scale: bool | None = False  # None: where the poses have sizes that can be compared
    best_frame: bool = False
    avd: bool = False
    background: bool = False
    observed: int = 12
    horizon: int = 12
    samples: int = 1
    seed: int = 0
    crop: str = "center"
    source_crop: str = "center"
    fps: float | None = None
    limit: int | None = None
    quality: int = 18
    compare: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("reconstruction", "transfer"):
            raise KinecastError(f"mode: expected reconstruction or transfer, found {self.mode!r}")
        if (self.adapt_scale or self.best_frame) and not self.relative:
            raise KinecastError("adapt-scale and best-frame change relative motion: add --relative")
        if self.relative and self.avd:
            raise KinecastError("motion: expected relative or avd, found both: drop --relative or --avd")
        if not 1 <= self.samples <= MAX_SHOWN_SAMPLES:
            raise KinecastError(f"samples: expected 1 to {MAX_SHOWN_SAMPLES} in one picture, found {self.samples}")


@dataclass
class Report:
    """Figures of one animation; see docs/architecture.md for each. Rates in kbps, times in seconds, sizes in bytes."""

    mode: str
    frames: int
    frames_sent: int
    fps: float
    motion_dim: int
    forecaster: str | None = None
    horizon: str | None = None
    samples: int = 1
    truth: str | None = None
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    rate: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def animate_clip(
    backbone: Backbone,
    source: str | Path | None,
    driving: str | Path,
    output: str | Path,
    options: AnimateOptions | None = None,
    forecaster: Forecaster | None = None,
    progress: Progress = lambda stage, frames: None,
    motion: Motion | None = None,
) -> Report:
    """Animate a source by a driving clip and write the result.

    Args:
        backbone: detects, encodes and animates.
        source: a picture or a clip (its first frame); None in reconstruction mode.
        driving: the clip whose motion is used.
        output: mp4, mov, webm, mkv or gif.
        options: mode, crops, forecast pattern.
        forecaster: if given, H of every N+H frames are forecast, and marked in the picture.
        progress: called with (stage, frames done since the last call).
        motion: what `extract` gave for the driving clip with the same crop, fps and limit, if it is there already.

    Raises:
        KinecastError: unreadable input, a clip shorter than the horizon, an output that cannot be written, an option
            that needs a part which the backbone has not.
    """
    options = options or AnimateOptions()
    for option, part in (("avd", "avd_network"), ("background", "bg_predictor")):
        if getattr(options, option):
            tps_with(backbone, part, option)
    if options.mode == "transfer" and source is None:
        raise KinecastError("transfer mode: expected a source picture or clip, found none: name one with --source")
    if options.mode == "reconstruction" and source is not None and Path(source).resolve() != Path(driving).resolve():
        raise KinecastError(
            "reconstruction mode takes its source from the driving clip: drop --source or use --mode transfer"
        )
    clock = _Clock()
    if motion is None:
        with clock("detect"):
            motion = extract(backbone, driving, options.crop, options.fps, options.limit, progress)
    fps = motion.fps or _rate(driving, options.fps)
    sampled, mask = [motion], np.zeros(len(motion), dtype=bool)
    if forecaster is not None:
        with clock("forecast"):
            sampled, mask = forecast_motion(
                motion, forecaster, options.observed, options.horizon, options.samples, options.seed
            )
    background = None
    if options.background:
        with clock("background"):
            background = background_motion(backbone, driving, options.crop, len(motion))
    known = Driving(motion, background)
    futures = [Driving(each, held_background(background, mask)) for each in sampled]
    with clock("encode source"):
        if options.mode == "transfer":
            picture = read_image(source, backbone.frame_size, options.source_crop).to(backbone.device)  # type: ignore[arg-type]
        else:
            picture = next(read_batches(driving, backbone.frame_size, options.crop, 1)).to(backbone.device)
        state, source_motion = backbone.encode_source(picture), backbone.detect(picture)
    if options.relative:
        initial = known[_initial_frame(motion, source_motion.to("cpu"), mask, options)]
        own, adapt = source_motion.to("cpu"), options.adapt_scale
        if adapt is None:
            adapt = backbone.adapts_scale(own, initial.motion)
        known, *futures = (each.relative(backbone, own, initial, adapt) for each in (known, *futures))
    elif options.avd:
        known, *futures = (each.avd(backbone, source_motion) for each in (known, *futures))

    def render(part: Driving) -> Tensor:
        return part.render(backbone, state, source_motion)

    scores = _Scores(options.mode, picture.cpu(), forecaster is not None, mask)
    needs_true = forecaster is not None and (options.compare or options.mode == "transfer")
    frames = read_batches(driving, backbone.frame_size, options.crop, BATCH, options.limit)
    with VideoWriter(output, fps, quality=options.quality) as writer:
        start = 0
        while start < len(motion):
            with clock("read"):
                seen = next(frames)
            chunk = slice(start, start + len(seen))
            with clock("animate"):
                true = render(known[chunk]) if needs_true else None
                rendered: list[Tensor] = []
                for future in futures:  # observed frames are the same in all of them: rendered once
                    drawn = rendered[0] if true is None and rendered else true
                    rendered.append(_patched(drawn, future[chunk], torch.from_numpy(mask[chunk]), render))
                true = rendered[0] if true is None else true
            with clock("score"):
                scores.add(seen, true, rendered, mask[chunk])
            with clock("write"):
                _draw(writer, options, forecaster, seen, true, rendered, mask[chunk])
            progress("animate", len(seen))
            start += len(seen)
    return Report(
        mode=options.mode,
        frames=len(motion),
        frames_sent=int((~mask).sum()),
        fps=fps,
        motion_dim=known.dim,
        forecaster=forecaster.name if forecaster else None,
        horizon=f"{options.observed}-{options.horizon}" if forecaster else None,
        samples=len(futures),
        truth=scores.truth,
        quality=scores.summary(),
        rate=_rates(known.dim, fps, mask, options, forecaster is not None, picture),
        seconds={stage: round(seconds, 4) for stage, seconds in clock.seconds.items()},
    )


def _patched(known: Tensor | None, future: Driving, predicted: Tensor, render: Callable[[Driving], Tensor]) -> Tensor:
    """Render the predicted frames of a future into a copy of frames whose observed ones are known, or all of them."""
    if known is None:
        return render(future)
    frames = known.clone()
    if predicted.any():
        frames[predicted] = render(future[predicted])
    return frames


def published_kbps(motion_dim: int, fps: float, sent_share: float = 1.0) -> float:
    """Return the papers' accounting: D 32-bit floats a frame sent, the source picture not counted ([A] section 5)."""
    return motion_dim * 32 * fps * sent_share / 1000


def _rates(
    dim: int, fps: float, mask: np.ndarray, options: AnimateOptions, forecast: bool, picture: Tensor
) -> dict[str, float]:
    share = options.observed / (options.observed + options.horizon) if forecast else 1.0
    published = published_kbps(dim, fps, share)
    seconds = len(mask) / fps
    motion_bytes = dim * 4 * int((~mask).sum())  # of 32-bit floats
    jpeg = io.BytesIO()
    Image.fromarray(to_uint8(picture)[0]).save(jpeg, "JPEG", quality=90)
    sent = 8 * motion_bytes / seconds / 1000
    return {
        "published_kbps": published,
        "saving_published": PLAIN_VIDEO_KBPS / published,
        "sent_kbps": sent,
        "saving_sent": PLAIN_VIDEO_KBPS / sent,
        "motion_bytes": motion_bytes,
        "source_picture_bytes": jpeg.getbuffer().nbytes,
        "sent_kbps_with_picture": 8 * (motion_bytes + jpeg.getbuffer().nbytes) / seconds / 1000,
    }


def _initial_frame(motion: Motion, source: Motion, mask: np.ndarray, options: AnimateOptions) -> int:
    """Return where relative motion starts: the first driving frame, or the sent one posed most like the source."""
    if not options.best_frame:
        return 0
    wanted = _pose(source)
    distances = [np.square(_pose(motion[i]) - wanted).sum() if not mask[i] else np.inf for i in range(len(motion))]
    return int(np.argmin(distances))


def _pose(motion: Motion) -> np.ndarray:
    """Return what makes two poses alike: keypoints (K, 2) without place and size (FOMM), or head angles, (3,)."""
    if "value" not in motion.components:
        return motion.components["rotation"][0].numpy()
    from scipy.spatial import ConvexHull  # scipy comes with scikit-image

    points = motion.components["value"][0].numpy()
    points = points - points.mean(axis=0)
    return points / max(float(ConvexHull(points).volume), 1e-8) ** 0.5


class _Scores:
    """MAE and SSIM of each kind of frame, accumulated frame by frame."""

    def __init__(self, mode: str, source: Tensor, forecast: bool, mask: np.ndarray) -> None:
        self.source = source
        self.forecast = forecast
        self.reconstruction = mode == "reconstruction"
        self.truth: str | None = None
        if self.reconstruction:
            self.truth = "driving frames"
        elif forecast:
            self.truth = "own output with true keypoints"
        self.values: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, seen: Tensor, true: Tensor, rendered: list[Tensor], mask: np.ndarray) -> None:
        if self.truth is None:
            return
        target = seen if self.reconstruction else true
        if self.reconstruction:
            self._score("copy of the source", self.source.expand_as(seen), target, slice(None))
        if not self.forecast:
            self._score("animated", rendered[0], target, slice(None))
            return
        for frames in rendered:
            self._score("all frames", frames, target, slice(None))
            self._score("observed", frames, target, ~mask)
            self._score("predicted", frames, target, mask)
        if self.reconstruction:
            self._score("copy of the source, predicted", self.source.expand_as(seen), target, mask)

    def _score(self, name: str, frames: Tensor, target: Tensor, which: slice | np.ndarray) -> None:
        picked = which if isinstance(which, slice) else torch.from_numpy(which)
        frames, target = frames[picked], target[picked]
        if len(frames):
            self.values[name] += zip(mae(frames, target).tolist(), ssim(frames, target).tolist(), strict=True)

    def summary(self) -> dict[str, dict[str, float]]:
        means = {name: np.mean(pairs, axis=0) for name, pairs in self.values.items()}
        return {name: {"mae": float(m), "ssim": float(s)} for name, (m, s) in means.items()}


def _draw(
    writer: VideoWriter,
    options: AnimateOptions,
    forecaster: Forecaster | None,
    seen: Tensor,
    true: Tensor,
    rendered: list[Tensor],
    mask: np.ndarray,
) -> None:
    pictures = [to_uint8(frames) for frames in rendered]
    given, known = to_uint8(seen), to_uint8(true)
    for i, predicted in enumerate(mask):
        columns = [frames[i] for frames in pictures]
        if forecaster is not None:
            color = _PREDICTED if predicted else _OBSERVED
            columns = [caption(border(c, color), "forecast" if predicted else "observed", color) for c in columns]
        elif options.compare:
            columns = [caption(c, "animated", _NEUTRAL) for c in columns]
        if options.compare:
            beside = [caption(given[i], "driving", _NEUTRAL)]
            if forecaster is not None:
                beside.append(caption(known[i], "true keypoints", _NEUTRAL))
            columns = beside + columns
        writer.write(side_by_side(columns) if len(columns) > 1 else columns[0])


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


def _rate(clip: str | Path, fps: float | None) -> float:
    if fps is not None and not 0 < fps <= 1000:
        raise KinecastError(f"fps: expected a rate in (0, 1000], found {fps}")
    return fps or probe(clip).fps
