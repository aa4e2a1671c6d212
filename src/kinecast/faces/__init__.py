"""Faces: detection, landmarks, expression and pose. Weights are bundled; only torch is needed.

from kinecast.faces import Landmarker, Tracker
faces = Landmarker("cpu").detect(frame)  # uint8 (H, W, 3)
faces[0].landmarks, faces[0].blendshapes, faces[0].pose
for face in Tracker(Landmarker("cpu")).follow(frames): ...  # one face through a clip, None where it is not seen
"""

from kinecast.faces.landmarker import LEAST_PRESENCE, Face, Landmarker
from kinecast.faces.squares import Square
from kinecast.faces.tracking import CHOICES, OneEuro, Tracker, choose, face_choice

__all__ = [
    "CHOICES",
    "LEAST_PRESENCE",
    "Face",
    "Landmarker",
    "OneEuro",
    "Square",
    "Tracker",
    "choose",
    "face_choice",
]
