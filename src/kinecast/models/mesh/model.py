"""The mesh backbone: a head's pose and an expression, found by a face-landmark network, move the source's own mesh.

    source ----> landmarks -> its own mesh, maps   (once)
    driving ---> landmarks -> pose, expression      (38 numbers a frame: what travels)
    both ------> driven mesh -> drawn -> warped source and new pixels

A person's shape is the source's by construction: only the change of pose and expression comes from the driving frames.
Letters: T frames, K expression numbers. Coordinates: see `geometry`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.faces.landmarker import Landmarker
from kinecast.faces.squares import Square
from kinecast.faces.tracking import Tracker
from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.models.blocks.states import sizes_of, untold_settings
from kinecast.models.mesh.drawing import candidates, draw
from kinecast.models.mesh.geometry import Pose, fit_pose, rotation_matrix, rotation_vector
from kinecast.models.mesh.network import MeshConfig, MeshNetwork, Rendered, SourceMaps, compose, resize, sample
from kinecast.models.mesh.topology import Topology
from kinecast.motion import Motion, concatenate

POINTS = 478


def points_of(landmarks: np.ndarray, height: int, width: int) -> Tensor:
    """Return landmarks (478, 3) in pixels as points (1, 478, 3) from -1 to 1."""
    scale = torch.tensor([2 / width, 2 / height, 2 / width])
    return (torch.from_numpy(landmarks).float() * scale - torch.tensor([1.0, 1.0, 0.0]))[None]


class Expression(nn.Module):
    """Principal components of how faces move in the head's own frame; lips, lids and irises weigh more.

    `weights` (478, 3) are square roots of the points' weights, `basis` (K, 478, 3) is orthonormal in weighted points.
    """

    weights: Tensor
    basis: Tensor

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(POINTS, 3))
        self.register_buffer("basis", torch.zeros(numbers, POINTS, 3))

    def project(self, offsets: Tensor) -> Tensor:
        """Reduce offsets (T, 478, 3) of points to K numbers, (T, K)."""
        return (offsets * self.weights).flatten(1) @ self.basis.flatten(1).T

    def offsets(self, numbers: Tensor) -> Tensor:
        """Return the offsets (T, 478, 3) that K numbers (T, K) stand for."""
        return (numbers @ self.basis.flatten(1)).view(-1, POINTS, 3) / self.weights


@dataclass(frozen=True)
class MeshSource:
    """A source, encoded: its `picture` (1, 3, H, W) in its own size, its `points` (1, 478, 3) there, and its maps."""

    picture: Tensor
    points: Tensor
    maps: SourceMaps


class _Follower:
    """Finds the motion of one face, frame after frame."""

    def __init__(self, model: "Mesh") -> None:
        self.model, self.tracker = model, Tracker(model.landmarker, "nearest")
        self.last: Motion | None = None  # of the last frame with a face

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Motion:
        """Return the motion in the next frames (T, 3, H, W)."""
        check_frames(frames, 1)
        height, width = frames.shape[2:]
        faces = [self.tracker(frame) for frame in frames]
        points = [points_of(face.landmarks, height, width) for face in faces if face is not None]
        known = [] if self.last is None else [self.last]
        if points:
            components = self.model.motion_of(torch.cat(points).to(self.model.device))
            known.append(Motion(self.model.name, components, frame_size=(height, width)))
        if not known:
            raise KinecastError("expected a face in the frames, found none: show one, larger or more from the front")
        motion = concatenate(known)
        self.last = motion[len(motion) - 1]
        seen = torch.tensor([face is not None for face in faces]).cumsum(dim=0)
        # Before the first face of all its motion is shown; later the last one's, which is the first of `known`.
        index = (seen - 1).clamp(min=0) if len(known) == 1 and points else seen
        return replace(motion, components={name: numbers[index] for name, numbers in motion.components.items()})


class Mesh(Backbone):
    """Face mesh behind the `Backbone` contract; one frame is [rotation 3, shift 2, scale 1, expression K].

    Rotation is a rotation vector in radians, shift the place of the head's origin, scale the logarithm of the head's
    size, expression the principal components of the points' offsets from the mean face. Frames may be of any size;
    pictures come out in the source's.
    """

    name = "mesh"
    chunk = 8  # frames drawn together

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        self.topology = Topology(torch.zeros(POINTS, 3))
        self.expression = Expression(config.expression)
        self.network = MeshNetwork(config)
        self._landmarker: Landmarker | None = None

    def settings(self) -> dict[str, Any]:
        """Return the size that the network sees a picture in, unless it is the usual one: tensors tell all others."""
        told = {name: None for name in self.config.to_dict() if name != "size"}
        return untold_settings(self.config, told)

    @property
    def motion_dim(self) -> int:
        """D: six numbers of pose and K of expression."""
        return 6 + self.config.expression

    @property
    def landmarker(self) -> Landmarker:
        """What finds faces; loaded when first asked for."""
        if self._landmarker is None:
            self._landmarker = Landmarker(str(self.device))
        return self._landmarker

    def rebuild(self, picture: Tensor, source: Tensor, driving: Tensor) -> Rendered:
        """Rebuild driving frames from pictures (B, 3, n, n) of the same people, with gradient: training's forward.

        `source` and `driving` (B, 478, 3) are the points in both; of the driving ones only what travels is used.
        """
        with torch.autocast(picture.device.type, enabled=False):  # half precision would move the points
            own, pose = fit_pose(source, self.topology.mean), fit_pose(driving, self.topology.mean)
            shape = own.undo(source)
            change = self.expression.project(pose.undo(driving) - shape)
            half = picture.shape[-1] // 2
            still = draw(source, source, self.topology, half)
            moved = draw(source, pose.place(shape + self.expression.offsets(change)), self.topology, half)
            flows, prior = candidates(moved, own, pose, self.topology)
        return self.network(self.network.encode(picture, still), moved, flows, prior)

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Find the motion of one face in successive frames (T, 3, H, W) in [0, 1]: the largest of the first.

        A frame without a face has the motion before it, or what comes first after it.

        Raises:
            KinecastError: no face in any of the frames.
        """
        return self.follow()(frames)

    def follow(self) -> Callable[[Tensor], Motion]:
        """Return `detect` for successive frames of one clip, which remembers where the face was."""
        return _Follower(self)

    @torch.inference_mode()
    def warm_up(self) -> Motion:
        """Run every part once on a grey picture, as if the mean face were in it; returns that face's motion."""
        picture = torch.full((1, 3, *self.frame_size), 0.5, device=self.device)
        self.landmarker.detect(picture[0])
        turned, shift = torch.eye(3, device=self.device)[None], torch.zeros(1, 3, device=self.device)
        face = Pose(turned, shift, shift[:, 0] + 0.3).place(self.topology.mean[None])
        self.landmarker.look([picture[0]], [Square(self.frame_size[1] / 2, self.frame_size[0] / 2, self.frame_size[0])])
        motion = Motion(self.name, self.motion_of(face), frame_size=self.frame_size)
        self.animate(self.encode(picture, face), motion, motion)
        return motion

    def motion_of(self, points: Tensor) -> dict[str, Tensor]:
        """Reduce points (T, 478, 3) to the components of motion."""
        pose = fit_pose(points, self.topology.mean)
        return {
            "rotation": rotation_vector(pose.rotation),
            "shift": pose.shift[:, :2],
            "scale": pose.scale.log()[:, None],
            "expression": self.expression.project(pose.undo(points) - self.topology.mean),
        }

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> MeshSource:
        """Find the face in one picture (1, 3, H, W) in [0, 1] and encode it.

        Raises:
            KinecastError: no face in it.
        """
        check_source(image, 1)
        faces = self.landmarker.detect(image[0])
        if not faces:
            raise KinecastError("source: expected a face, found none: choose a picture that shows one from the front")
        (face,) = self.landmarker.look([image[0]], [faces[0].square])
        return self.encode(image, points_of(face.landmarks, *image.shape[2:]).to(self.device))

    def encode(self, image: Tensor, points: Tensor) -> MeshSource:
        """Encode a picture (1, 3, H, W) whose points (1, 478, 3) are known."""
        size = self.config.size
        drawing = draw(points, points, self.topology, size // 2)
        return MeshSource(image, points, self.network.encode(resize(image, size), drawing))

    @torch.inference_mode()
    def animate(self, state: MeshSource, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1], in the source's size."""
        self._check_pair(source_motion, driving_motion)
        parts = range(0, len(driving_motion), self.chunk)
        return torch.cat([self._render(state, source_motion, driving_motion[i : i + self.chunk]) for i in parts])

    def _render(self, state: MeshSource, source: Motion, driving: Motion) -> Tensor:
        there, change = driving.components, driving.components["expression"] - source.components["expression"]
        count = len(driving)
        own = fit_pose(state.points, self.topology.mean)
        shape = own.undo(state.points) + self.expression.offsets(change)
        depth = own.shift[:, 2:].expand(count, 1)
        pose = Pose(
            rotation_matrix(there["rotation"]), torch.cat((there["shift"], depth), dim=1), there["scale"][:, 0].exp()
        )
        own = Pose(*(part.expand(count, *part.shape[1:]) for part in own))
        drawing = draw(state.points.expand(count, -1, -1), pose.place(shape), self.topology, self.config.size // 2)
        rendered = self.network(state.maps, drawing, *candidates(drawing, own, pose, self.topology))
        side = state.picture.shape[-1]
        if side == self.config.size:
            return rendered.frames.clamp(0, 1)
        # The network's own picture is small; what it only moves is read from the source in its own size.
        warped = sample(state.picture.expand(count, -1, -1, -1), resize(rendered.flow, side))
        return compose(warped, rendered.pixels, rendered.mask, rendered.light).clamp(0, 1)

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return True: every pose has a size."""
        return True

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Change the source's motion as the driving's has changed since `initial`; `adapt_scale` scales shifts."""
        src, drv, ini = source.components, driving.components, initial.components
        turned = (
            rotation_matrix(drv["rotation"]) @ rotation_matrix(ini["rotation"]).mT @ rotation_matrix(src["rotation"])
        )
        ratio = (src["scale"] - ini["scale"]).exp() if adapt_scale else 1.0
        components = {
            "rotation": rotation_vector(turned),
            "shift": src["shift"] + (drv["shift"] - ini["shift"]) * ratio,
            "scale": src["scale"] + drv["scale"] - ini["scale"],
            "expression": src["expression"] + drv["expression"] - ini["expression"],
        }
        return replace(driving, components=components)

    def _template(self) -> Motion:
        widths = {"rotation": 3, "shift": 2, "scale": 1, "expression": self.config.expression}
        return Motion(self.name, {n: torch.zeros(0, w) for n, w in widths.items()}, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "Mesh":
        """Build from tensors and the config's keys."""
        with sizes_of("mesh"):
            numbers = len(state["expression.basis"])
        config = MeshConfig.from_dict({**(extras or {}), "expression": numbers})
        model = cls(config)
        model.load_state_dict(dict(state))
        return model.eval()
