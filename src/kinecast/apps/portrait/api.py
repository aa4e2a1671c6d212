"""`kinecast.animate`: animate a portrait from Python."""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from kinecast.apps.animation import Clock, Report
from kinecast.apps.portrait.driving import Drive, given_drive, stream_motion
from kinecast.apps.portrait.inputs import as_picture
from kinecast.apps.portrait.job import drive_of, perform, staged
from kinecast.apps.portrait.options import PortraitOptions
from kinecast.apps.portrait.reenact import reenact, reenacted, source_footage
from kinecast.apps.portrait.stage import Stage
from kinecast.errors import KinecastError
from kinecast.files import CLIP_OUTPUTS, check_output
from kinecast.media.video import DEFAULT_FPS, VideoWriter
from kinecast.models.base import Backbone
from kinecast.motion import Motion
from kinecast.zoo import load_backbone


@overload
def animate(
    source: Any,
    driving: Any,
    output: None = None,
    *,
    model: str | Backbone = ...,
    device: str = ...,
    engine: str = ...,
    precision: str = ...,
    **options: Any,
) -> Iterator[np.ndarray]: ...
@overload
def animate(
    source: Any,
    driving: Any,
    output: str | Path,
    *,
    model: str | Backbone = ...,
    device: str = ...,
    engine: str = ...,
    precision: str = ...,
    **options: Any,
) -> Report: ...
def animate(
    source: Any,
    driving: Any,
    output: str | Path | None = None,
    *,
    model: str | Backbone = "mesh",
    device: str = "auto",
    engine: str = "auto",
    precision: str = "exact",
    **options: Any,
) -> Iterator[np.ndarray] | Report:
    """Animate the face in a picture and paste it back in place.

    Args:
        source: the picture: a path, a PIL image, an array (H, W, 3) of uint8, or a tensor (3, H, W) in [0, 1].
        driving: a path of a clip or of motion (.npz, .kcm, .csv of blendshapes), a `Motion`, or frames: an array
            (T, H, W, 3), a tensor (T, 3, H, W), or anything that yields pictures, such as a camera. A stream is
            processed frame by frame: each result is returned before the next frame is taken.
        output: a clip to write (mp4, mov, webm, mkv, gif); without it, frames are returned as they are made.
        model: a name of `kinecast zoo list`, a file, or a loaded backbone, which is faster for several pictures.
        device: auto, cpu, cuda or mps.
        engine: as of `load_model`.
        precision: likewise.
        **options: fields of `PortraitOptions`: face, square, size, relative, transfer, crop, fps, true_fps, limit,
            start, end, smooth, sound, quality, reenact.

    Returns:
        Frames (H, W, 3), uint8, one by one; or the report, if an output was written.

    Raises:
        KinecastError: no face, unreadable input, an unknown option, or an output that cannot be written.

    Example:
        >>> for frame in kinecast.animate("portrait.jpg", "clip.mp4", size=512):
        ...     show(frame)
        >>> kinecast.animate("portrait.jpg", "clip.mp4", "out.mp4", face="all")
    """
    wanted = _options(options)
    if output is not None:
        check_output(output, CLIP_OUTPUTS, "clip", [each for each in (source, driving) if isinstance(each, str | Path)])
    backbone = load_backbone(model, device, engine, precision) if isinstance(model, str | Path) else model
    if wanted.reenact:
        return _reenacted(backbone, source, driving, output, wanted)
    stage, _, _ = staged(backbone, as_picture(source), wanted)
    if isinstance(driving, str | Path | Motion):
        drive = _drive(backbone, driving, wanted)
        if output is not None:
            return perform(stage, drive, output, wanted, Clock())
        return stage.frames([drive.motion], drive.motion if wanted.relative else None, wanted.transfer)
    frames = _streamed(stage, _stream(driving, wanted), wanted)
    return frames if output is None else _written(frames, output, wanted, backbone.motion_dim)


def _reenacted(
    backbone: Backbone, source: Any, driving: Any, output: str | Path | None, options: PortraitOptions
) -> Iterator[np.ndarray] | Report:
    """Animate every frame of a source clip.

    Raises:
        KinecastError: the source is not a clip, or the driving is neither a clip nor motion.
    """
    if not isinstance(source, str | Path) or not isinstance(driving, str | Path | Motion):
        raise KinecastError("reenact: expected a path of a clip as source, and a path or motion as driving: name them")
    clip, drive = source_footage(source, options), _drive(backbone, driving, options)
    if output is not None:
        return reenact(backbone, source, drive, output, options, Clock())
    return (frame for *_, frame in reenacted(backbone, clip, drive, options))


def _options(options: dict[str, Any]) -> PortraitOptions:
    known = PortraitOptions.__dataclass_fields__
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise KinecastError(f"animate: expected options {', '.join(known)}; found {unknown[0]}")
    return PortraitOptions(**options)


def _drive(backbone: Backbone, driving: str | Path | Motion, options: PortraitOptions) -> Drive:
    if isinstance(driving, Motion):
        return given_drive(backbone, driving, options)
    return drive_of(backbone, driving, options)


def _stream(driving: Any, options: PortraitOptions) -> Iterable[Any]:
    """Return frames one by one.

    Raises:
        KinecastError: not frames, or an option that needs the times of a clip.
    """
    if isinstance(driving, np.ndarray | Tensor) and driving.ndim != 4:
        raise KinecastError(
            f"driving: expected frames (T, H, W, 3) of uint8 or (T, 3, H, W) in [0, 1], found {tuple(driving.shape)}"
        )
    if not isinstance(driving, Iterable):
        raise KinecastError(f"driving: expected a path, motion or frames, found {type(driving).__name__}")
    for name in ("start", "end", "true_fps", "crop"):
        if getattr(options, name):
            raise KinecastError(f"{name}: expected a clip as driving, found frames: pass only the frames you want")
    return islice(driving, options.limit)


def _streamed(stage: Stage, frames: Iterable[Any], options: PortraitOptions) -> Iterator[np.ndarray]:
    smooth = (options.fps or DEFAULT_FPS) if options.smooth else None
    motions = stream_motion(stage.backbone, frames, smooth)
    first = next(motions, None)
    if first is not None:
        yield from stage.frames(chain([first], motions), first if options.relative else None, options.transfer)


def _written(frames: Iterator[np.ndarray], output: str | Path, options: PortraitOptions, dim: int) -> Report:
    clock, count, fps = Clock(), 0, options.fps or DEFAULT_FPS
    with clock("animate"), VideoWriter(output, fps, quality=options.quality) as writer:
        for frame in frames:
            writer.write(frame)
            count += 1
    return Report("transfer", count, count, fps, dim, seconds=dict(clock.seconds))
