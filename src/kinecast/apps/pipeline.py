"""The whole way: detect -> forecast -> animate, from a clip on disk to a clip on disk, in constant memory.

Motion of a whole clip is kept (D numbers a frame); frames never are.

Letters: T frames, N observed, H horizon, S samples.
"""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.animation import PLAIN_VIDEO_KBPS, Clock, Report, Scores, compose, published_kbps, rates
from kinecast.apps.driving import Driving, Scene, background_motion, best_frame, held_background, tps_with
from kinecast.errors import KinecastError
from kinecast.files import CLIP_OUTPUTS, check_output
from kinecast.forecasting.base import Forecaster
from kinecast.media.footage import Footage, footage
from kinecast.media.framing import check_reading
from kinecast.media.sound import SoundSource, clip_sound
from kinecast.media.video import DEFAULT_FPS, VideoWriter, read_image
from kinecast.models.base import Backbone
from kinecast.motion import Motion

__all__ = [
    "PLAIN_VIDEO_KBPS",
    "AnimateOptions",
    "Report",
    "animate_clip",
    "animate_motion",
    "extract",
    "forecast_mask",
    "forecast_motion",
    "published_kbps",
]

BATCH = 8
MAX_SHOWN_SAMPLES = 8

Progress = Callable[[str, int], None]


def extract(
    backbone: Backbone,
    clip: str | Path,
    crop: str = "center",
    fps: float | None = None,
    limit: int | None = None,
    progress: Progress = lambda stage, frames: None,
    true_fps: float | None = None,
) -> Motion:
    """Detect the motion of a clip's frames, streaming. It has the frames' times where their rate is not constant.

    Args:
        backbone: its weights say at what frame size.
        clip: whatever `kinecast.media.video.read_frames` reads.
        crop: crop policy by name.
        fps: resample to this constant rate; None keeps the frames and their times.
        limit: at most so many frames.
        progress: called with ("detect", frames done since the last call).
        true_fps: the true frame rate where the file's times are wrong.

    Raises:
        KinecastError: unreadable input, or an option out of range.
    """
    return _detect(backbone, footage(clip, backbone.frame_size, crop, fps, limit, true_fps=true_fps), progress)


def _detect(backbone: Backbone, driving: Footage, progress: Progress) -> Motion:
    # One growing block, not a list of small tensors: those would lie between the freed feature maps, which the
    # allocator then cannot reuse, and memory would grow with the clip.
    numbers, times = bytearray(), array("d")
    detect = backbone.follow()
    for edges, frames in driving.batches(BATCH):
        motion = detect(frames.to(backbone.device)).to("cpu")
        numbers += motion.vectors().numpy().tobytes()
        times.extend(edges[:-1])
        progress("detect", len(frames))
    motion = motion.with_vectors(torch.frombuffer(numbers, dtype=torch.float32).view(-1, motion.dim))
    motion = replace(motion, fps=driving.rate, frame_size=backbone.frame_size, clip=driving.info.path.name)
    if driving.constant:
        return motion
    end = float(edges[-1])
    return replace(motion, fps=len(motion) / end, times=torch.tensor(times, dtype=torch.float64), end=end)


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
    Motion of a variable rate is first resampled, see `Motion.evenly_timed`.
    """
    motion = motion.evenly_timed()
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
    `compare` shows the driving frame and the animation by true keypoints beside the result. `fps`, `true_fps` and
    `limit` are those of `extract`. `sound` keeps the driving clip's.
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
    true_fps: float | None = None
    sound: bool = True

    def __post_init__(self) -> None:
        if self.mode not in ("reconstruction", "transfer"):
            raise KinecastError(f"mode: expected reconstruction or transfer, found {self.mode!r}")
        if (self.adapt_scale or self.best_frame) and not self.relative:
            raise KinecastError("adapt-scale and best-frame change relative motion: add --relative")
        if self.relative and self.avd:
            raise KinecastError("motion: expected relative or avd, found both: drop --relative or --avd")
        for crop in (self.crop, self.source_crop):
            check_reading(crop, self.fps, self.limit)
        check_reading(fps=self.true_fps)
        if not 1 <= self.samples <= MAX_SHOWN_SAMPLES:
            raise KinecastError(f"samples: expected 1 to {MAX_SHOWN_SAMPLES} in one picture, found {self.samples}")


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
        motion: what `extract` gave for the driving clip with the same crop, rates and limit, if it is there already; a
            shorter one animates so many frames.

    Raises:
        KinecastError: unreadable input, a clip shorter than the horizon, an output that cannot be written, an option
            that needs a part which the backbone has not.
    """
    options = options or AnimateOptions()
    check_output(output, CLIP_OUTPUTS, "clip", [driving] if source is None else [driving, source])
    _check(backbone, options, forecaster)
    _check_source(source, driving, options)
    clip = footage(driving, backbone.frame_size, options.crop, options.fps, options.limit, true_fps=options.true_fps)
    sound = clip_sound(driving) if options.sound else None
    clock = Clock()
    with VideoWriter(output, clip.rate, quality=options.quality, sound=sound) as writer:
        with clock("encode source"):
            picture = _source_picture(backbone, source, driving, options)
        if motion is None:
            with clock("detect"):
                motion = _detect(backbone, clip, progress)
        motion = motion[: options.limit]
        clip = replace(clip, limit=len(motion))
        if forecaster is not None and (even := motion.evenly_timed()) is not motion:
            clip, motion = replace(clip, fps=even.fps, limit=len(even)), even
        edges = None if motion.times is None and motion.fps in (None, writer.given_fps) else motion.edges()
        background = None
        if options.background:
            with clock("background"):
                background = background_motion(backbone, clip, len(motion))
        scene = _scene(backbone, picture, Driving(motion, background), options, forecaster, clock)
        scores = Scores(options.mode == "reconstruction", picture.cpu(), forecaster is not None)
        frames = (batch for _, batch in clip.batches(BATCH))
        _render(scene, frames, edges, writer, scores, options, clock, progress)
    return _report(scene, motion.fps or clip.rate, scores, options, forecaster, clock)


