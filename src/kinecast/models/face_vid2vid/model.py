"""face-vid2vid behind the contract of a backbone. Notation: B batch, T frames, K keypoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.models.blocks.head_pose import (
    HeadPose,
    HeadPoseEstimator,
    posed_keypoints,
    rotation_angles,
    rotation_matrix,
)
from kinecast.models.blocks.states import completed, settings_beyond_tensors
from kinecast.models.face_vid2vid.config import FaceVid2VidConfig
from kinecast.models.face_vid2vid.network import DenseMotion, Generator, KPDetector, SourceState
from kinecast.models.face_vid2vid.sizes import infer_config
from kinecast.motion import Motion


class FaceVid2Vid(Backbone):
    """face-vid2vid behind the `Backbone` contract; one frame is [dx dy dz] K times, yaw, pitch, roll, t_x, t_y, t_z."""

    name = "face-vid2vid"
    chunk = 2  # frames per forward pass: bounds memory, since volumes are large

    def __init__(self, config: FaceVid2VidConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        pose = config.head_pose
        self.kp_detector = KPDetector(config)
        self.he_estimator = HeadPoseEstimator(config.num_keypoints, pose.width, pose.bins, pose.blocks)
        self.generator = Generator(config)

    @property
    def motion_dim(self) -> int:
        """D: 3 K + 6."""
        return 3 * self.config.num_keypoints + 6

    def forward(self, source: Tensor, kp_driving: Tensor, kp_source: Tensor) -> tuple[Tensor, DenseMotion]:
        """Animate sources (B, 3, H, W) as published, without caching, with gradient; keypoints (B, K, 3)."""
        volume = self.generator.encode(source)
        dense = self.generator.dense_motion_network
        motion = dense(dense.compressed(volume), kp_driving, kp_source)
        return self.generator.decode(volume, motion), motion

    def reconstruct(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor, Tensor, HeadPose]:
        """Reconstruct driving frames (B, 3, H, W) from sources of the same clips, with gradient: training's forward.

        Returns the prediction, the driving and the source keypoints (B, K, 3), and the driving's pose.
        """
        canonical = self.kp_detector(source)
        pose = self.he_estimator(torch.cat([source, driving]))
        halves = zip(*(part.chunk(2) for part in pose), strict=True)
        pose_source, pose_driving = (HeadPose(*half) for half in halves)
        kp_source, kp_driving = posed_keypoints(canonical, pose_source), posed_keypoints(canonical, pose_driving)
        prediction, _ = self.forward(source, kp_driving, kp_source)
        return prediction, kp_driving, kp_source, pose_driving

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Estimate expression and head pose of frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        found = [self.he_estimator(chunk) for chunk in frames.split(self.chunk)]
        components = {name: torch.cat([getattr(pose, name) for pose in found]) for name in _COMPONENTS}
        return Motion(self.name, components, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        volume = self.generator.encode(image)
        return SourceState(self.kp_detector(image), volume, self.generator.dense_motion_network.compressed(volume))

    @torch.inference_mode()
    def animate(self, state: SourceState, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1]."""
        self._check_pair(source_motion, driving_motion)
        kp_source = posed_keypoints(state.canonical, _pose(source_motion))
        frames = []
        for start in range(0, len(driving_motion), self.chunk):
            kp_driving = posed_keypoints(state.canonical, _pose(driving_motion[start : start + self.chunk]))
            motion = self.generator.dense_motion_network(state.compressed, kp_driving, kp_source)
            frames.append(self.generator.decode(state.volume, motion))
        return torch.cat(frames)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return R = R_d R_d0^-1 R_source, and the change of expression and translation added to the source's.

        Raises:
            KinecastError: `adapt_scale`, since this motion moves the source's own keypoints and already has its size.
        """
        if adapt_scale:
            raise KinecastError(
                "adapt scale: expected a backbone whose motion has the driving's size, found face-vid2vid, which moves "
                "the source's own keypoints: drop --adapt-scale"
            )
        src, drv, ini = _pose(source), _pose(driving), _pose(initial)
        turned = (
            rotation_matrix(drv.rotation)
            @ rotation_matrix(ini.rotation).transpose(1, 2)
            @ rotation_matrix(src.rotation)
        )
        components = {
            "expression": drv.expression - ini.expression + src.expression,
            "rotation": rotation_angles(turned),
            "translation": drv.translation - ini.translation + src.translation,
        }
        return replace(driving, components=components)

    def settings(self) -> dict[str, Any]:
        """Return the config's values that tensors do not determine, where they differ from the published ones."""
        return settings_beyond_tensors(self.config, infer_config(self.state_dict()))

    def _template(self) -> Motion:
        components = {
            "expression": torch.zeros(0, self.config.num_keypoints, 3),
            "rotation": torch.zeros(0, 3),
            "translation": torch.zeros(0, 3),
        }
        return Motion(self.name, components, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "FaceVid2Vid":
        """Build from tensors named by part (`kp_detector.*`, ...), all sizes inferred from them.

        `extras` are the config's keys that tensors do not determine (frame_size, temperature, kp_variance).
        """
        model = cls(FaceVid2VidConfig.from_dict(completed(extras or {}, infer_config(state))))
        model.load_state_dict(dict(state))
        return model.eval()


_COMPONENTS = ("expression", "rotation", "translation")


def _pose(motion: Motion) -> HeadPose:
    return HeadPose(**{name: motion.components[name] for name in _COMPONENTS})
