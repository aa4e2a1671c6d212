"""Portraits in the shape of the virtual camera's frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from kinecast.apps.portrait.crops import ROOMY
from kinecast.apps.portrait.faces import LARGEST, chosen, find_faces
from kinecast.apps.portrait.inputs import as_picture
from kinecast.apps.portrait.options import landmarker_of
from kinecast.apps.portrait.stage import Stage, set_stage
from kinecast.errors import KinecastError
from kinecast.faces import Face
from kinecast.media.framing import fit
from kinecast.models.base import Backbone

MOST = 9  # as many as there are number keys
_LOW = 0.07  # of a face's size that it lies below the middle, as in `portrait.crops`
_BLUR = 24  # of the frame's height: the radius of what fills its sides
_DIM = 0.6


@dataclass(frozen=True)
class Avatar:
    """A portrait by its `name`, as it can be moved; `stage.picture` is a frame of it at rest."""

    name: str
    stage: Stage


def load_avatars(
    backbone: Backbone, sources: Sequence[Path], size: tuple[int, int], face: str | int = LARGEST
) -> list[Avatar]:
    """Return the portraits of pictures, framed for a camera.

    Args:
        backbone: what animates.
        sources: pictures, or clips of which the first frame counts; at most MOST.
        size: width and height of the frames.
        face: which face moves, as in `animate`, but one of them.

    Raises:
        KinecastError: too many, unreadable, or without a face.
    """
    if len(sources) > MOST:
        raise KinecastError(f"source: expected at most {MOST} pictures, a key for each, found {len(sources)}")
    avatars = []
    for path in sources:
        picture = as_picture(path)
        faces = find_faces(picture, landmarker_of(backbone))
        if not faces:
            raise KinecastError(
                f"{path}: expected a face in the {picture.shape[1]}x{picture.shape[0]} pixels, found none: choose a "
                "picture that shows one larger, or more from the front"
            )
        framed, its_face = frame_portrait(picture, chosen(faces, face)[0], size)
        avatars.append(Avatar(path.stem, set_stage(backbone, framed, [its_face])))
    return avatars


def frame_portrait(picture: np.ndarray, face: Face, size: tuple[int, int]) -> tuple[np.ndarray, Face]:
    """Cut and scale a portrait to frames in which the head takes half of the height.

    It is filled up at the sides by itself, blurred, where it is too narrow.

    Args:
        picture: (H, W, 3), uint8.
        face: whose head.
        size: width and height of the frames.

    Returns:
        The frame (height, width, 3), uint8, and the face in it.
    """
    width, height = size
    rows, columns = picture.shape[:2]
    seen = min(face.size / ROOMY, rows)  # rows of the picture that fill the frame
    scale = height / seen
    x, y = face.centre
    top = min(max(y - _LOW * face.size - seen / 2, 0), rows - seen)
    across = width / scale
    left = (columns - across) / 2 if across >= columns else min(max(x - across / 2, 0), columns - across)
    shown = max(left, 0), min(left + across, columns)  # columns of the picture that are shown
    box = round(top), round(shown[0]), max(round(seen), 1), max(round(shown[1] - shown[0]), 1)
    part = fit(picture, box, (height, min(max(round(box[3] * scale), 1), width)))
    place = (width - part.shape[1]) // 2 if part.shape[1] < width else 0
    frame = part if part.shape[1] == width else _filled(picture, size)
    frame[:, place : place + part.shape[1]] = part
    moved = (face.landmarks - np.array([box[1], box[0], 0], np.float32)) * np.float32(scale)
    moved[:, 0] += np.float32(place)
    return frame, face.placed(moved)


def _filled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a picture that fills a frame of `size`, width and height, blurred and dimmed."""
    width, height = size
    scale = max(width / picture.shape[1], height / picture.shape[0])
    rows, columns = round(height / scale), round(width / scale)
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    small = Image.fromarray(picture[top : top + max(rows, 1), left : left + max(columns, 1)]).resize(size)
    return (np.array(small.filter(ImageFilter.GaussianBlur(height / _BLUR))) * _DIM).astype(np.uint8)
