"""Whole frames, upright and in RGB, with their times: of clips, folders of pictures, strips and picture files."""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import existing_file
from kinecast.media.container import clip_timing, decoded, header_fps, keeps_times, open_clip, promised_seconds
from kinecast.media.display import Display, deinterlaced
from kinecast.media.stills import PICTURE_SUFFIXES, open_picture, open_pictures, picture_delays
from kinecast.media.times import DEFAULT_FPS, Timing, measured, regular, repaired

_MILLISECOND = 0.001  # clock of animated pictures

Timed = tuple[float, np.ndarray]  # seconds since the first frame, and a frame (H, W, 3)


class Strip(str):
    """The path of a picture that holds a clip's frames side by side, as k squares of its height.

    Accepted wherever a clip's path is. It is not guessed from the shape: a banner is twice as wide as high too.
    """

    __slots__ = ()


def existing(path: str | Path) -> Path:
    """Return the path of an existing, readable clip, picture or folder; for a pipe, of its copy.

    Raises:
        KinecastError: it is missing, unreadable or an empty file.
    """
    path = Path(path)
    if not path.is_dir():
        path = existing_file(path, "clip or picture")
    if not os.access(path, os.R_OK):
        raise KinecastError(f"{path}: expected a readable clip or picture, found no permission: change its mode")
    return path


def timing(path: Path, strip: bool) -> tuple[Timing, int | None]:
    """Return rate and length of a source, and its number of frames if known."""
    if strip:
        count = sum(1 for _ in whole_frames(path, strip))
    elif path.is_dir():
        count = len(_folder_pictures(path))
    elif (delays := picture_delays(path)) is None:
        return clip_timing(path)
    else:
        times = np.cumsum(delays) - delays
        return measured(times, DEFAULT_FPS, _MILLISECOND, delays[-1]), len(delays)
    return Timing(DEFAULT_FPS, True, count / DEFAULT_FPS), count


def whole_frames(path: Path, strip: bool) -> Iterator[Timed]:
    """Yield the frames of a source.

    Raises:
        KinecastError: it cannot be read, or has no frame.
    """
    if path.is_dir() and not strip:
        yield from regular(_folder_frames(path))
    elif (pictures := _pictures(path, strip)) is None:
        yield from _clip_frames(path)
    else:
        time = 0.0
        for seconds, picture in pictures:
            yield time, picture
            time += seconds


def _pictures(path: Path, strip: bool) -> Iterator[tuple[float, np.ndarray]] | None:
    """Return the frames of a picture, strip or animated picture, each with its duration; None for anything else."""
    pictures = None if path.is_dir() else open_pictures(path)
    if not strip:
        return pictures
    if pictures is None:
        raise KinecastError(f"{path}: expected a picture that is a strip of frames, found something else: drop --strip")
    return ((1 / DEFAULT_FPS, part) for _, picture in pictures for part in _strip_frames(path, picture))


def _folder_frames(path: Path) -> Iterator[np.ndarray]:
    for name in _folder_pictures(path):
        picture = open_picture(existing_file(name, "picture"))
        if picture is None:
            raise KinecastError(f"{name}: expected a picture, found a file of another kind: remove it")
        yield picture


def _folder_pictures(path: Path) -> list[Path]:
    names = [p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")]
    if not names:
        raise KinecastError(
            f"{path}: expected a folder of pictures (png, jpg, webp, avif, heic), found none in it: name a clip, or "
            "another folder"
        )
    return sorted(names, key=by_name)


def by_name(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key in which 2 comes before 10; the name itself decides between 1 and 01."""
    parts = re.split(r"([0-9]+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (0, part) for part in parts if part], path.name


def _strip_frames(path: Path, picture: np.ndarray) -> list[np.ndarray]:
    height, width = picture.shape[:2]
    if width % height:
        raise KinecastError(
            f"{path}: expected a strip of square frames, k times as wide as high, found {width}x{height}: crop it, or "
            "drop --strip"
        )
    return np.split(picture, width // height, axis=1)


def _clip_frames(path: Path) -> Iterator[Timed]:
    with open_clip(path) as (container, stream):
        shown = _Shown(path, stream)
        display = Display(path, stream.sample_aspect_ratio)
        frames = ((shown.seconds(frame), frame) for frame in deinterlaced(shown.frames(container)))
        yield from ((time, display(frame)) for time, frame in repaired(frames, header_fps(stream)))
        shown.check_whole()


class _Shown:
    """The decodable frames of a clip, and whether all that the header promises were there."""

    def __init__(self, path: Path, stream: Any) -> None:
        self.path, self.stream = path, stream
        self.used, self.damaged = 0, False
        self.end, self.step = 0.0, 1.5 / header_fps(stream)

    def seconds(self, frame: Any) -> float | None:
        """Return the file's time of a frame."""
        # The stream's time base, since frames flushed from the decoder have none.
        return None if frame.pts is None else float(frame.pts * self.stream.time_base)

    def frames(self, container: Any) -> Iterator[Any]:
        """Yield decoded frames up to the first damage."""
        for frame in decoded(container, self.stream):
            if frame is None or (frame.is_corrupt and self.used):
                self.damaged = True
                return
            if frame.is_corrupt:
                continue  # recordings may start between two key frames
            if not keeps_times(container):
                frame.pts = frame.dts
            self._note(self.seconds(frame), frame)
            yield frame

    def _note(self, time: float | None, frame: Any) -> None:
        self.used += 1
        length = float((frame.duration or 0) * self.stream.time_base)
        if time is not None:
            end = time + length - float((self.stream.start_time or 0) * self.stream.time_base)
        elif self.used > 1:
            end = self.end + length
        else:
            end = float("inf")  # without times, missing frames cannot be detected
        self.step, self.end = max(self.step, 1.5 * (end - self.end)), end

    def check_whole(self) -> None:
        """Warn of a clip that ended too early.

        Raises:
            KinecastError: no frame could be decoded.
        """
        if not self.used:
            raise KinecastError(
                f"{self.path}: expected at least one frame, found none that can be decoded: copy it again"
            )
        # A file cut between two packets ends without an error, but earlier than its header claims.
        if self.damaged or promised_seconds(self.stream) - self.end > max(0.1, self.step):
            warnings.warn(
                KinecastWarning(f"{self.path}: the file is cut off or damaged: the first {self.used} frames are used"),
                stacklevel=4,
            )
