"""The mesh backbone: head pose and expression, from a face-landmark network, drive the source's own mesh.

    source ----> landmarks -> its own mesh, maps   (once)
    driving ---> landmarks -> pose, expression      (38 numbers per frame: the motion sent,
                                                      and 4 of background and shoulders)
    both ------> driven mesh -> drawn -> warped source and new pixels

A person's shape is the source's by construction: only the change of pose and expression comes from the driving frames.
Notation: T frames, K expression numbers. Coordinates: see `geometry`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.faces.landmarker import Landmarker
from kinecast.faces.squares import Square, around
from kinecast.faces.topology import LEFT_EYE_CORNER, RIGHT_EYE_CORNER
from kinecast.models.base import Backbone, Source, check_source
from kinecast.models.blocks.states import settings_beyond_tensors, sizes_of
from kinecast.models.mesh.controls import Controls
from kinecast.models.mesh.drawing import candidates, cover, draw, grid_of
from kinecast.models.mesh.following import POINTS, Follower, points_of
from kinecast.models.mesh.geometry import Pose, fit_pose, rotation_matrix, rotation_vector
from kinecast.models.mesh.network import MeshConfig, MeshNetwork, Rendered, SourceMaps, compose, resize, sample
from kinecast.models.mesh.retargeting import MeshRetargeter, in_place, most_alike
from kinecast.models.mesh.scene import NUMBERS as SCENE
from kinecast.models.mesh.scores import MouthScores
from kinecast.models.mesh.topology import Topology
from kinecast.models.pasting import Layer
from kinecast.models.transfer import Retargeter, Transfer
from kinecast.motion import Motion

_NEUTRAL_SIZE = 0.3  # of a head in half frames, where none is seen
_MOST_SHIFT, _MOST_SCALE = 0.5, 0.4  # of a head in a picture that stays: of half the picture, and as a logarithm


def _moved(flow: Tensor) -> Tensor:
    """Return how far from each place a flow (B, 2, h, w) reads."""
    return flow - grid_of(flow.shape[2], flow.shape[3], flow)


def _held(motion: Motion, source: Motion) -> Motion:
    """Limit the movement of heads (T) so that they stay inside the source's picture (1), since bodies do not follow.

    Small movements are almost unchanged; large ones saturate.
    """
    limited = {
        name: source.components[name] + most * ((motion.components[name] - source.components[name]) / most).tanh()
        for name, most in (("shift", _MOST_SHIFT), ("scale", _MOST_SCALE))
    }
    return replace(motion, components={**motion.components, **limited})


class Expression(nn.Module):
    """Principal components of facial motion in the head's own frame, with larger weights for lips, lids and irises.

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
        """Return the offsets (T, 478, 3) of K numbers (T, K)."""
        return (numbers @ self.basis.flatten(1)).view(-1, POINTS, 3) / self.weights


@dataclass(frozen=True)
class MeshSource:
    """A source, encoded: its `picture` (1, 3, H, W) in its own size, its `points` (1, 478, 3) there, and its maps."""

    picture: Tensor
    points: Tensor
    maps: SourceMaps


