"""FOMM behind the contract of a backbone. Notation: B batch, T frames, K keypoints."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.models.blocks.layers import invert_2x2, multiply_2x2
from kinecast.models.blocks.points import comparable, size_ratio
from kinecast.models.blocks.states import completed, settings_beyond_tensors
from kinecast.models.fomm.config import FOMMConfig
from kinecast.models.fomm.network import Keypoints, KPDetector, OcclusionAwareGenerator, SourceState
from kinecast.models.fomm.sizes import infer_config
from kinecast.motion import Motion


class FOMM(Backbone):
    """FOMM behind the `Backbone` contract; the flat layout of one frame is [x y j11 j12 j21 j22] K times."""

    name = "fomm"
    chunk = 8  # frames per forward pass: bounds memory; more would not be faster on a CPU

    def __init__(self, config: FOMMConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        self.kp_detector = KPDetector(config)
        self.generator = OcclusionAwareGenerator(config)

    @property
    def motion_dim(self) -> int:
        """D: 6 K with Jacobians, 2 K without."""
        return self.config.num_keypoints * (6 if self.config.estimate_jacobian else 2)

    def reconstruct(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Keypoints, Keypoints]:
        """Reconstruct driving frames (B, 3, H, W) from sources of the same clips, with gradient: training's forward.

        Returns the prediction, the driving and the source keypoints.
        """
        both = self.kp_detector(torch.cat([source, driving]))
        values, jacobians = both.value.chunk(2), (None, None) if both.jacobian is None else both.jacobian.chunk(2)
        kp_source, kp_driving = (Keypoints(v, j) for v, j in zip(values, jacobians, strict=True))
        prediction, _ = self.generator(source, kp_driving, kp_source)
        return prediction, kp_driving, kp_source

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Detect keypoints in frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        found = [self.find(chunk) for chunk in frames.split(self.chunk)]
        components = {"value": torch.cat([kp.value for kp in found])}
        if self.config.estimate_jacobian:
            components["jacobian"] = torch.cat([kp.jacobian for kp in found if kp.jacobian is not None])
        return Motion(self.name, components, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        return self.encode(image)

    @torch.inference_mode()
    def animate(self, state: SourceState, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1]."""
        self._check_pair(source_motion, driving_motion)
        source = _keypoints(source_motion)
        frames = []
        for start in range(0, len(driving_motion), self.chunk):
            driving = _keypoints(driving_motion[start : start + self.chunk])
            frames.append(self.draw(state, source, driving))
        return torch.cat(frames)

    def find(self, frames: Tensor) -> Keypoints:
        """Return the keypoints of frames (B, 3, H, W)."""
        return self.kp_detector(frames)

    def encode(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W)."""
        return self.generator.encode(image)

    def draw(self, state: SourceState, source: Keypoints, driving: Keypoints) -> Tensor:
        """Return frames (B, 3, H, W) of the source by the keypoints of B frames."""
        motion = self.generator.dense_motion_network(state.small_image, driving, source)
        return self.generator.decode(state, motion)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return v = s (v_d - v_d0) + v_source and J = (J_d J_d0^-1) J_source, section 3.4; s from hull areas."""
        src, drv, ini = _keypoints(source), _keypoints(driving), _keypoints(initial)
        scale = size_ratio(src.value, ini.value) if adapt_scale else 1.0
        components = {"value": scale * (drv.value - ini.value) + src.value}
        if drv.jacobian is not None and ini.jacobian is not None and src.jacobian is not None:
            change = multiply_2x2(drv.jacobian, invert_2x2(ini.jacobian))
            components["jacobian"] = multiply_2x2(change, src.jacobian)
        return replace(driving, components=components)

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return whether the keypoints of both poses span comparable areas."""
        return comparable(source.components["value"], initial.components["value"])

    def settings(self) -> dict[str, Any]:
        """Return the config's values that tensors do not determine, where they differ from the published ones."""
        return settings_beyond_tensors(self.config, infer_config(self.state_dict()))

    def _template(self) -> Motion:
        count = self.config.num_keypoints
        components = {"value": torch.zeros(0, count, 2)}
        if self.config.estimate_jacobian:
            components["jacobian"] = torch.zeros(0, count, 2, 2)
        return Motion(self.name, components, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "FOMM":
        """Build from tensors named `kp_detector.*` and `generator.*`, all sizes inferred from them.

        `extras` are the config's keys that tensors do not determine (frame_size, temperature, ...).
        """
        config = FOMMConfig.from_dict(completed(extras or {}, infer_config(state)))
        model = cls(config)
        model.load_state_dict(dict(state))
        return model.eval()


def _keypoints(motion: Motion) -> Keypoints:
    return Keypoints(motion.components["value"], motion.components.get("jacobian"))