def animate_motion(
    backbone: Backbone,
    source: str | Path | Tensor,
    motion: Motion,
    output: str | Path,
    options: AnimateOptions | None = None,
    forecaster: Forecaster | None = None,
    progress: Progress = lambda stage, frames: None,
    sound: SoundSource | None = None,
) -> Report:
    """Animate a source by motion alone, as `extract` or a forecast gave it, and write the result.

    There are no driving frames: nothing can be compared with them, and nothing is scored against them.

    Args:
        backbone: the one that detected the motion.
        source: a picture or a clip (its first frame), or a picture (1, 3, H, W) in [0, 1] that was read already.
        motion: T frames; its times or its rate are those of the output unless `options` say otherwise.
        output: mp4, mov, webm, mkv or gif.
        options: as for `animate_clip`.
        forecaster: likewise.
        progress: likewise.
        sound: what is heard from the first frame on, unless `options.sound` is off.

    Raises:
        KinecastError: as `animate_clip`; motion of another model, or an option that needs the driving frames.
    """
    options = options or AnimateOptions(mode="transfer")
    check_output(output, CLIP_OUTPUTS, "clip", [] if isinstance(source, Tensor) else [source])
    _check(backbone, options, forecaster)
    _check_motion(backbone, motion, options)
    if options.true_fps is not None:
        motion = replace(motion, fps=options.true_fps, times=None, end=None)
    motion = (motion if options.fps is None else motion.at_rate(options.fps))[: options.limit]
    motion = motion if forecaster is None else motion.evenly_timed()
    fps, edges = motion.fps or DEFAULT_FPS, None if motion.times is None else motion.edges()
    clock = Clock()
    with VideoWriter(output, fps, quality=options.quality, sound=sound if options.sound else None) as writer:
        with clock("encode source"):
            read = (
                source if isinstance(source, Tensor) else read_image(source, backbone.frame_size, options.source_crop)
            )
            picture = read.to(backbone.device)
        scene = _scene(backbone, picture, Driving(motion), options, forecaster, clock)
        scores = Scores(False, picture.cpu(), forecaster is not None)
        _render(scene, None, edges, writer, scores, options, clock, progress)
    return _report(scene, fps, scores, options, forecaster, clock)


def _check(backbone: Backbone, options: AnimateOptions, forecaster: Forecaster | None) -> None:
    for option, part in (("avd", "avd_network"), ("background", "bg_predictor")):
        if getattr(options, option):
            tps_with(backbone, part, option)
    if options.samples > 1 and forecaster is None:
        raise KinecastError(
            f"samples: expected a forecaster to draw {options.samples} futures, found none: name one with --forecast"
        )
    if forecaster is not None and options.limit is not None:
        forecast_mask(options.limit, options.observed, options.horizon)  # a limit that is too short for it


def _check_source(source: str | Path | None, driving: str | Path, options: AnimateOptions) -> None:
    if options.mode == "transfer" and source is None:
        raise KinecastError("transfer mode: expected a source picture or clip, found none: name one with --source")
    if options.mode == "reconstruction" and source is not None and Path(source).resolve() != Path(driving).resolve():
        raise KinecastError(
            "reconstruction mode takes its source from the driving clip: drop --source or use --mode transfer"
        )


