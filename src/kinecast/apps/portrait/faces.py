"""The faces in a picture, from left to right, and the choice among them."""

from collections.abc import Sequence

import numpy as np

from kinecast.errors import KinecastError
from kinecast.faces import Face, Landmarker, face_choice
from kinecast.faces.detection import SAME, overlap
from kinecast.faces.landmarker import LEAST_PRESENCE
from kinecast.faces.topology import BLENDSHAPES

LARGEST, ALL = "largest", "all"
_LEAST = 24  # pixels of a face's larger side: smaller ones show no expression
_SHARP = 96  # likewise: smaller ones become soft pictures
_FRONT = 30.0  # degrees by which a face may be turned away and still show both of its sides
_SHUT = 0.6  # of the blink scores
_BLINKS = [BLENDSHAPES.index(name) for name in ("eyeBlinkLeft", "eyeBlinkRight")]


def find_faces(picture: np.ndarray, landmarker: Landmarker) -> list[Face]:
    """Return the faces in a picture (H, W, 3), uint8, from left to right.

    Parts of half the picture's size are searched as well: in a group photo a face is a small share of the whole.
    """
    found = landmarker.detect(picture)
    squares = landmarker.find(picture, closer=True)
    closer = landmarker.look([picture] * len(squares), squares)
    for face in sorted(closer, key=lambda face: -face.size):
        if face.presence >= LEAST_PRESENCE and not _known(face, found):
            found.append(face)
    return sorted((face for face in found if face.size >= _LEAST), key=lambda face: float(face.centre[0]))


def _known(face: Face, found: Sequence[Face]) -> bool:
    return bool(found) and bool(overlap(face.box, np.stack([other.box for other in found])).max() > SAME)


def face_option(which: str | int) -> str | int:
    """Check and return a choice of faces: LARGEST, ALL, or a number from 1, counted from the left.

    Raises:
        KinecastError: it is none of these.
    """
    return face_choice(which, (LARGEST, ALL))


def chosen(faces: Sequence[Face], which: str | int) -> list[Face]:
    """Return the chosen faces, from left to right.

    Args:
        faces: what `find_faces` returned, at least one.
        which: as returned by `face_option`.

    Raises:
        KinecastError: a number larger than that of the faces.
    """
    which = face_option(which)
    if which == ALL:
        return list(faces)
    if which == LARGEST:
        return [max(faces, key=lambda face: face.size)]
    if int(which) > len(faces):
        count = "one face" if len(faces) == 1 else f"{len(faces)} faces"
        raise KinecastError(f"face: expected a number up to {len(faces)}, as the source shows {count}, found {which}")
    return [faces[int(which) - 1]]


def described(faces: Sequence[Face], picked: Sequence[Face]) -> str:
    """Return a line with the positions of the animated faces."""
    places = ", ".join(
        f"face {number} at x {face.centre[0]:.0f}, y {face.centre[1]:.0f}, {face.size:.0f} pixels"
        for number, face in enumerate(faces, 1)
        if any(face is other for other in picked)
    )
    others = len(faces) - len(picked)
    rest = f" ({others} more from left to right: --face N, or all)" if others else ""
    return f"source: {places}{rest}"


def doubts(faces: Sequence[Face], picked: Sequence[Face]) -> list[str]:
    """Return a line for each thing about the faces that move which will show in the result."""
    lines = []
    for number, face in enumerate(faces, 1):
        if not any(face is other for other in picked):
            continue
        which = f"source: face {number}"
        if face.size < _SHARP:
            lines.append(f"{which} is {face.size:.0f} pixels large: expect it soft; {_SHARP} or more are better")
        if (turn := _turn(face)) > _FRONT:
            lines.append(
                f"{which} is turned away by {turn:.0f} degrees: what it hides is guessed; up to {_FRONT:.0f} are better"
            )
        if float(face.blendshapes[_BLINKS].mean()) > _SHUT:
            lines.append(f"{which} has its eyes shut: eyes that open are guessed; choose a picture with open ones")
    return lines


def _turn(face: Face) -> float:
    """Return by how many degrees a face looks past the camera."""
    forward = face.pose[:3, 2].astype(np.float64)
    return float(np.degrees(np.arccos(np.clip(forward[2] / max(np.linalg.norm(forward), 1e-9), -1, 1))))
