"""A FOMM whose convolutions an engine runs; the motion algebra between them is here, in float32.

The same function as `kinecast.models.fomm`, in fewer passes over memory: an affine candidate motion is two numbers a
pixel from one matrix product, a Gaussian heatmap is an outer product of two lines, and warping, resizing and hiding
are one weighted gather of feature rows.

Notation: B frames at once, K keypoints, h x w the size that dense motion works at, h' x w' that of the features.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kinecast.errors import KinecastError
from kinecast.models.base import Backbone, check_frames, check_source
from kinecast.models.blocks.layers import coordinate_grid, invert_2x2, multiply_2x2, transform_points
from kinecast.models.fomm import FOMM, KPDetector, OcclusionAwareGenerator, SourceState, warp_pixels
from kinecast.motion import Motion
from kinecast.runtime.parts import Parts

_PIXELS = 4 * 128 * 128  # in one pass: small frames share the cost of a call, large ones gain nothing but memory


class EngineFOMM(Backbone):
    """A FOMM behind the `Backbone` contract, run by `parts`.

    `engine` and `precision` are names, `reason` says why they were chosen. Weights, and so `state_dict`, are those of
    the wrapped model: an engine does not change a model's identity.
    """

    def __init__(self, model: FOMM, parts: Parts, engine: str, precision: str, reason: str = "requested") -> None:
        super().__init__()
        self.name = model.name
        self.config = model.config
        self.frame_size = model.frame_size
        self.model = model
        self.parts = parts
        self.engine, self.precision, self.reason = engine, precision, reason
        height, width = model.frame_size
        self.chunk = max(1, _PIXELS // (height * width))  # frames in one pass

    @property
    def motion_dim(self) -> int:
        """D of the model."""
        return self.model.motion_dim

    @property
    def kp_detector(self) -> KPDetector:
        """The model's own detector: what reads parts by name need not know whether an engine runs them."""
        return self.model.kp_detector

    @property
    def generator(self) -> OcclusionAwareGenerator:
        """The model's own generator."""
        return self.model.generator

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the model's own tensors under their own names."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Refuse: the parts are made of the weights and would not follow."""
        raise KinecastError("an engine's weights are fixed: load them into the model and build the engine again")

    @torch.inference_mode()
    def detect(self, frames: Tensor) -> Motion:
        """Detect keypoints in frames (T, 3, H, W) in [0, 1]."""
        check_frames(frames, self.config.frame_multiple)
        found = [self.parts.detector(_channels_last(chunk)) for chunk in frames.split(self.chunk)]
        names = ("value", "jacobian")[: len(found[0])]
        components = {name: torch.cat([part[i] for part in found]) for i, name in enumerate(names)}
        return Motion(self.name, components, frame_size=(frames.shape[2], frames.shape[3]))

    @torch.inference_mode()
    def encode_source(self, image: Tensor) -> SourceState:
        """Encode one source image (1, 3, H, W) in [0, 1]."""
        check_source(image, self.config.frame_multiple)
        small = self.model.generator.dense_motion_network.down(image)
        features = self.parts.encoder(_channels_last(image))
        passed = image if self.config.generator.pass_through else None
        return SourceState(small, tuple(_channels_last(maps) for maps in features), passed)

    @torch.inference_mode()
    def animate(self, state: SourceState, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate the source by absolute motion: frames (T, 3, H, W) in [0, 1]."""
        self._check_pair(source_motion, driving_motion)
        chunks = range(0, len(driving_motion), self.chunk)
        return torch.cat(
            [self._animate(state, source_motion, driving_motion[start : start + self.chunk]) for start in chunks]
        )

    def _animate(self, state: SourceState, source: Motion, driving: Motion) -> Tensor:
        maps, affine = self._candidates(state.small_image, source, driving)
        mask, *occlusion = self.parts.hourglass(maps)
        height, width = mask.shape[2:]
        weights = F.softmax(mask, dim=1).flatten(2)
        # sum_k m_k (A_k z + c_k) = (sum_k m_k [A_k c_k]) (z 1): six numbers a pixel, then two
        mixed = torch.einsum("bkz,bkij->bijz", weights, affine)
        flow = (mixed * _homogeneous(height, width, mixed)).sum(dim=2).view(-1, 2, height, width)
        seen = torch.sigmoid(occlusion[0]) if occlusion else None
        corners = self.config.align_corners
        warped = [warp_features(features, flow, seen, corners) for features in state.features]
        if state.image is not None:
            warped.append(warp_pixels(state.image, flow))
        return self.parts.renderer(*warped)

    def _candidates(self, small_source: Tensor, source: Motion, driving: Motion) -> tuple[Tensor, Tensor]:
        """Return the hourglass' input (B, 4(K+1), h, w) and all candidates as affine maps (B, K+1, 2, 3)."""
        height, width = small_source.shape[2:]
        points, anchor = driving.components["value"], source.components["value"]
        batch, count = points.shape[:2]
        affine = points.new_zeros(batch, count + 1, 2, 3)
        affine[:, :, 0, 0] = affine[:, :, 1, 1] = 1
        if "jacobian" in driving.components:
            affine[:, 1:, :, :2] = multiply_2x2(
                source.components["jacobian"], invert_2x2(driving.components["jacobian"])
            )
        affine[:, 1:, :, 2] = anchor - transform_points(affine[:, 1:, :, :2], points)
        grid = affine.flatten(0, 2) @ _homogeneous(height, width, affine)
        grid = grid.view(1, batch * (count + 1), 2, height * width).permute(0, 1, 3, 2)
        warped = F.grid_sample(
            small_source,
            grid.reshape(1, -1, width, 2),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=self.config.align_corners,
        ).view(3, batch, count + 1, height, width)
        maps = points.new_zeros(batch, count + 1, 4, height, width)
        maps[:, 1:, 0] = self._heatmaps(points, height, width) - self._heatmaps(anchor, height, width)
        maps[:, :, 1:] = warped.permute(1, 2, 0, 3, 4)
        return _channels_last(maps.flatten(1, 2)), affine

    def _heatmaps(self, points: Tensor, height: int, width: int) -> Tensor:
        """Return exp(-|z - p|^2 / (2 variance)), (B, K, h, w), as an outer product."""
        grid = coordinate_grid(height, width, points)
        factor = -0.5 / self.config.kp_variance
        row = torch.exp(factor * (grid[0, :, 0] - points[..., :1]).square())
        column = torch.exp(factor * (grid[:, 0, 1] - points[..., 1:]).square())
        return column.unsqueeze(3) * row.unsqueeze(2)

    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Return what the model returns."""
        return self.model.relative_motion(source, driving, initial, adapt_scale)

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return what the model returns."""
        return self.model.adapts_scale(source, initial)

    def settings(self) -> dict[str, Any]:
        """Return what the model returns: an engine does not change it."""
        return self.model.settings()

    def _template(self) -> Motion:
        return self.model._template()


def warp_features(features: Tensor, flow: Tensor, seen: Tensor | None, align_corners: bool = False) -> Tensor:
    """Warp the features (1, C, h', w') of one source by flows (B, 2, h, w) and hide them by `seen` (B, 1, h, w).

    Flow and map are resized to h' x w'. Bilinear with zeros outside: each output row is a weighted sum of four rows of
    C features, so the map multiplies four weights and not C features. With `align_corners` -1 and 1 are the outermost
    pixels' centres, otherwise their edges.
    """
    channels, height, width = features.shape[1:]
    guide = flow if seen is None else torch.cat([flow, seen], dim=1)
    if guide.shape[2:] != features.shape[2:]:
        guide = F.interpolate(guide, size=(height, width), mode="bilinear", align_corners=False)
    if align_corners:
        x, y = (guide[:, 0] + 1) * ((width - 1) / 2), (guide[:, 1] + 1) * ((height - 1) / 2)
    else:
        x, y = (guide[:, 0] + 1) * (width / 2) - 0.5, (guide[:, 1] + 1) * (height / 2) - 0.5
    left, top = x.floor(), y.floor()
    x, y = x - left, y - top
    places, weights = [], []
    for across, horizontal in ((left, 1 - x), (left + 1, x)):
        inside = (across >= 0) & (across <= width - 1)
        for down, vertical in ((top, 1 - y), (top + 1, y)):
            places.append(down.clamp(0, height - 1) * width + across.clamp(0, width - 1))
            weights.append(horizontal * vertical * (inside & (down >= 0) & (down <= height - 1)))
    weight = torch.stack(weights, dim=-1)
    if seen is not None:
        weight = weight * guide[:, 2].unsqueeze(-1)
    table = features.permute(0, 2, 3, 1).reshape(height * width, channels)
    index = torch.stack(places, dim=-1).view(-1, 4).to(torch.int32)
    rows = F.embedding_bag(index, table, mode="sum", per_sample_weights=weight.view(-1, 4))
    return rows.view(len(flow), height, width, channels).permute(0, 3, 1, 2)


def _homogeneous(height: int, width: int, like: Tensor) -> Tensor:
    """Return x, y and 1 of each pixel, (3, h w)."""
    grid = coordinate_grid(height, width, like).flatten(0, 1).T
    return torch.cat([grid, torch.ones_like(grid[:1])])


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
