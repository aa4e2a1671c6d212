"""Which part of a frame is looked at, and at what size: the crop policies, the face among them.

A frame is a uint8 array (H, W, 3), RGB; sizes are (height, width) in pixels.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from kinecast.errors import KinecastError

CROPS = ("center", "face", "none")
Box = tuple[int, int, int, int]  # top, left, height, width

FACE_FRAMES = range(0, 51, 10)  # the frames of a clip in which a face is looked for: its first two seconds

# In VoxCeleb's crops the box that this detector finds has 0.62 of the frame's side and its centre in the middle
# (medians over the 33 clips of shared/data): what the models were trained on, hence the box to cut around a face.
_FACE_SHARE = 0.62
_FACE_SMALLEST = 0.15  # of the frame's shorter side; below that, the detector mostly finds texture
_DETECTOR_WINDOW = 24  # pixels: it sees nothing smaller
_FACE_PIXELS = 256  # the shorter side of the frames that it is given


def check_reading(crop: str = "center", fps: float | None = None, limit: int | None = None) -> None:
    """Check how a clip is to be read, before it is: its crop, its true rate in frames a second, its most frames.

    Raises:
        KinecastError: no crop policy, or a number out of range.
    """
    if crop not in CROPS:
        raise KinecastError(f"crop {crop!r}: expected one of {', '.join(CROPS)}")
    if fps is not None and not 0 < fps <= 1000:
        raise KinecastError(f"fps: expected a rate in (0, 1000], found {fps}")
    if limit is not None and limit < 1:
        raise KinecastError(f"limit: expected 1 frame or more, found {limit}")


def crop_box(
    shape: tuple[int, int],
    target: tuple[int, int] | None,
    crop: str,
    face: tuple[float, float, float] | None = None,
) -> Box:
    """Return the box that a policy of CROPS cuts from frames of `shape`, inside the frame.

    Args:
        shape: size of the frames.
        target: size that they will have, for its aspect ratio; None means a square.
        crop: the policy.
        face: centre y, x and side of the face, for the policy "face".
    """
    height, width = shape
    if crop == "none":
        return 0, 0, height, width
    rows, columns = target or (1, 1)
    scale = min(height / rows, width / columns)  # of the largest box that fits
    middle = (height / 2, width / 2)
    if crop == "face" and face is not None:
        middle = face[:2]
        scale = min(face[2] / _FACE_SHARE / min(rows, columns), scale)
    box_height, box_width = max(round(rows * scale), 1), max(round(columns * scale), 1)
    top = min(max(round(middle[0] - box_height / 2), 0), height - box_height)
    left = min(max(round(middle[1] - box_width / 2), 0), width - box_width)
    return top, left, box_height, box_width


def fit(frame: np.ndarray, box: Box, target: tuple[int, int] | None) -> np.ndarray:
    """Cut `box` from a frame and resize it to `target`, if that is another size.

    Pillow's Lanczos filter over the area that a pixel covers: it does not alias when it shrinks nor show blocks when
    it enlarges, and pictures and clips pass through the same one, which with swscale they would not.
    """
    top, left, height, width = box
    if target is None or target == (height, width):
        return np.ascontiguousarray(frame[top : top + height, left : left + width])
    edges = (left, top, left + width, top + height)
    resized = Image.fromarray(frame).resize((target[1], target[0]), Image.Resampling.LANCZOS, box=edges)
    return np.array(resized)


def centred(frame: np.ndarray, target: tuple[int, int]) -> np.ndarray:
    """Cut the largest box of the target's shape from the middle of a frame, and resize it."""
    return fit(frame, crop_box((frame.shape[0], frame.shape[1]), target, "center"), target)


def find_face(frames: Iterable[np.ndarray]) -> tuple[float, float, float] | None:
    """Return centre y, x and side in pixels of the face: the median over the frames of the largest one in each.

    None if no frame shows a face from the front at least _FACE_SMALLEST high.
    """
    found = []
    for frame in frames:
        scale = min(1.0, _FACE_PIXELS / min(frame.shape[:2]))
        grey = Image.fromarray(frame).convert("L")
        grey = grey.resize((round(grey.width * scale), round(grey.height * scale)), Image.Resampling.BOX)
        largest = min(grey.size)
        smallest = max(round(_FACE_SMALLEST * largest), _DETECTOR_WINDOW)
        if largest < _DETECTOR_WINDOW:
            continue
        faces = _detector().detect_multi_scale(
            np.asarray(grey), 1.1, 1, min_size=(smallest, smallest), max_size=(largest, largest)
        )
        if faces:
            face = max(faces, key=lambda f: f["height"])
            centre = (face["r"] + face["height"] / 2, face["c"] + face["width"] / 2)
            found.append([value / scale for value in (*centre, face["height"])])
    if not found:
        return None
    y, x, side = np.median(found, axis=0)
    return float(y), float(x), float(side)


@cache
def _detector() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename  # slow to import, and seldom needed
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())
