"""The motion of one face in successive frames, and of what is around it."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from kinecast.faces.landmarker import Face
from kinecast.faces.tracking import OneEuro, Tracker
from kinecast.models.base import check_frames
from kinecast.models.mesh.scene import SceneTracker
from kinecast.motion import Motion, concatenate

if TYPE_CHECKING:
    from kinecast.models.mesh.model import Mesh

POINTS = 478


def points_of(landmarks: np.ndarray, height: int, width: int) -> Tensor:
    """Return landmarks (478, 3) in pixels as points (1, 478, 3) from -1 to 1 along the longer side."""
    scale = 2 / max(height, width)
    middle = torch.tensor([width / 2, height / 2, 0.0])
    return (torch.from_numpy(landmarks).float() * scale - middle * scale)[None]


class Follower:
    """Detects the motion of one face frame by frame; before the first face, that of the mean face in the middle."""

    def __init__(self, model: "Mesh", smooth: float | None) -> None:
        smoothing = None if smooth is None else OneEuro(smooth)
        self.model, self.tracker = model, Tracker(model.landmarker, "nearest", smoothing)
        self.last = model.neutral()  # of the last frame with a face
        self.faces: list[Face | None] = []  # of the last frames
        self.scene = SceneTracker() if model.config.scene else None

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Motion:
        """Return the motion in the next frames (T, 3, H, W)."""
        check_frames(frames, 1)
        height, width = frames.shape[2:]
        faces = self.faces = [self.tracker(frame) for frame in frames]
        points = [points_of(face.landmarks, height, width) for face in faces if face is not None]
        known = [self.last]
        if points:
            components = self.model.motion_of(torch.cat(points).to(self.model.device))
            if self.scene is not None:
                shown = [frame for frame, face in zip(frames, faces, strict=True) if face is not None]
                found = [self.scene(frame, each[0]) for frame, each in zip(shown, points, strict=True)]
                components["scene"] = torch.stack(found).to(self.model.device)
            known.append(Motion(self.model.name, components))
        motion = concatenate(known)
        self.last = motion[len(motion) - 1]
        valid = torch.tensor([face is not None for face in faces])
        index = valid.cumsum(dim=0)
        components = {name: numbers[index] for name, numbers in motion.components.items()}
        return Motion(self.model.name, components, frame_size=(height, width), valid=valid)
