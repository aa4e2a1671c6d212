"""Faces: where they are, their landmarks, expression and pose. Weights are bundled; nothing but torch is needed.

from kinecast.faces import Landmarker
faces = Landmarker("cpu").detect(frame)  # uint8 (H, W, 3)
faces[0].landmarks, faces[0].blendshapes, faces[0].pose
"""

from kinecast.faces.landmarker import LEAST_PRESENCE, Face, Landmarker
from kinecast.faces.squares import Square

__all__ = ["LEAST_PRESENCE", "Face", "Landmarker", "Square"]
