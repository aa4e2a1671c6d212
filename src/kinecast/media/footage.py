"""A clip at its own times or resampled, whole or in part.

Notation: B frames of a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.media.framing import check_reading
from kinecast.media.resampling import Shown, at_rate, between, with_ends
from kinecast.media.video import ClipInfo, Strip, probe, timed_frames, to_tensor


@dataclass(frozen=True)
class Footage:
    """The selected frames of a clip.

    `fps` resamples to a constant rate. `true_fps` is the rate if the file's own times are wrong: frame i is then shown
    at i / true_fps. `limit` is the maximum number of frames, after resampling. Frames have `size` (height, width), or
    their own if None, by the policy `crop`. `start` and `end` are seconds of the clip: frames shown outside them are
    dropped, and times count from the first one kept.
    """

    path: str | Path
    info: ClipInfo
    size: tuple[int, int] | None
    crop: str = "center"
    fps: float | None = None
    limit: int | None = None
    true_fps: float | None = None
    start: float = 0.0
    end: float | None = None

    @property
    def constant(self) -> bool:
        """Whether frame i is shown from i / rate to (i + 1) / rate."""
        return self.info.constant_rate or self.fps is not None or self.true_fps is not None

    @property
    def rate(self) -> float:
        """Frames per second, the mean over the clip if it varies."""
        return self.fps or self.true_fps or self.info.fps

    def shown(self) -> Iterator[Shown[np.ndarray]]:
        """Yield start and end of each frame's display in seconds, and the frame (H, W, 3), uint8."""
        whole = self.start == 0 and self.end is None
        most = self.limit if self.fps is None and whole else None
        if self.true_fps is None and not self.info.constant_rate:
            # One frame more than requested gives the end of the last one.
            frames = timed_frames(self.path, self.size, self.crop, None if most is None else most + 1)
            shown = with_ends(frames, self.info.duration)
        else:
            rate = self.true_fps or self.info.fps
            frames = timed_frames(self.path, self.size, self.crop, most)
            shown = ((i / rate, (i + 1) / rate, frame) for i, (_, frame) in enumerate(frames))
        shown = shown if whole else between(shown, self.start, self.end)
        return islice(shown if self.fps is None else at_rate(shown, self.fps), self.limit)

    def batches(self, batch: int) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yield the edges of B <= `batch` frames, float64 (B + 1,), and the frames, (B, 3, H, W) in [0, 1]."""
        shown = self.shown()
        while chunk := list(islice(shown, batch)):
            edges = np.array([*(begin for begin, *_ in chunk), chunk[-1][1]])
            yield edges, to_tensor(np.stack([frame for *_, frame in chunk]))


def footage(
    path: str | Path,
    size: tuple[int, int] | None,
    crop: str = "center",
    fps: float | None = None,
    limit: int | None = None,
    true_fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Footage:
    """Open a clip; see `Footage`. Pictures of a folder or strip have no times: `fps` is their true rate.

    Raises:
        KinecastError: as `kinecast.media.video.probe`, an invalid rate, or a part outside the clip.
    """
    check_reading(crop, fps, limit)
    check_reading(fps=true_fps)
    check_part(start, end)
    info = probe(path)
    if info.duration is not None and start >= info.duration:
        raise KinecastError(
            f"{info.path}: expected a start within its {info.duration:.2f} s, found {start:g} s: start earlier"
        )
    if true_fps is None and (info.path.is_dir() or info.frames == 1 or isinstance(path, Strip)):
        fps, true_fps = None, fps
    return Footage(path, info, size, crop, fps, limit, true_fps, start, end)


def check_part(start: float, end: float | None) -> None:
    """Check the selected part of a clip, in seconds.

    Raises:
        KinecastError: it begins before 0, or ends before it begins.
    """
    if not 0 <= start < float("inf"):
        raise KinecastError(f"start: expected seconds from 0, found {start:g}")
    if end is not None and not end > start:
        raise KinecastError(f"end: expected seconds after the start at {start:g}, found {end:g}")
