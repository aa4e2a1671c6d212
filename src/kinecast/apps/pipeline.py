"""The whole pipeline: detect -> forecast -> animate, from a clip on disk to a clip on disk, in constant memory.

The motion of the whole clip is kept (D numbers per frame); frames are not.

Notation: T frames, N observed, H horizon, S samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from kinecast.apps.animation import PLAIN_VIDEO_KBPS, Clock, Report, Scores, compose, published_kbps, rates
from kinecast.apps.driving import Driving, Scene, background_motion, best_frame, held_background, tps_with
from kinecast.apps.extraction import BATCH, Progress, check_motion, detect_motion, extract
from kinecast.apps.forecasts import forecast_mask, forecast_motion
from kinecast.errors import KinecastError
from kinecast.files import CLIP_OUTPUTS, check_output
from kinecast.forecasting.base import Forecaster
from kinecast.media.footage import Footage, check_part, footage
from kinecast.media.framing import check_reading, check_size
from kinecast.media.sound import SoundSource, clip_sound
from kinecast.media.video import DEFAULT_FPS, VideoWriter, read_image
from kinecast.models.base import Backbone
from kinecast.models.transfer import Transfer
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

MAX_SHOWN_SAMPLES = 8


@dataclass(frozen=True)
class AnimateOptions:
    """Options of `animate_clip`.

    `mode` is "reconstruction" (the source is the driving clip's first frame) or "transfer". Motion is absolute, or
    `relative`, FOMM's animation mode with `adapt_scale` and `best_frame`, or `avd`, the source's shape in the
    driving's pose (TPS); by default it is relative in transfer. `background` animates the background too (TPS).
    `transfer` says how relative motion is applied: strengths by region, openings of eyes and lips, the driving head
    pose (mesh). `observed` and `horizon` are N and H of a forecast. `compare` shows the driving frame and the render
    from true keypoints beside the result. `fps`, `true_fps` and `limit` are those of `extract`, `start` and `end`
    seconds of the driving clip. `smooth` filters jitter, `size` is the side of the frames in pixels, the weights' own
    if None; both need the mesh. `sound` keeps the driving clip's.
    """

    mode: str = "reconstruction"
    relative: bool | None = None
    adapt_scale: bool | None = False  # None: if poses have comparable sizes
    best_frame: bool = False
    avd: bool = False
    background: bool = False
    transfer: Transfer = Transfer()
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
    start: float = 0.0
    end: float | None = None
    smooth: bool = False
    size: int | None = None

    @property
    def moves_relatively(self) -> bool:
        """Whether motion is relative, explicitly or by default."""
        return self.mode == "transfer" and not self.avd if self.relative is None else self.relative

    def __post_init__(self) -> None:
        if self.mode not in ("reconstruction", "transfer"):
            raise KinecastError(f"mode: expected reconstruction or transfer, found {self.mode!r}")
        if (self.adapt_scale or self.best_frame) and not self.moves_relatively:
            raise KinecastError("adapt-scale and best-frame change relative motion: add --relative")
        if self.transfer != Transfer() and not self.moves_relatively:
            raise KinecastError(
                "strength, region, eyes, lips and mixed change relative motion: drop --absolute, or add --source"
            )
        if self.relative and self.avd:
            raise KinecastError("motion: expected relative or avd, found both: drop --relative or --avd")
        for crop in (self.crop, self.source_crop):
            check_reading(crop, self.fps, self.limit)
        check_reading(fps=self.true_fps)
        check_part(self.start, self.end)
        check_size(self.size)
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
    """Animate a source with a driving clip and write the result.

    Args:
        backbone: detects, encodes and animates.
        source: a picture or a clip (its first frame); None in reconstruction mode.
        driving: the clip whose motion is used.
        output: mp4, mov, webm, mkv or gif.
        options: mode, crops, forecast pattern.
        forecaster: if given, H of every N+H frames are forecast and marked in the picture.
        progress: called with (stage, frames done since the last call).
        motion: the output of `extract` for the driving clip with the same crop, rates and limit, if available; a
            shorter one animates that many frames.

    Raises:
        KinecastError: unreadable input, a clip shorter than the horizon, an output that cannot be written, or an option
            that needs a part the backbone lacks.
    """
    options = options or AnimateOptions()
    check_output(output, CLIP_OUTPUTS, "clip", [driving] if source is None else [driving, source])
    _check(backbone, options, forecaster)
    _check_source(source, driving, options)
    clip = _clip(backbone, driving, options)
    sound = clip_sound(driving, options.start) if options.sound else None
    clock = Clock()
    with VideoWriter(output, clip.rate, quality=options.quality, sound=sound) as writer:
        with clock("encode source"):
            picture = _source_picture(backbone, source, clip, options)
        clip, known = _known(backbone, clip, motion, options, forecaster is not None, clock, progress)
        edges = _edges(known.motion, writer)
        scene = _scene(backbone, picture, known, options, forecaster, clock)
        scores = Scores(options.mode == "reconstruction", picture.cpu(), forecaster is not None)
        frames = (batch for _, batch in clip.batches(BATCH))
        _render(scene, frames, edges, writer, scores, options, clock, progress)
    return _report(scene, known.motion.fps or clip.rate, scores, options, forecaster, clock)


def _clip(backbone: Backbone, driving: str | Path, options: AnimateOptions) -> Footage:
    """Return the selected frames of the driving clip, in the rendered size."""
    return footage(
        driving,
        _frame_size(backbone, options),
        options.crop,
        options.fps,
        options.limit,
        options.true_fps,
        options.start,
        options.end,
    )


def _frame_size(backbone: Backbone, options: AnimateOptions) -> tuple[int, int]:
    """Return the height and width of the frames.

    Raises:
        KinecastError: not the size the backbone works at.
    """
    if options.size is None:
        return backbone.frame_size
    if not backbone.any_size and (options.size, options.size) != backbone.frame_size:
        raise KinecastError(
            f"size: expected {backbone.frame_size[0]}, the size {backbone.name} was trained at, found {options.size}: "
            "use "
            "mesh for other sizes"
        )
    return options.size, options.size


def _known(
    backbone: Backbone,
    clip: Footage,
    motion: Motion | None,
    options: AnimateOptions,
    evenly: bool,
    clock: Clock,
    progress: Progress,
) -> tuple[Footage, Driving]:
    """Return the clip, cut to its motion, and the motion, detected if not given; `evenly` timed for a forecast."""
    if motion is None:
        with clock("detect"):
            motion = detect_motion(backbone, clip, progress, options.smooth)
    motion = motion[: options.limit]
    clip = replace(clip, limit=len(motion))
    if evenly and (even := motion.evenly_timed()) is not motion:
        clip, motion = replace(clip, fps=even.fps, limit=len(even)), even
    if not options.background:
        return clip, Driving(motion)
    with clock("background"):
        return clip, Driving(motion, background_motion(backbone, clip, len(motion)))


def _edges(motion: Motion, writer: VideoWriter) -> np.ndarray | None:
    """Return the display times of frames, None if they follow the writer's rate."""
    return None if motion.times is None and motion.fps in (None, writer.given_fps) else motion.edges()


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
    """Animate a source with motion alone, from `extract` or a forecast, and write the result.

    There are no driving frames to show beside the result or to score it against.

    Args:
        backbone: the backbone that detected the motion.
        source: a picture or a clip (its first frame), or a loaded picture (1, 3, H, W) in [0, 1].
        motion: T frames; the output has its times or rate unless `options` change them.
        output: mp4, mov, webm, mkv or gif.
        options: as for `animate_clip`.
        forecaster: likewise.
        progress: likewise.
        sound: sound from the first frame on, unless `options.sound` is off.

    Raises:
        KinecastError: as `animate_clip`; motion of another model, or an option that needs driving frames.
    """
    options = options or AnimateOptions(mode="transfer")
    check_output(output, CLIP_OUTPUTS, "clip", [] if isinstance(source, Tensor) else [source])
    _check(backbone, options, forecaster)
    _check_without_frames(options)
    check_motion(backbone, motion)
    if options.true_fps is not None:
        motion = replace(motion, fps=options.true_fps, times=None, end=None)
    motion = (motion if options.fps is None else motion.at_rate(options.fps))[: options.limit]
    motion = motion if forecaster is None else motion.evenly_timed()
    fps, edges = motion.fps or DEFAULT_FPS, None if motion.times is None else motion.edges()
    clock = Clock()
    with VideoWriter(output, fps, quality=options.quality, sound=sound if options.sound else None) as writer:
        with clock("encode source"):
            read = (
                source
                if isinstance(source, Tensor)
                else read_image(source, _frame_size(backbone, options), options.source_crop)
            )
            picture = read.to(backbone.device)
        scene = _scene(backbone, picture, Driving(motion), options, forecaster, clock)
        scores = Scores(False, picture.cpu(), forecaster is not None)
        _render(scene, None, edges, writer, scores, options, clock, progress)
    return _report(scene, fps, scores, options, forecaster, clock)


def _check(backbone: Backbone, options: AnimateOptions, forecaster: Forecaster | None) -> None:
    backbone.check_transfer(options.transfer)
    for option, part in (("avd", "avd_network"), ("background", "bg_predictor")):
        if getattr(options, option):
            tps_with(backbone, part, option)
    if options.samples > 1 and forecaster is None:
        raise KinecastError(
            f"samples: expected a forecaster to sample {options.samples} futures, found none: name one with --forecast"
        )
    if forecaster is not None and options.limit is not None:
        forecast_mask(options.limit, options.observed, options.horizon)  # a limit too short for it


def _check_source(source: str | Path | None, driving: str | Path, options: AnimateOptions) -> None:
    if options.mode == "transfer" and source is None:
        raise KinecastError("transfer mode: expected a source picture or clip, found none: name one with --source")
    if options.mode == "reconstruction" and source is not None and Path(source).resolve() != Path(driving).resolve():
        raise KinecastError(
            "reconstruction mode takes its source from the driving clip: drop --source or use --mode transfer"
        )


def _check_without_frames(options: AnimateOptions) -> None:
    """Check that no option needs the frames the motion was detected in."""
    for option in ("compare", "background", "smooth"):
        if getattr(options, option):
            raise KinecastError(
                f"{option}: expected a clip as --driving, found motion without pictures: drop the option"
            )


def _source_picture(backbone: Backbone, source: str | Path | None, clip: Footage, options: AnimateOptions) -> Tensor:
    """Return the picture to animate, (1, 3, H, W): the source, or in reconstruction the clip's first frame."""
    if options.mode == "transfer" and source is not None:
        picture = read_image(source, clip.size, options.source_crop)
    else:
        picture = next(iter(clip.batches(1)))[1]
    return picture.to(backbone.device)


def _scene(
    backbone: Backbone,
    picture: Tensor,
    known: Driving,
    options: AnimateOptions,
    forecaster: Forecaster | None,
    clock: Clock,
) -> Scene:
    """Forecast, encode the source, and apply relative motion or AVD if requested."""
    sampled, mask = [known.motion], np.zeros(len(known), dtype=bool)
    if forecaster is not None:
        with clock("forecast"):
            sampled, mask = forecast_motion(
                known.motion, forecaster, options.observed, options.horizon, options.samples, options.seed
            )
    futures = [Driving(each, held_background(known.background, mask)) for each in sampled]
    with clock("encode source"):
        state, source_motion = backbone.encode_source(picture), backbone.detect(picture)
    if options.moves_relatively:
        beside = source_motion.to("cpu")
        initial = known[best_frame(known.motion, beside, mask) if options.best_frame else 0]
        known, *futures = (
            each.retargeted(backbone, beside, initial, options.transfer, options.adapt_scale)
            for each in (known, *futures)
        )
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
    """Render, score and write all frames in batches, beside the driving `frames` if there are any.

    They are shown at times `edges` (T + 1,), or at the writer's rate if None.

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
        frames_without_face=int((~scene.known.motion.valid_frames()).sum()),
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
