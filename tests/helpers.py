"""What tests of several modules draw and write."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

_NOBODY = 65534
CODECS = {".mp4": "libx264", ".mov": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4"}


@contextmanager
def as_plain_user(folder: Path) -> Iterator[None]:
    """Take root's rights away, so that file modes mean the same to whoever runs the tests. `folder` is theirs then."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, 0)  # the real one too, which os.access goes by
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


def draw_frames(frames: int = 12, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Return (frames, H, W, 3) uint8: a coloured blob that circles on smooth texture, no two frames alike."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ground = 110 + 40 * np.sin(x / 7) * np.cos(y / 9)
    still = np.stack([ground, ground * 0.9, 200 - ground], axis=-1)
    clip = np.empty((frames, height, width, 3), np.uint8)
    for t in range(frames):
        angle = 2 * np.pi * t / 24
        centre = height * (0.5 + 0.25 * np.sin(angle)), width * (0.5 + 0.25 * np.cos(angle))
        distance = np.hypot(y - centre[0], x - centre[1])
        blob = np.clip(1.5 - distance / (0.12 * min(size)), 0, 1)[..., None]
        clip[t] = np.rint(still * (1 - blob) + np.array([230.0, 60.0, 40.0]) * blob)
    return clip


def write_clip(
    path: Path, frames: np.ndarray, fps: float = 25, options: dict[str, str] | None = None, key_every: int = 12
) -> Path:
    """Write frames (T, H, W, 3) with PyAV alone, so that tests of our reader do not lean on our writer."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(CODECS[path.suffix], rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.gop_size = key_every
        stream.options = {"crf": "10", "b": "0", "cpu-used": "8", "preset": "veryfast", "qmax": "10"}
        stream.bit_rate = 0
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def make_clip(path: str | Path, frames: int = 12, size: tuple[int, int] = (64, 64), fps: float = 25) -> Path:
    """Write a small clip of `draw_frames` and return its path; the suffix chooses the format."""
    return write_clip(Path(path), draw_frames(frames, size), fps)
