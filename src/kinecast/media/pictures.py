"""Single pictures: writing, conversion to tensors and back, and labelled grids.

A frame is a uint8 array (H, W, 3), RGB; a batch of frames is a float tensor (B, 3, H, W) in [0, 1].
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.files import PICTURE_OUTPUTS, atomic_path
from kinecast.media.stills import PICTURE_FORMATS, PICTURE_SUFFIXES, open_picture

__all__ = [
    "PICTURE_FORMATS",
    "PICTURE_SUFFIXES",
    "Colour",
    "as_frames",
    "border",
    "caption",
    "grid",
    "open_picture",
    "side_by_side",
    "to_tensor",
    "to_uint8",
    "write_image",
]

Colour = tuple[int, int, int]

_GAP = 255  # white gap between pictures


def write_image(path: str | Path, frame: np.ndarray | Tensor) -> None:
    """Write one frame, (H, W, 3) uint8 or (1, 3, H, W) or (3, H, W) in [0, 1], as .png or .jpg, atomically.

    Raises:
        KinecastError: another suffix, not a single frame, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_OUTPUTS:
        raise KinecastError(
            f"{path}: expected a picture name ending in {', '.join(PICTURE_OUTPUTS)}: rename the output"
        )
    pictures = as_frames(frame)
    if len(pictures) != 1:
        raise KinecastError(f"{path}: expected one frame, found {len(pictures)}: write a clip, or choose a frame")
    with atomic_path(path) as temporary:
        Image.fromarray(pictures[0]).save(temporary, quality=95)  # png ignores it


def to_uint8(frames: Tensor) -> np.ndarray:
    """Round frames (B, 3, H, W) in [0, 1] to a uint8 array (B, H, W, 3); values outside are clipped."""
    levels = frames.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def to_tensor(array: np.ndarray) -> Tensor:
    """Turn uint8 frames (B, H, W, 3), or one (H, W, 3), into a float32 tensor (B, 3, H, W) in [0, 1]."""
    frames = torch.from_numpy(np.ascontiguousarray(array if array.ndim == 4 else array[None]))
    return frames.permute(0, 3, 1, 2).contiguous().float().div(255)


def as_frames(frames: np.ndarray | Tensor) -> np.ndarray:
    """Return frames of any accepted kind as a uint8 array (B, H, W, 3).

    Raises:
        KinecastError: it is neither floats (B, 3, H, W) or (3, H, W), nor uint8 (B, H, W, 3) or (H, W, 3).
    """
    channel = -1 if isinstance(frames, np.ndarray) else -3
    right_type = frames.dtype == np.uint8 if isinstance(frames, np.ndarray) else frames.is_floating_point()
    if frames.ndim not in (3, 4) or frames.shape[channel] != 3 or not right_type:
        kind = str(frames.dtype).removeprefix("torch.")
        raise KinecastError(
            "frames: expected a floating-point tensor (B, 3, H, W) in [0, 1] or a uint8 array (H, W, 3), "
            f"found {kind} {tuple(frames.shape)}: convert them"
        )
    frames = frames if frames.ndim == 4 else frames[None]
    return frames if isinstance(frames, np.ndarray) else to_uint8(frames)


def border(frame: np.ndarray, color: Colour, width: int = 3) -> np.ndarray:
    """Return the frame (H, W, 3) with a border of `width` pixels drawn inside, keeping its size."""
    framed = np.empty_like(frame)
    framed[:] = color
    inside = (slice(width, max(frame.shape[0] - width, width)), slice(width, max(frame.shape[1] - width, width)))
    framed[inside] = frame[inside]
    return framed


def caption(frame: np.ndarray, text: str, color: Colour = (32, 32, 32)) -> np.ndarray:
    """Return the frame (H, W, 3) under a caption strip of `color` with `text`: (H + h, W, 3).

    The text is black or white, whichever contrasts with `color`. h depends on W alone, so captioned frames of one size
    keep one size; text that is too long is set smaller, then truncated with an ellipsis.
    """
    width = frame.shape[1]
    largest = 13 if width < 200 else 16
    light = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    strip = Image.new("RGB", (width, largest + 7), color)
    room = width - 6
    for size in range(largest, 8, -1):
        font = ImageFont.load_default(size=size)
        if font.getlength(text) <= room:
            break
    else:
        while text and font.getlength(text + "…") > room:
            text = text[:-1]
        text += "…"
    ink = (0, 0, 0) if light else (255, 255, 255)
    ImageDraw.Draw(strip).text((width / 2, strip.height / 2), text, fill=ink, font=font, anchor="mm")
    return np.concatenate([np.asarray(strip), frame])


def side_by_side(frames: Sequence[np.ndarray], gap: int = 2) -> np.ndarray:
    """Join frames (H, W, 3) of one height from left to right, `gap` white pixels between them.

    Raises:
        KinecastError: there is none, or the heights differ.
    """
    return _joined(frames, gap, axis=1)


def grid(rows: Sequence[Sequence[np.ndarray]], gap: int = 2, titles: Sequence[str] | None = None) -> np.ndarray:
    """Join rows of frames into one picture, with a caption above each column when `titles` are given.

    Raises:
        KinecastError: the rows, or rows and titles, differ in length, or the frames in size.
    """
    lengths = sorted({len(row) for row in rows})
    if len(lengths) != 1 or lengths[0] == 0:
        raise KinecastError(f"grid: expected rows of one length, found lengths {lengths}: fill the short ones")
    if titles is not None:
        if len(titles) != lengths[0]:
            raise KinecastError(f"grid: expected {lengths[0]} titles, one per column, found {len(titles)}")
        heads = [caption(frame, title) for frame, title in zip(rows[0], titles, strict=True)]
        rows = [heads, *rows[1:]]
    return _joined([side_by_side(row, gap) for row in rows], gap, axis=0)


def _joined(frames: Sequence[np.ndarray], gap: int, axis: int) -> np.ndarray:
    across = sorted({frame.shape[1 - axis] for frame in frames})
    if len(across) != 1:
        name = ("widths", "heights")[axis]
        raise KinecastError(f"pictures side by side: expected one or more of one size, found {name} {across}: resize")
    shape = list(frames[0].shape)
    shape[axis] = gap
    space = np.full(shape, _GAP, np.uint8)
    parts = [part for frame in frames for part in (space, frame)]
    return np.concatenate(parts[1:], axis=axis)
