"""Frames in: clips, folders of pictures, strips and single pictures, one frame in memory at a time.

The related names of `pictures` and `writer` can be imported from here too.

A frame is a uint8 array (H, W, 3), RGB; a batch is a float32 tensor (B, 3, H, W) in [0, 1].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.media.framing import CROPS, FACE_FRAMES, Box, check_reading, crop_box, find_face, fit, which_face
from kinecast.media.pictures import border, caption, grid, side_by_side, to_tensor, to_uint8, write_image
from kinecast.media.sources import Strip, Timed, existing, timing, whole_frames
from kinecast.media.times import DEFAULT_FPS
from kinecast.media.writer import VideoWriter

__all__ = [
    "CROPS",
    "DEFAULT_FPS",
    "READING",
    "ClipInfo",
    "Strip",
    "VideoWriter",
    "border",
    "caption",
    "grid",
    "probe",
    "read_batches",
    "read_frames",
    "read_image",
    "side_by_side",
    "timed_batches",
    "timed_frames",
    "to_tensor",
    "to_uint8",
    "write_image",
]

READING = 2  # part of the key of cached data of clips: increase it when the same file gives different frames


@dataclass(frozen=True)
class ClipInfo:
    """Properties of a clip.

    Attributes:
        path: its path.
        fps: the mean frame rate, from the frames' times; the header's rate is used if it agrees with them.
        width: in pixels, as shown.
        height: likewise.
        frames: number of frames, None if unknown.
        constant_rate: whether frame i is shown at i / fps.
        duration: seconds from the first frame until the last one ends, None if unknown.
    """

    path: Path
    fps: float
    width: int
    height: int
    frames: int | None
    constant_rate: bool
    duration: float | None


def probe(path: str | Path) -> ClipInfo:
    """Inspect a clip, a folder of pictures, a strip or a picture; pictures have DEFAULT_FPS.

    All packets of a clip are read, for their times, but only one frame is decoded.

    Raises:
        KinecastError: it does not exist, or has no frame.
    """
    strip, there = isinstance(path, Strip), existing(path)
    clock, frames = timing(there, strip)
    _, first = next(whole_frames(there, strip))
    height, width = first.shape[:2]
    return ClipInfo(there, clock.fps, width, height, frames, clock.constant, clock.duration)


def timed_frames(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    crop: str = "center",
    limit: int | None = None,
) -> Iterator[Timed]:
    """Yield the frames of a clip with their display times.

    A time is in seconds since the first frame; times strictly increase. They are the file's own, whatever rate its
    header claims; missing ones and ones that run backwards are extrapolated from those before. Pictures of a folder or
    strip come at DEFAULT_FPS.

    Args:
        path: as for `read_frames`, which gives the same frames.
        size: likewise.
        crop: likewise.
        limit: likewise.

    Raises:
        KinecastError: as `read_frames`.
    """
    strip, there = isinstance(path, Strip), existing(path)
    target = _target(size)
    check_reading(crop, limit=limit)
    return islice(_fitted_frames(there, target, crop, strip), limit)


def read_frames(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    crop: str = "center",
    limit: int | None = None,
) -> Iterator[np.ndarray]:
    """Yield the frames of a clip, uint8 (H, W, 3), RGB, upright, in constant memory.

    A clip is a video that libav reads (mp4, mov, webm, mkv, avi, gif), a folder of pictures in natural order of their
    names, a picture (one frame, or those of an animated png, webp or avif), or a `Strip`. "-" and pipes are buffered
    first. Frames are as players show them: rotated and mirrored as in the file, square pixels, on white, in sRGB (HDR
    is tone mapped, with a ConversionWarning), deinterlaced. If the file is truncated or damaged, the frames up to there
    are yielded, then a KinecastWarning is issued.

    Args:
        path: the clip; a `Strip` for a picture that is one.
        size: (height, width) of the frames, or the side of square ones, antialiased; None keeps the crop's size.
        crop: "center" is the largest centred box of the target's aspect ratio (a square for None); "face" is one box
            for the whole clip around the face in its first frames, framed as in VoxCeleb; "none" is the whole frame,
            stretched to `size` if given.
        limit: maximum number of frames.

    Raises:
        KinecastError: nothing to read, no frames, frames of different sizes, no face, or an invalid argument.
    """
    frames = timed_frames(path, size, crop, limit)
    return (frame for _, frame in frames)


def timed_batches(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    crop: str = "center",
    batch: int = 16,
    limit: int | None = None,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield the output of `timed_frames` as times, float64 (B,), and tensors (B, 3, H, W) in [0, 1], B <= `batch`."""
    if batch < 1:
        raise KinecastError(f"batch: expected 1 frame or more, found {batch}")
    frames = timed_frames(path, size, crop, limit)
    chunks = iter(lambda: list(islice(frames, batch)), [])
    return (
        (np.array([time for time, _ in chunk]), to_tensor(np.stack([frame for _, frame in chunk]))) for chunk in chunks
    )


def read_batches(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    crop: str = "center",
    batch: int = 16,
    limit: int | None = None,
) -> Iterator[Tensor]:
    """Yield the frames of `read_frames` as float32 tensors (B, 3, H, W) in [0, 1], B <= `batch`."""
    return (frames for _, frames in timed_batches(path, size, crop, batch, limit))


def read_image(path: str | Path, size: int | tuple[int, int] | None = None, crop: str = "center") -> Tensor:
    """Read a picture, or the first frame of a clip, as a float32 tensor (1, 3, H, W) in [0, 1].

    Raises:
        KinecastError: as `read_frames`.
    """
    return to_tensor(next(read_frames(path, size, crop, limit=1)))


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise KinecastError(f"size: expected a height and a width of 1 pixel or more, found {height}x{width}")
    return height, width


def _fitted_frames(path: Path, target: tuple[int, int] | None, crop: str, strip: bool) -> Iterator[Timed]:
    box: Box | None = None
    shape: tuple[int, ...] = ()
    for time, frame in whole_frames(path, strip):
        if box is None:
            shape = frame.shape
            which = which_face(crop)
            face = None if which is None else _face(path, strip, which)
            box = crop_box((shape[0], shape[1]), target, crop, face)
        elif frame.shape != shape:
            raise KinecastError(
                f"{path}: expected frames of one size, {shape[1]}x{shape[0]} like the first, "
                f"found {frame.shape[1]}x{frame.shape[0]}: resize them first"
            )
        yield time, fit(frame, box, target)


def _face(path: Path, strip: bool, which: str | int) -> tuple[float, float, float]:
    """Find the face in a separate pass over the first frames, rather than keep them all in memory."""
    first = islice(whole_frames(path, strip), FACE_FRAMES.start, FACE_FRAMES.stop, FACE_FRAMES.step)
    face = find_face((frame for _, frame in first), which)
    if face is None and which != "largest":
        raise KinecastError(f"{path}: expected {which} faces or more in the first frames, found fewer: use --face 1")
    if face is None:
        raise KinecastError(
            f"{path}: expected a face in the first frames, found none at least a seventh of the picture high "
            "and seen from the front: use --crop center"
        )
    return face