def _check_motion(backbone: Backbone, motion: Motion, options: AnimateOptions) -> None:
    """Check that a motion is the backbone's, and that no option asks for the frames that it was detected in."""
    for option in ("compare", "background"):
        if getattr(options, option):
            raise KinecastError(f"{option}: expected a clip as --driving, found motion without pictures: leave it out")
    backbone.flatten(motion[:0])
    if motion.frame_size not in (None, backbone.frame_size):
        raise KinecastError(
            f"driving: expected motion of frames of {backbone.frame_size}, as this model sees, found "
            f"{motion.frame_size}: name the model that it was extracted with"
        )
    if not len(motion):
        raise KinecastError("driving: expected motion of at least one frame, found none: extract it again")


def _source_picture(
    backbone: Backbone, source: str | Path | None, driving: str | Path, options: AnimateOptions
) -> Tensor:
    """Return the picture that is animated, (1, 3, H, W): the source, or in reconstruction the clip's first frame."""
    if options.mode == "transfer" and source is not None:
        picture = read_image(source, backbone.frame_size, options.source_crop)
    else:
        picture = read_image(driving, backbone.frame_size, options.crop)
    return picture.to(backbone.device)


def _scene(
    backbone: Backbone,
    picture: Tensor,
    known: Driving,
    options: AnimateOptions,
    forecaster: Forecaster | None,
    clock: Clock,
) -> Scene:
    """Forecast, encode the source, and make the motion relative or AVD if asked."""
    sampled, mask = [known.motion], np.zeros(len(known), dtype=bool)
    if forecaster is not None:
        with clock("forecast"):
            sampled, mask = forecast_motion(
                known.motion, forecaster, options.observed, options.horizon, options.samples, options.seed
            )
    futures = [Driving(each, held_background(known.background, mask)) for each in sampled]
    with clock("encode source"):
        state, source_motion = backbone.encode_source(picture), backbone.detect(picture)
    if options.relative:
        beside = source_motion.to("cpu")
        initial = known[best_frame(known.motion, beside, mask) if options.best_frame else 0]
        adapt = options.adapt_scale
        if adapt is None:
            adapt = backbone.adapts_scale(beside, initial.motion)
        known, *futures = (each.relative(backbone, beside, initial, adapt) for each in (known, *futures))
    elif options.avd:
        known, *futures = (each.avd(backbone, source_motion) for each in (known, *futures))
    return Scene(backbone, picture, state, source_motion, known, futures, mask)


def _render(
    scene: Scene,
    frames: Iterator[Tensor] | None,
    edges: np.ndarray | None,
    writer: VideoWriter,
    scores: Scores,
    options: AnimateOptions,
    clock: Clock,
    progress: Progress,
) -> None:
    """Draw, score and write all frames, a batch at a time, beside the driving `frames` where there are any.

    They are shown at times `edges` (T + 1,), or where that is None at the writer's rate.

    Raises:
        KinecastError: fewer driving frames than frames of motion.
    """
    forecast = scores.forecast
    needs_true = forecast and (options.compare or not scores.reconstruction)
    start = 0
    while start < len(scene.mask):
        with clock("read"):
            seen = None if frames is None else next(frames, None)
        if frames is not None and seen is None:
            raise KinecastError(
                f"motion: expected that of the driving clip, of {start} frames, found {len(scene.mask)}: extract it "
                "with the same --limit"
            )
        chunk = slice(start, min(start + (BATCH if seen is None else len(seen)), len(scene.mask)))
        with clock("animate"):
            true, rendered = scene.draw(chunk, needs_true)
        with clock("score"):
            scores.add(seen, true, rendered, scene.mask[chunk])
        with clock("write"):
            pictures = compose(seen if options.compare else None, true, rendered, scene.mask[chunk], forecast)
            for i, shown in enumerate(pictures, start):
                writer.write(shown, None if edges is None else edges[i : i + 2])
        progress("animate", chunk.stop - start)
        start = chunk.stop


def _report(
    scene: Scene, fps: float, scores: Scores, options: AnimateOptions, forecaster: Forecaster | None, clock: Clock
) -> Report:
    share = options.observed / (options.observed + options.horizon) if forecaster else 1.0
    return Report(
        mode=options.mode,
        frames=len(scene.mask),
        frames_sent=int((~scene.mask).sum()),
        fps=fps,
        motion_dim=scene.known.dim,
        forecaster=forecaster.name if forecaster else None,
        horizon=f"{options.observed}-{options.horizon}" if forecaster else None,
        samples=len(scene.futures),
        truth=scores.truth,
        quality=scores.summary(),
        rate=rates(scene.known.dim, fps, scene.mask, share, scene.picture),
        seconds={stage: round(seconds, 4) for stage, seconds in clock.seconds.items()},
    )
