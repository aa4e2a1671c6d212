"""Frames in: clips, folders of pictures, strips and single pictures, one frame in memory at a time.

The names of `pictures` and `video_writer` that go with them are importable from here too.

A frame is a uint8 array (H, W, 3), RGB; a batch is a float32 tensor (B, 3, H, W) in [0, 1].
"""

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter
from PIL import Image
from torch import Tensor

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import existing_file
from kinecast.framing import CROPS, FACE_FRAMES, Box, check_reading, crop_box, find_face, fit
from kinecast.pictures import (
    PICTURE_SUFFIXES,
    border,
    caption,
    grid,
    on_white,
    open_picture,
    side_by_side,
    to_tensor,
    to_uint8,
    write_image,
)
from kinecast.video_writer import VideoWriter

__all__ = [
    "CROPS",
    "DEFAULT_FPS",
    "ClipInfo",
    "VideoWriter",
    "border",
    "caption",
    "grid",
    "probe",
    "read_batches",
    "read_frames",
    "read_image",
    "side_by_side",
    "to_tensor",
    "to_uint8",
    "write_image",
]

DEFAULT_FPS = 25.0  # of pictures, which do not say

_READABLE = "mp4, mov, webm, mkv, avi, gif, png, jpg, webp, or a folder of pictures"
# Named, because libav otherwise renders any text file as film and follows the addresses in a playlist.
_FORMATS = "mov,matroska,avi,gif,mpegts,mpeg,flv,asf,ogg,ivf,h264,hevc,wav,mp3,flac,aac"
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


@dataclass(frozen=True)
class ClipInfo:
    """What a clip says of itself: `width` and `height` in pixels as shown, `frames` None where it does not say."""

    path: Path
    fps: float
    width: int
    height: int
    frames: int | None


def probe(path: str | Path) -> ClipInfo:
    """Look at a clip, a folder of pictures, a strip or a picture; pictures have DEFAULT_FPS.

    Raises:
        KinecastError: there is no such thing, or no frame in it.
    """
    path = _existing(path)
    fps, frames = DEFAULT_FPS, None
    if path.is_dir():
        frames = len(_folder_pictures(path))
    elif (picture := open_picture(path)) is not None:
        frames = len(_strip_frames(picture))
    else:
        with _open_clip(path) as (_, stream):
            fps, frames = _fps(stream), stream.frames or None
    height, width = next(_whole_frames(path)).shape[:2]
    return ClipInfo(path, fps, width, height, frames)


def read_frames(
    path: str | Path, size: int | tuple[int, int] | None = None, crop: str = "center", limit: int | None = None
) -> Iterator[np.ndarray]:
    """Return the frames of a clip one at a time, uint8 (H, W, 3), RGB, upright; memory does not grow with the clip.

    A clip is what libav reads (mp4, mov, webm, mkv, avi, gif), a folder of pictures in natural order of their names,
    a strip (a picture k >= 2 times as wide as high: k square frames), or a picture (one frame). If the file is cut
    off or damaged, the frames up to there are given, then a KinecastWarning.

    Args:
        path: the clip.
        size: (height, width) of the frames, or the side of square ones, antialiased; None keeps what the crop leaves.
        crop: "center" is the largest box of the target's aspect ratio (a square for None) in the middle; "face" is
            one box for the whole clip around the face in its first frames, framed as in VoxCeleb; "none" is the
            whole frame, stretched to `size` if given.
        limit: the most frames to give.

    Raises:
        KinecastError: nothing to read, no frame in it, frames of several sizes, no face, or a foreign argument.
    """
    path = _existing(path)
    target = _target(size)
    check_reading(crop, limit=limit)
    return islice(_fitted_frames(path, target, crop), limit)


def read_batches(
    path: str | Path,
    size: int | tuple[int, int] | None = None,
    crop: str = "center",
    batch: int = 16,
    limit: int | None = None,
) -> Iterator[Tensor]:
    """Return the frames that `read_frames` gives as float32 tensors (B, 3, H, W) in [0, 1], B <= `batch`."""
    if batch < 1:
        raise KinecastError(f"batch: expected 1 frame or more, found {batch}")
    frames = read_frames(path, size, crop, limit)
    return (to_tensor(np.stack(chunk)) for chunk in iter(lambda: list(islice(frames, batch)), []))


def read_image(path: str | Path, size: int | tuple[int, int] | None = None, crop: str = "center") -> Tensor:
    """Read a picture, or the first frame of a clip, as a float32 tensor (1, 3, H, W) in [0, 1].

    Raises:
        KinecastError: as `read_frames`.
    """
    return to_tensor(next(read_frames(path, size, crop, limit=1)))


# --- whole frames of every kind of source ---------------------------------------------------------------------------


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_dir():
        existing_file(path, "clip or picture")
    if not os.access(path, os.R_OK):
        raise KinecastError(f"{path}: expected a readable clip or picture, found no permission: change its mode")
    return path


def _whole_frames(path: Path) -> Iterator[np.ndarray]:
    if path.is_dir():
        for name in _folder_pictures(path):
            picture = open_picture(existing_file(name, "picture"))
            if picture is None:
                raise KinecastError(f"{name}: expected a picture, found a file of another kind: remove it")
            yield picture
    elif (picture := open_picture(path)) is not None:
        yield from _strip_frames(picture)
    else:
        yield from _clip_frames(path)


