"""Crop policies: which part of a frame is used, and at what size.

A frame is a uint8 array (H, W, 3), RGB; sizes are (height, width) in pixels.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
from PIL import Image

from kinecast.errors import KinecastError
from kinecast.faces import Landmarker, choose

CROPS = ("center", "face", "none")
_NUMBERED = "face:"  # and a number: the crop policy "face" for the face of that number, counted from 1 at the left
SIZES = (16, 2048)  # pixels of a square frame's side, from and to
Box = tuple[int, int, int, int]  # top, left, height, width

FACE_FRAMES = range(0, 51, 10)  # frames of a clip searched for a face: its first two seconds

# In VoxCeleb's crops, which the models were trained on, the landmarks' box has 0.61 of the frame's side, and its centre
# lies 0.07 of its own side below the middle (medians over the 33 clips of shared/data).
_FACE_SHARE = 0.61
_FACE_LOW = 0.07


def check_reading(crop: str = "center", fps: float | None = None, limit: int | None = None) -> None:
    """Check the options for reading a clip: its crop, its true rate in frames per second, its frame limit.

    Raises:
        KinecastError: an unknown crop policy, or a number out of range.
    """
    which_face(crop)
    if fps is not None and not 0 < fps <= 1000:
        raise KinecastError(f"fps: expected a rate in (0, 1000], found {fps}")
    if limit is not None and limit < 1:
        raise KinecastError(f"limit: expected 1 frame or more, found {limit}")


def which_face(crop: str) -> str | int | None:
    """Return which face a crop policy selects, as for `kinecast.faces.choose`; None if it needs no face.

    Raises:
        KinecastError: an unknown crop policy.
    """
    if crop == "face":
        return "largest"
    number = crop.removeprefix(_NUMBERED)
    if crop.startswith(_NUMBERED) and number.isdecimal() and int(number) >= 1:
        return int(number)
    if crop in CROPS:
        return None
    raise KinecastError(f"crop {crop!r}: expected one of {', '.join(CROPS)}")


def around_face(crop: str, face: int | None) -> str:
    """Return the crop policy for the face of a number, counted from 1 at the left; `crop` if the number is None.

    Raises:
        KinecastError: another crop was requested, or the number is below 1.
    """
    if face is None:
        return crop
    if crop == "none":
        raise KinecastError(f"face: expected --crop face with --face {face}, found --crop {crop}: drop it")
    if face < 1:
        raise KinecastError(f"face: expected a number from 1, counted from the left, found {face}")
    return f"{_NUMBERED}{face}"


def check_size(size: int | None) -> None:
    """Check the side of square frames.

    Raises:
        KinecastError: it is out of range.
    """
    if size is not None and not SIZES[0] <= size <= SIZES[1]:
        raise KinecastError(f"size: expected {SIZES[0]} to {SIZES[1]} pixels, found {size}: choose 256, 512 or 1024")


def crop_box(
    shape: tuple[int, int],
    target: tuple[int, int] | None,
    crop: str,
    face: tuple[float, float, float] | None = None,
) -> Box:
    """Return the box that a policy of CROPS selects in frames of `shape`.

    Args:
        shape: size of the frames.
        target: size of the result, for its aspect ratio; None means a square.
        crop: the policy.
        face: centre y, x and side of the face, for the policy "face".
    """
    height, width = shape
    if crop == "none":
        return 0, 0, height, width
    rows, columns = target or (1, 1)
    scale = min(height / rows, width / columns)  # of the largest box that fits
    middle = (height / 2, width / 2)
    if which_face(crop) is not None and face is not None:
        middle = face[:2]
        scale = min(face[2] / _FACE_SHARE / min(rows, columns), scale)
    box_height, box_width = max(round(rows * scale), 1), max(round(columns * scale), 1)
    top = min(max(round(middle[0] - box_height / 2), 0), height - box_height)
    left = min(max(round(middle[1] - box_width / 2), 0), width - box_width)
    return top, left, box_height, box_width


def fit(frame: np.ndarray, box: Box, target: tuple[int, int] | None) -> np.ndarray:
    """Crop `box` from a frame and resize it to `target` if the sizes differ.

    Pillow's Lanczos filter is antialiased when shrinking and smooth when enlarging, and pictures and clips pass through
    the same one, which would not be so with swscale.
    """
    top, left, height, width = box
    if target is None or target == (height, width):
        return np.ascontiguousarray(frame[top : top + height, left : left + width])
    edges = (left, top, left + width, top + height)
    resized = Image.fromarray(frame).resize((target[1], target[0]), Image.Resampling.LANCZOS, box=edges)
    return np.array(resized)


def centred(frame: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """Crop the largest box of the target's shape from the centre of a frame, and resize it."""
    return fit(frame, crop_box((frame.shape[0], frame.shape[1]), target, "center"), target)


def find_face(frames: Iterable[np.ndarray], which: str | int = "largest") -> tuple[float, float, float] | None:
    """Return centre y, x and side in pixels of a face, as VoxCeleb frames it: the median over the frames.

    Args:
        frames: (H, W, 3), uint8.
        which: the face to use in each, as for `kinecast.faces.choose`.

    Returns:
        None if no frame shows such a face.
    """
    found = []
    for frame in frames:
        face = choose(_landmarker().detect(frame), which)
        if face is not None:
            x, y = face.centre
            found.append((y - _FACE_LOW * face.size, x, face.size))
    if not found:
        return None
    y, x, side = np.median(found, axis=0)
    return float(y), float(x), float(side)


@cache
def _landmarker() -> Landmarker:
    return Landmarker("cpu", "eager")  # compiling would take longer than these few frames
