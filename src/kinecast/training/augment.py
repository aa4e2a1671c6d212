"""Augmentation of training pairs, with the same random change for both frames of a pair."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.faces.topology import mirrored


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; 0 (or False) disables one.

    `flip` mirrors with probability 1/2; `brightness`, `contrast` and `saturation` scale by 1 +- the range; `hue`
    rotates colours about the grey axis by +- the range in turns; `zoom`, `shift` (fractions of the frame) and `turn`
    (radians) transform the frame, reflecting at its border.
    """

    flip: bool = True
    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.1
    zoom: float = 0.0
    shift: float = 0.0
    turn: float = 0.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation", "hue", "zoom", "shift", "turn"):
            if not 0 <= getattr(self, name) < 1:
                raise KinecastError(f"augmentation: expected {name} in [0, 1), found {getattr(self, name)}")

    def apply(self, source: Tensor, driving: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Change pairs (B, 3, H, W) in [0, 1]; return source, driving and the target, which is the driving frame.

        `generator` is of the CPU wherever the frames are, so that a run is the same on every device.
        """
        return self.apply_to_faces(source, driving, None, generator)[:3]

    def apply_to_faces(
        self, source: Tensor, driving: Tensor, points: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Change pairs as `apply`, and with them the landmarks (B, 2, 478, 3) of both, x and y from -1 to 1."""
        batch, device = len(source), source.device

        def draw(spread: float) -> Tensor:
            return ((2 * torch.rand(batch, generator=generator) - 1) * spread).to(device)

        frames = torch.stack([source, driving], dim=1)
        if self.flip:
            flipped = (torch.rand(batch, generator=generator) < 0.5).to(device)
            frames = torch.where(flipped[:, None, None, None, None], frames.flip(-1), frames)
            if points is not None:
                points = torch.where(flipped[:, None, None, None], mirror_landmarks(points), points)
        if self.zoom or self.shift or self.turn:
            zoom = 1 + draw(self.zoom)
            theta = _placement(zoom, draw(self.turn), draw(2 * self.shift), draw(2 * self.shift))
            frames = _move(frames, theta)
            if points is not None:
                points = _move_points(points, theta, zoom)
        matrix = _colour_matrix(draw(self.saturation), draw(self.hue))
        frames = torch.einsum("bij,bnjhw->bnihw", matrix, frames)
        contrast, brightness = (1 + draw(s)[:, None, None, None, None] for s in (self.contrast, self.brightness))
        frames = (((frames - 0.5) * contrast + 0.5) * brightness).clamp(0, 1)
        return frames[:, 0], frames[:, 1], frames[:, 1], points


def _placement(zoom: Tensor, turn: Tensor, shift_x: Tensor, shift_y: Tensor) -> Tensor:
    """Return the affine maps (B, 2, 3) from positions in the changed frames to the originals."""
    cos, sin = turn.cos() / zoom, turn.sin() / zoom
    return torch.stack([torch.stack([cos, -sin, shift_x], dim=1), torch.stack([sin, cos, shift_y], dim=1)], dim=1)


def mirror_landmarks(points: Tensor) -> Tensor:
    """Return the landmarks (..., 478, 3) of the mirror image, about x = 0; further points keep their places in line."""
    other_side = torch.from_numpy(mirrored()).to(points.device)
    other_side = torch.cat((other_side, torch.arange(len(other_side), points.shape[-2], device=points.device)))
    return points[..., other_side, :] * points.new_tensor([-1, 1, 1])


def _move_points(points: Tensor, theta: Tensor, zoom: Tensor) -> Tensor:
    places = (points[..., :2] - theta[:, None, None, :, 2]) @ torch.linalg.inv(theta[:, None, :, :2]).mT
    return torch.cat([places, points[..., 2:] * zoom[:, None, None, None]], dim=-1)


def _move(frames: Tensor, theta: Tensor) -> Tensor:
    stacked = frames.flatten(1, 2)
    grid = F.affine_grid(theta, list(stacked.shape), align_corners=False)
    return F.grid_sample(stacked, grid, padding_mode="reflection", align_corners=False).view_as(frames)


def _colour_matrix(saturation: Tensor, hue: Tensor) -> Tensor:
    """Return (B, 3, 3): a rotation about the grey axis (Rodrigues' formula) after a mix with the grey mean."""
    grey = hue.new_full((3, 3), 1 / 3)
    axis = hue.new_tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / 3**0.5
    eye = torch.eye(3, device=hue.device)
    angle = (2 * torch.pi * hue)[:, None, None]
    rotation = angle.cos() * eye + (1 - angle.cos()) * grey + angle.sin() * axis
    amount = (1 + saturation)[:, None, None]
    return rotation @ (amount * eye + (1 - amount) * grey)