def _folder_pictures(path: Path) -> list[Path]:
    names = [p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")]
    if not names:
        raise KinecastError(
            f"{path}: expected a folder of pictures (png, jpg, webp), found none in it: name a clip, or another folder"
        )
    return sorted(names, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Sort key in which 2 comes before 10; the name itself decides between 1 and 01."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts if part], path.name


def _strip_frames(picture: np.ndarray) -> list[np.ndarray]:
    height, width = picture.shape[:2]
    count = width // height if width % height == 0 else 1
    return np.split(picture, count, axis=1)


@contextmanager
def _open_clip(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield libav's container and its first true video stream."""
    try:
        # The prefix keeps a name with a colon from being taken for an address.
        container = av.open(f"file:{path}", options={"format_whitelist": _FORMATS}, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise _unreadable(path) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]  # not a cover
        if not streams:
            found = "only sound" if container.streams.audio else "no video stream"
            raise KinecastError(f"{path}: expected a clip with pictures, found {found}: choose a video file")
        yield container, streams[0]


def _unreadable(path: Path) -> KinecastError:
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] in _MP4_BOXES:
        return KinecastError(
            f"{path}: expected a whole mp4, found one without its index (moov), which stands at the end and is cut "
            "off or damaged, so no frame can be read: copy or record it again"
        )
    return KinecastError(f"{path}: expected a clip or picture ({_READABLE}), found a file of another kind: convert it")


def _clip_frames(path: Path) -> Iterator[np.ndarray]:
    with _open_clip(path) as (container, stream):
        converter = VideoReformatter()  # one for all frames: its set-up costs more than its work
        used, end, damaged = 0, 0.0, False
        for frame in _decoded(container, stream):
            if frame is None or (frame.is_corrupt and used):
                damaged = True
                break
            if frame.is_corrupt:
                continue  # recordings may start between two key frames
            yield _upright_rgb(frame, converter)
            used += 1
            end = _end_seconds(frame, stream)
        if not used:
            raise KinecastError(f"{path}: expected at least one frame, found none that can be decoded: copy it again")
        missing = _promised_seconds(stream) - end
        # A file cut between two packets ends without an error, but earlier than its header says.
        if damaged or missing > max(0.1, 1.5 / _fps(stream)):
            warnings.warn(
                KinecastWarning(f"{path}: the file is cut off or damaged: the first {used} frames are used"),
                stacklevel=3,
            )


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded frames; at the first damage those that the decoder still holds back, then None."""
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                break
            yield from packet.decode()
        else:
            return
    except av.error.FFmpegError:
        pass
    with suppress(av.error.FFmpegError):
        yield from stream.codec_context.decode(None)
    yield None


def _upright_rgb(frame: Any, converter: VideoReformatter) -> np.ndarray:
    turns = round(frame.rotation / 90) if frame.rotation else 0  # degrees counter-clockwise, as np.rot90 turns
    if any(component.is_alpha for component in frame.format.components):
        pixels = on_white(Image.fromarray(converter.reformat(frame, format="rgba", threads=1).to_ndarray()))
    else:
        pixels = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _fps(stream: Any) -> float:
    return float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def _end_seconds(frame: Any, stream: Any) -> float:
    if frame.pts is None:
        return float("inf")  # without times nothing can be said to be missing
    # The stream's time base, since frames that the decoder held back come without one.
    return float((frame.pts + (frame.duration or 0) - (stream.start_time or 0)) * stream.time_base)


def _promised_seconds(stream: Any) -> float:
    """Return the stream's length by its header, 0 if that does not say: mkv and webm keep it in a tag."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found:
        hours, minutes, seconds = map(float, found.groups())
        return hours * 3600 + minutes * 60 + seconds - float((stream.start_time or 0) * stream.time_base)
    return 0.0


def _target(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise KinecastError(f"size: expected a height and a width of 1 pixel or more, found {height}x{width}")
    return height, width


def _fitted_frames(path: Path, target: tuple[int, int] | None, crop: str) -> Iterator[np.ndarray]:
    box: Box | None = None
    shape: tuple[int, ...] = ()
    for frame in _whole_frames(path):
        if box is None:
            shape = frame.shape
            face = _face(path) if crop == "face" else None
            box = crop_box((shape[0], shape[1]), target, crop, face)
        elif frame.shape != shape:
            raise KinecastError(
                f"{path}: expected frames of one size, {shape[1]}x{shape[0]} like the first, "
                f"found {frame.shape[1]}x{frame.shape[0]}: resize them first"
            )
        yield fit(frame, box, target)


def _face(path: Path) -> tuple[float, float, float]:
    """Look for the face in a second pass over the first frames, rather than keep them all in memory."""
    face = find_face(islice(_whole_frames(path), FACE_FRAMES.start, FACE_FRAMES.stop, FACE_FRAMES.step))
    if face is None:
        raise KinecastError(
            f"{path}: expected a face in the first frames, found none at least a seventh of the picture high "
            "and seen from the front: use --crop center"
        )
    return face
