"""TPS behind the contract of a backbone. Notation: B batch, T frames, K splines, N = 5 K points."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.models.blocks.points import comparable, size_ratio
from kinecast.models.blocks.states import completed, settings_beyond_tensors
from kinecast.models.tps.config import POINTS, TPSConfig
from kinecast.models.tps.network import (
    AVDNetwork,
    BackgroundPredictor,
    DenseMotion,
    DenseMotionNetwork,
    InpaintingNetwork,
    KPDetector,
    SourceState,
)
from kinecast.models.tps.sizes import infer_config
from kinecast.motion import Motion


class TPS(Backbone):
    """TPS behind the `Backbone` contract; the flat layout of one frame is [x y] of 5 points of each spline."""

    name = "tps"
    chunk = 4  # frames per forward pass: bounds memory

    def __init__(self, config: TPSConfig) -> None:
        super().__init__()
        self.config = config
        self.frame_size = config.frame_size
        self.kp_detector = KPDetector(config)
        self.bg_predictor = None if config.background is None else BackgroundPredictor(config.background)
        self.dense_motion_network = DenseMotionNetwork(config)
        self.inpainting_network = InpaintingNetwork(config.inpainting)
        self.avd_network = None if config.avd is None else AVDNetwork(config.avd, self.motion_dim)

    @property
    def motion_dim(self) -> int:
        """D: 10 numbers per spline."""
        return self.config.num_splines * POINTS * 2

    def forward(
        self,
        source: Tensor,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None = None,
        dropout: float = 0,
    ) -> tuple[Tensor, DenseMotion]:
        """Animate sources (B, 3, H, W) as published, without caching, with gradient."""
        state = self._encode(source)
        motion = self.dense_motion_network(state.small_image, kp_driving, kp_source, background, dropout)
        return self.inpainting_network.decode(state, motion), motion

    def reconstruct(
        self, source: Tensor, driving: Tensor, dropout: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor, DenseMotion]:
        """Reconstruct driving frames (B, 3, H, W) from sources of the same clips, with gradient: training's forward.

        Returns the prediction, the driving and the source points, and the dense motion.
        """
        kp_source, kp_driving = self.kp_detector(torch.cat([source, driving])).chunk(2)
        background = None if self.bg_predictor is None else self.bg_predictor(source, driving)
        prediction, motion = self.forward(source, kp_driving, kp_source, background, dropout)
        return prediction, kp_driving, kp_source, motion

    def _encode(self, source: Tensor) -> SourceState:
        return SourceState(source, self.dense_motion_network.down(source), self.inpainting_network.encode(source))

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Detect points in frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        points = torch.cat([self.kp_detector(chunk) for chunk in frames.split(self.chunk)])
        return Motion(self.name, {"value": points}, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def background(self, source: Tensor, frames: Tensor) -> Tensor:
        """Return the background's affine motion (T, 3, 3) from frames (T, 3, H, W) to a source (1, 3, H, W).

        Raises:
            KinecastError: these weights have no background predictor.
        """
        if self.bg_predictor is None:
            raise KinecastError("expected weights with bg_predictor, found none: drop --background")
        check_frames(frames, self.config.frame_multiple)
        parts = frames.split(self.chunk)
        return torch.cat([self.bg_predictor(source.expand_as(part), part) for part in parts])

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        return self._encode(image)

    @torch.inference_mode()
    def animate(
        self,
        state: SourceState,
        source_motion: Motion,
        driving_motion: Motion,
        background: Tensor | None = None,
    ) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1].

        `background` (T, 3, 3) is the result of `background` for the same frames; without it the background is still.
        """
        self._check_pair(source_motion, driving_motion)
        source, frames = source_motion.components["value"], []
        for start in range(0, len(driving_motion), self.chunk):
            chunk = slice(start, start + self.chunk)
            affine = None if background is None else background[chunk]
            points = driving_motion.components["value"][chunk]
            motion = self.dense_motion_network(state.small_image, points, source, affine)
            frames.append(self.inpainting_network.decode(state, motion))
        return torch.cat(frames)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return p = s (p_d - p_d0) + p_source; s from hull areas."""
        src, drv, ini = (motion.components["value"] for motion in (source, driving, initial))
        scale = size_ratio(src, ini) if adapt_scale else 1.0
        return replace(driving, components={"value": scale * (drv - ini) + src})

    @torch.inference_mode()
    def avd_motion(self, source: Motion, driving: Motion) -> Motion:
        """Return motion with the shape of `source` (1) and the pose of each frame of `driving` (T): the AVD mode.

        Raises:
            KinecastError: these weights have no AVD network.
        """
        if self.avd_network is None:
            raise KinecastError("AVD mode: expected weights with avd_network, found none: use relative motion")
        points = driving.components["value"]
        shape = source.components["value"].expand_as(points)
        return replace(driving, components={"value": self.avd_network(shape, points)})

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return whether the keypoints of both poses span comparable areas."""
        return comparable(source.components["value"], initial.components["value"])

    def settings(self) -> dict[str, Any]:
        """Return the config's values that tensors do not determine, where they differ from the published ones."""
        return settings_beyond_tensors(self.config, infer_config(self.state_dict()))

    def _template(self) -> Motion:
        points = torch.zeros(0, self.config.num_splines * POINTS, 2)
        return Motion(self.name, {"value": points}, frame_size=self.frame_size)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "TPS":
        """Build from tensors named by part (`kp_detector.*`, ...), all sizes inferred from them.

        `extras` are the config's keys that tensors do not determine (frame_size, kp_variance).
        """
        model = cls(TPSConfig.from_dict(completed(extras or {}, infer_config(state))))
        model.load_state_dict(dict(state))
        return model.eval()