class Mesh(Backbone):
    """Face mesh behind the `Backbone` contract; one frame is [rotation 3, shift 2, scale 1, expression K].

    Rotation is a rotation vector in radians, shift the place of the head's origin, scale the logarithm of the head's
    size, expression the principal components of the points' offsets from the mean face. Frames may be of any size;
    pictures come out in the source's.
    """

    name = "mesh"
    needs_face = True
    any_size = True
    chunk = 8  # frames per batch

    def __init__(self, config: MeshConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        self.topology = Topology(torch.zeros(POINTS, 3))
        self.expression = Expression(config.expression)
        self.network = MeshNetwork(config)
        self._landmarker: Landmarker | None = None

    def settings(self) -> dict[str, Any]:
        """Return the network's input size if it is not the default; tensors determine all other settings."""
        inferred = {name: None for name in self.config.to_dict() if name != "size"}
        return settings_beyond_tensors(self.config, inferred)

    def motion_tensors(self) -> dict[str, Tensor]:
        """Return the mean face, the basis of expressions and its weights: the network only renders."""
        basis = self.expression
        return {
            "topology.mean": self.topology.mean,
            "expression.basis": basis.basis,
            "expression.weights": basis.weights,
        }

    @property
    def motion_dim(self) -> int:
        """D: six numbers of pose, K of expression, and four of the scene if the model has them."""
        return 6 + self.config.expression + SCENE * self.config.scene

    @property
    def landmarker(self) -> Landmarker:
        """The face landmarker, loaded at first use."""
        if self._landmarker is None:
            self._landmarker = Landmarker(str(self.device))
        return self._landmarker

    def rebuild(self, picture: Tensor, source: Tensor, driving: Tensor) -> Rendered:
        """Rebuild driving frames from pictures (B, 3, n, n) of the same people, with gradient: training's forward.

        `source` and `driving` (B, 478, 3) are the points in both; of the driving ones only the transmitted motion is
        used. Two more points, if there are any, are places in the background and on the shoulders.
        """
        source, anchors = source.split((POINTS, source.shape[1] - POINTS), dim=1)
        driving, moved_to = driving.split((POINTS, driving.shape[1] - POINTS), dim=1)
        scene = (moved_to - anchors)[..., :2].flatten(1) if self.config.scene else None
        with torch.autocast(picture.device.type, enabled=False):  # half precision would move the points
            own, pose = fit_pose(source, self.topology.mean), fit_pose(driving, self.topology.mean)
            shape = own.undo(source)
            change = self.expression.project(pose.undo(driving) - shape)
            half = picture.shape[-1] // 2
            still = draw(source, source, self.topology, half)
            moved = draw(source, pose.place(shape + self.expression.offsets(change)), self.topology, half)
            flows, prior = candidates(moved, own, pose, self.topology, scene)
        return self.network(self.network.encode(picture, still), moved, flows, prior)

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Find the motion of one face in successive frames (T, 3, H, W) in [0, 1]: the largest of the first.

        A frame without a face is not valid, and holds the motion before it, or what comes first after it.

        Raises:
            KinecastError: no face in any of the frames.
        """
        return self.follow()(frames).held()

    def neutral(self) -> Motion:
        """Return the motion (1) of the mean face in the middle of a picture, seen from the front."""
        return Motion(self.name, self.motion_of(self._neutral_points()))

    def _neutral_points(self) -> Tensor:
        turned, shift = torch.eye(3, device=self.device)[None], torch.zeros(1, 3, device=self.device)
        return Pose(turned, shift, shift[:, 0] + _NEUTRAL_SIZE).place(self.topology.mean[None])

    def follow(self, smooth: float | None = None) -> Callable[[Tensor], Motion]:
        """Return `detect` for successive frames of one clip, which remembers where the face was.

        It does not raise where there is no face: frames before the first have the motion of `neutral`.

        Args:
            smooth: frames per second of the clip, to filter the landmarks by (`OneEuro`).
        """
        return Follower(self, smooth)

    @torch.inference_mode()
    def warm_up(self) -> Motion:
        """Run every part once on a grey picture, as if the mean face were in it; returns that face's motion."""
        picture = torch.full((1, 3, *self.frame_size), 0.5, device=self.device)
        self.landmarker.detect(picture[0])
        face = self._neutral_points()
        self.landmarker.look([picture[0]], [Square(self.frame_size[1] / 2, self.frame_size[0] / 2, self.frame_size[0])])
        motion = Motion(self.name, self.motion_of(face), frame_size=self.frame_size)
        self.animate(self.encode(picture, face), motion, motion)
        return motion

    @torch.inference_mode()
    def rehearse(self) -> Callable[[int], Tensor]:
        """Return what draws frame i of three of a mean face that turns, on smooth colours; no engine finds the face."""
        colours = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0))
        picture = F.interpolate(colours, size=self.frame_size, mode="bicubic").clamp(0, 1).to(self.device)
        own = self.neutral()
        turned = own.components["rotation"] + torch.tensor([[0.1, 0.2, 0.0]], device=self.device)
        motions = [own.components["rotation"].lerp(turned, share) for share in (0.0, 0.5, 1.0)]
        clip = [replace(own, components={**own.components, "rotation": rotation}) for rotation in motions]
        state = self.encode(picture, self._neutral_points())
        return lambda i: self.animate(state, own, clip[i % len(clip)])

    def motion_of(self, points: Tensor) -> dict[str, Tensor]:
        """Reduce points (T, 478, 3) to the components of motion."""
        pose = fit_pose(points, self.topology.mean)
        expression = self.expression.project(pose.undo(points) - self.topology.mean)
        scene = {"scene": points.new_zeros(len(points), SCENE)} if self.config.scene else {}
        return pose.components() | {"expression": expression} | scene

    def points_of_motion(self, motion: Motion) -> Tensor:
        """Return the points (T, 478, 3) of the mean face that moves so: `motion_of` of them is the motion.

        The head's depth is not part of motion: its origin lies in the picture's plane.
        """
        parts = {name: part.to(self.device) for name, part in motion.components.items()}
        pose = Pose.of_motion(parts, torch.zeros_like(parts["scale"]))
        return pose.place(self.topology.mean + self.expression.offsets(parts["expression"]))

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> MeshSource:
        """Find the largest face in one picture (1, 3, H, W) in [0, 1] and encode it.

        Raises:
            KinecastError: no face in it.
        """
        check_source(image, 1)
        faces = self.landmarker.detect(image[0])
        if not faces:
            raise KinecastError("source: expected a face, found none: choose a picture that shows one from the front")
        return self._encode_near(image, faces[0].square)

    def _encode_near(self, image: Tensor, square: Square) -> MeshSource:
        (face,) = self.landmarker.look([image[0]], [square])
        return self.encode(image, points_of(face.landmarks, *image.shape[2:]).to(self.device))

    @torch.inference_mode()
    def source(self, picture: Tensor, landmarks: np.ndarray | None = None) -> Source:
        """Encode a square picture (1, 3, n, n) in [0, 1] of any size: its largest face, or the one of `landmarks`.

        Raises:
            KinecastError: it is not square, or shows no face.
        """
        check_source(picture, 1)
        height, width = picture.shape[2:]
        if height != width:
            raise KinecastError(f"source: expected a square picture, found {width}x{height} (width x height): cut it")
        picture = picture.to(self.device)
        if landmarks is None:
            state = self.encode_source(picture)
        else:
            points = landmarks[:, :2].astype(np.float64)
            square = around(points, points[RIGHT_EYE_CORNER], points[LEFT_EYE_CORNER])
            state = self._encode_near(picture, square)
        return Source(picture, Motion(self.name, self.motion_of(state.points), frame_size=self.frame_size), state)

    def encode(self, image: Tensor, points: Tensor) -> MeshSource:
        """Encode a picture (1, 3, H, W) whose points (1, 478, 3) are known."""
        size = self.config.size
        drawing = draw(points, points, self.topology, size // 2)
        return MeshSource(image, points, self.network.encode(resize(image, size), drawing))

    @torch.inference_mode()
    def animate(self, state: MeshSource, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1], in the source's size."""
        return self._frames(state, source_motion, driving_motion, state.picture)

    @torch.inference_mode()
    def render(self, source: Source, motion: Motion, size: int | None = None) -> Tensor:
        """Animate a source by absolute motion: frames (T, 3, n, n) in [0, 1], `size` n or the source's.

        Pixels are read from the source at its own resolution; only new content is rendered small and enlarged.
        """
        side = size or source.picture.shape[-1]
        picture = resize(source.picture, side) if side < source.picture.shape[-1] else source.picture
        return self._frames(source.state, source.motion, motion.to(self.device), picture, side)

    def _frames(
        self, state: MeshSource, source: Motion, driving: Motion, picture: Tensor, side: int | None = None
    ) -> Tensor:
        """Render frames of `side` pixels, or of the picture's own size."""
        self._check_pair(source, driving)
        side = side or picture.shape[-1]
        frames = []
        for start in range(0, len(driving), self.chunk):
            rendered = self._drawn(state, source, driving[start : start + self.chunk])[0]
            if side == self.config.size:
                frames.append(rendered.frames.clamp(0, 1))
                continue
            # The network's own picture is small; what it only moves is read from the source in its own size.
            flow = grid_of(side, side, rendered.flow) + resize(_moved(rendered.flow), side)
            warped = sample(picture.expand(len(flow), -1, -1, -1), flow)
            frames.append(compose(warped, rendered.pixels, rendered.mask, rendered.light).clamp(0, 1))
        return torch.cat(frames)

    @torch.inference_mode()
    def layer(self, source: Source, motion: Motion) -> Layer:
        """Animate a source with absolute motion: the changes of its picture, around the head and what moves with it."""
        self._check_pair(source.motion, motion)
        motion = _held(motion.to(self.device), source.motion)
        layers = []
        for start in range(0, len(motion), self.chunk):
            rendered, own, pose = self._drawn(source.state, source.motion, motion[start : start + self.chunk])
            moved = _moved(rendered.flow)
            share = cover(moved, own, pose, self.topology)
            layers.append(Layer(moved, rendered.pixels, rendered.mask, rendered.light, share))
        return Layer.joined(layers)

    def _drawn(self, state: MeshSource, source: Motion, driving: Motion) -> tuple[Rendered, Pose, Pose]:
        """Render frames in the network's own size; returns also the source's pose and the driven ones, (T,) both."""
        there, change = driving.components, driving.components["expression"] - source.components["expression"]
        count = len(driving)
        own = fit_pose(state.points, self.topology.mean)
        shape = own.undo(state.points) + self.expression.offsets(change)
        pose = Pose.of_motion(there, own.shift[:, 2:].expand(count, 1))
        own = Pose(*(part.expand(count, *part.shape[1:]) for part in own))
        drawing = draw(state.points.expand(count, -1, -1), pose.place(shape), self.topology, self.config.size // 2)
        scene = None
        if self.config.scene:
            scene = self._with_scene(driving).components["scene"] - self._with_scene(source).components["scene"]
        flows, prior = candidates(drawing, own, pose, self.topology, scene)
        return self.network(state.maps, drawing, flows, prior), own, pose

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
        return in_place(replace(driving, components=components), src)

    def since(self, motion: Motion, reference: Motion) -> Motion:
        """Count the movement of background and shoulders from `reference` (1) on: there they have not moved."""
        if "scene" not in motion.components or "scene" not in reference.components:
            return motion
        moved = motion.components["scene"] - reference.components["scene"]
        return replace(motion, components={**motion.components, "scene": moved})

    def check_transfer(self, options: Transfer) -> None:
        """Accept all options."""

    def reference(self, source: Motion, driving: Motion) -> int:
        """Return the frame that is most like the source and the least of an expression: see `most_alike`."""
        self._check_pair(source, driving)
        return most_alike(self.controls(), source.to("cpu"), driving.to("cpu"))

    def controls(self) -> Controls:
        """Return how its expression opens lips and lids, and smiles."""
        return Controls.of(self.topology.mean, self.expression.weights, self.expression.basis)

    def retarget(
        self, source: Motion, initial: Motion, options: Transfer | None = None, adapt_scale: bool | None = None
    ) -> Retargeter:
        """Return what applies successive frames of a driving motion to a source: see `MeshRetargeter`."""
        self._check_pair(source, initial)
        controls = self.controls()
        adapt = True if adapt_scale is None else adapt_scale
        scores = MouthScores(self.topology.mean, self.expression.basis / self.expression.weights, controls)
        return MeshRetargeter(controls, scores, source.to("cpu"), initial.to("cpu"), adapt, options or Transfer())

    def _check_motion(self, motion: Motion) -> None:
        """Check as every backbone does; motion without the scene is of one that does not move."""
        super()._check_motion(self._with_scene(motion))

    def _with_scene(self, motion: Motion) -> Motion:
        if not self.config.scene or motion.backbone != self.name or "scene" in motion.components:
            return motion
        none = motion.components["shift"].new_zeros(len(motion), SCENE)
        return replace(motion, components={**motion.components, "scene": none})

    def unflatten(self, vectors: Tensor) -> Motion:
        """Return the motion of vectors (T, D); those that end before the scene are of one that does not move."""
        if self.config.scene and vectors.shape[1] == self.motion_dim - SCENE:
            vectors = F.pad(vectors, (0, SCENE))
        return super().unflatten(vectors)

    def _template(self) -> Motion:
        widths = {"rotation": 3, "shift": 2, "scale": 1, "expression": self.config.expression}
        if self.config.scene:
            widths["scene"] = SCENE
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
