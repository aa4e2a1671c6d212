"""The contract of a motion-transfer backbone. A is any number of frames; sizes come from the weights."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kinecast.errors import KinecastError
from kinecast.models.pasting import Layer
from kinecast.models.transfer import Retargeter, Transfer
from kinecast.motion import Motion


@dataclass(frozen=True)
class Source:
    """A picture to animate, with the backbone's encoding of it.

    Attributes:
        picture: (1, 3, H, W) in [0, 1], at its own resolution.
        motion: of length 1, its pose and expression.
        state: the backbone's encoding of it, private to the backbone.
    """

    picture: Tensor
    motion: Motion
    state: Any


class Backbone(nn.Module, ABC):
    """A detector that reduces frames to motion, and a generator that animates one picture with motion.

    `name` is its name in `kinecast.motion_spec`; `frame_size` is the (height, width) of training.
    """

    name: str
    frame_size: tuple[int, int]
    config: Any  # with to_dict(): all sizes, as plain values
    any_size = False  # whether frames may have any size and shape, since a face is detected in them
    engine = "eager"  # how it runs, see `kinecast.runtime`
    precision = "exact"
    reason = "as loaded"  # why this engine was chosen
    needs_face = False  # whether frames without a face have no motion, see `Motion.valid`

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "Backbone":
        """Build from tensors, from which sizes are inferred, and the remaining keys of the config.

        Raises:
            KinecastError: this class wraps another model and is not stored in files.
        """
        raise KinecastError(f"{cls.__name__}: expected a backbone that is stored in files: load the model it runs")

    @property
    @abstractmethod
    def motion_dim(self) -> int:
        """D, the motion numbers per frame."""

    @abstractmethod
    def detect(self, frames: Tensor) -> Motion:
        """Reduce frames (T, 3, H, W) in [0, 1] to their motion of length T."""

    def follow(self, smooth: float | None = None) -> Callable[[Tensor], Motion]:
        """Return `detect` for successive frames of one clip, which may use earlier frames.

        If it needs a face, frames without one are marked in `Motion.valid`, even if there is none at all.

        Args:
            smooth: frames per second of the clip, to filter its jitter.

        Raises:
            KinecastError: `smooth` with a backbone that does not track a face.
        """
        if smooth is not None:
            raise KinecastError(f"smooth: expected a backbone that follows a face, found {self.name}: use mesh")
        return lambda frames: self.detect(frames)

    def warm_up(self) -> Motion:
        """Run every part once, since the first run is slow; returns some motion (1) for further warm-up."""
        picture = torch.rand(1, 3, *self.frame_size, generator=torch.Generator().manual_seed(0)).to(self.device)
        motion = self.detect(picture)
        self.animate(self.encode_source(picture), motion, motion)
        return motion

    def rehearse(self) -> Callable[[int], Tensor]:
        """Return what renders frame i of a made-up clip of three, (1, 3, H, W), with all that a frame takes in use.

        Engines are compared by it (`kinecast.runtime.auto`).
        """
        height, width = self.frame_size
        coarse = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(0))
        wide = F.interpolate(coarse, size=(height, width + 16), mode="bicubic", align_corners=False).clamp(0, 1)
        frames = torch.cat([wide[..., shift : shift + width] for shift in (0, 4, 8)]).to(self.device)
        state, own = self.encode_source(frames[:1]), self.detect(frames[:1])
        return lambda i: self.animate(state, own, self.detect(frames[i % len(frames)][None]))

    @abstractmethod
    def encode_source(self, image: Tensor) -> Any:
        """Precompute everything that depends on the source image (1, 3, H, W) in [0, 1] alone."""

    @abstractmethod
    def animate(self, state: Any, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate an encoded source: frames (T, 3, H, W) in [0, 1], one for each frame of `driving_motion`."""

    def source(self, picture: Tensor, landmarks: np.ndarray | None = None) -> Source:
        """Encode a picture (1, 3, H, W) in [0, 1] of any size with the frames' aspect ratio.

        Args:
            picture: the picture to animate.
            landmarks: (478, 3) in pixels, of the face to animate, for a backbone that detects faces.

        Raises:
            KinecastError: another aspect ratio, or nothing in it that this backbone can animate.
        """
        check_source(picture, 1)
        height, width = picture.shape[2:]
        if height * self.frame_size[1] != width * self.frame_size[0]:
            raise KinecastError(
                f"source: expected a picture of the shape {self.frame_size[1]}x{self.frame_size[0]} (width x height), "
                f"found {width}x{height}: crop it"
            )
        picture = picture.to(self.device)
        seen = resized(picture, self.frame_size)
        return Source(picture, self.detect(seen), self.encode_source(seen))

    def render(self, source: Source, motion: Motion, size: int | None = None) -> Tensor:
        """Animate a source with absolute motion: frames (T, 3, h, w) in [0, 1], one for each of `motion`.

        Args:
            source: result of `source`.
            motion: T frames, on any device.
            size: the height of the frames in pixels; None takes the source's.

        Raises:
            KinecastError: motion of another backbone, or of no frames.
        """
        frames = self.animate(source.state, source.motion, motion.to(self.device))
        height, width = source.picture.shape[2:]
        return resized(frames, (height, width) if size is None else (size, round(size * width / height)))

    def layer(self, source: Source, motion: Motion) -> Layer:
        """Animate a source with motion: T frames as changes of its picture, for `kinecast.models.pasting.paint`.

        By default they replace all of it.

        Raises:
            KinecastError: as `render`.
        """
        return Layer.of_frames(self.animate(source.state, source.motion, motion.to(self.device)))

    @abstractmethod
    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Apply the change of `driving` (T) since `initial` (1) to the `source` (1) motion.

        With `adapt_scale` movements are scaled by the size of the source relative to `initial`.

        Raises:
            KinecastError: `adapt_scale` where `adapts_scale` is False.
        """

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return whether `relative_motion` can adapt the scale of these two poses (1 each).

        By default never: the motion has no size, or already the source's.
        """
        return False

    def check_transfer(self, options: Transfer) -> None:
        """Check that this backbone supports the options; by default only relative and absolute motion.

        Raises:
            KinecastError: it does not.
        """
        options.refuse(self.name)

    def reference(self, source: Motion, driving: Motion) -> int:
        """Return which frame of a driving clip (T), known beforehand, changes are counted from on a source (1).

        Here the first.
        """
        return 0

    def retarget(
        self, source: Motion, initial: Motion, options: Transfer | None = None, adapt_scale: bool | None = None
    ) -> Retargeter:
        """Return a function that applies successive frames of a driving motion to a source, causally.

        Args:
            source: the source's motion (1).
            initial: the driving frame (1) that changes are relative to.
            options: transfer options; relative by default.
            adapt_scale: as `relative_motion`; None where `adapts_scale` is True.

        Raises:
            KinecastError: an unsupported option; `adapt_scale` as in `relative_motion`.
        """
        options = options or Transfer()
        self.check_transfer(options)
        if options.mode == "absolute":
            return lambda driving: driving
        adapt = self.adapts_scale(source, initial) if adapt_scale is None else adapt_scale
        return lambda driving: self.relative_motion(source, driving, initial, adapt)

    def since(self, motion: Motion, reference: Motion) -> Motion:
        """Return motion (T) of a clip for a source that is the clip's frame with the motion `reference` (1).

        A receiver finds the source's motion in the picture alone. Where some numbers are of movement since another
        frame, they are counted from this one instead; here there are none.
        """
        return motion

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return config values that affect results but not tensors, where they differ from the published ones.

        Together with the tensors they identify the model (`codec.identity`).
        """

    def motion_tensors(self) -> dict[str, Tensor] | None:
        """Return the tensors, by name, that define the meaning of motion: `codec.stream_identity` is of these.

        None by default: motion is learned by the network, and means nothing to another.
        """
        return None

    @abstractmethod
    def _template(self) -> Motion:
        """Return an empty motion with this backbone's component shapes."""

    def flatten(self, motion: Motion) -> Tensor:
        """Return motion vectors (T, D), float32, in the flat layout of this backbone."""
        self._check_motion(motion)
        return motion.vectors()

    def _check_motion(self, motion: Motion) -> None:
        if motion.backbone != self.name or motion.dim != self.motion_dim:
            raise KinecastError(
                f"expected motion of {self.name} with {self.motion_dim} numbers per frame, "
                f"found {motion.backbone} with {motion.dim}: extract it with this model"
            )

    def _check_pair(self, source_motion: Motion, driving_motion: Motion) -> None:
        """Check the motion given to `animate`.

        Raises:
            KinecastError: motion of another backbone, or no frames.
        """
        self._check_motion(source_motion)
        self._check_motion(driving_motion)
        if len(driving_motion) < 1:
            raise KinecastError("driving motion: expected at least one frame, found none: use a clip with frames")

    def unflatten(self, vectors: Tensor) -> Motion:
        """Return the motion of `vectors` (T, D): the inverse of `flatten`."""
        return self._template().with_vectors(vectors)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Return frames (B, 3, H, W) in a size (height, width), averaged when shrinking."""
    if tuple(frames.shape[2:]) == size:
        return frames
    shrinks = size[0] < frames.shape[2]
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def check_frames(frames: Tensor, multiple: int) -> None:
    """Check a batch of pictures before it enters a network.

    Raises:
        KinecastError: not (B, 3, H, W) floating point, empty, or H or W not a multiple of `multiple`.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or not frames.is_floating_point():
        raise KinecastError(
            f"frames: expected a floating-point tensor (B, 3, H, W) in [0, 1], "
            f"found {str(frames.dtype).removeprefix('torch.')} {tuple(frames.shape)}"
        )
    if not frames.numel():
        raise KinecastError(f"frames: expected at least one with pixels, found {tuple(frames.shape)}: check the input")
    height, width = frames.shape[2:]
    if height % multiple or width % multiple:
        raise KinecastError(
            f"frames: expected height and width in multiples of {multiple} for these weights, found {height}x{width}: "
            "resize or crop them"
        )


def check_source(image: Tensor, multiple: int) -> None:
    """Check the picture to animate.

    Raises:
        KinecastError: as `check_frames`, or a batch of several.
    """
    check_frames(image, multiple)
    if len(image) != 1:
        raise KinecastError(f"source: expected one image (1, 3, H, W), found {len(image)}: animate one at a time")
