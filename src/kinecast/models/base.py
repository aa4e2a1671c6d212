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
    """A picture that is animated, and what a backbone made of it.

    Attributes:
        picture: (1, 3, H, W) in [0, 1], at its own resolution.
        motion: of length 1, the pose and expression that it shows.
        state: what the backbone computed of it once; its own affair.
    """

    picture: Tensor
    motion: Motion
    state: Any


class Backbone(nn.Module, ABC):
    """A detector that reduces frames to motion, and a generator that animates one picture by motion.

    `name` is that of its motion in `kinecast.motion_spec`; `frame_size` is the (height, width) that the weights
    were trained at.
    """

    name: str
    frame_size: tuple[int, int]
    config: Any  # with to_dict(): all sizes, as plain values
    any_size = False  # whether frames may be of any size and shape, since a face is looked for in them
    engine = "eager"  # how it runs, see `kinecast.runtime`
    precision = "exact"
    reason = "as loaded"  # why this engine was taken
    needs_face = False  # whether frames without a face have no motion, see `Motion.valid`

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], extras: Mapping[str, Any] | None = None) -> "Backbone":
        """Build from tensors, of which sizes are inferred, and the config's keys that they do not tell.

        Raises:
            KinecastError: this class is not built so: it runs a model that is.
        """
        raise KinecastError(f"{cls.__name__}: expected a backbone that files hold: load the model that it runs")

    @property
    @abstractmethod
    def motion_dim(self) -> int:
        """D, the numbers of motion a frame."""

    @abstractmethod
    def detect(self, frames: Tensor) -> Motion:
        """Reduce frames (T, 3, H, W) in [0, 1] to their motion of length T."""

    def follow(self, smooth: float | None = None) -> Callable[[Tensor], Motion]:
        """Return `detect` for successive frames of one clip; a backbone may use what it saw in those before.

        Where it needs a face, frames without one are marked in `Motion.valid`, also if there is none at all.

        Args:
            smooth: frames per second of the clip, to filter what trembles in it.

        Raises:
            KinecastError: `smooth` of a backbone that does not follow a face.
        """
        if smooth is not None:
            raise KinecastError(f"smooth: expected a backbone that follows a face, found {self.name}: use mesh")
        return lambda frames: self.detect(frames)

    def warm_up(self) -> Motion:
        """Run every part once, since the first run is slow; returns some motion (1) to run other things on."""
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
        """Compute once whatever depends on the source image (1, 3, H, W) in [0, 1] alone."""

    @abstractmethod
    def animate(self, state: Any, source_motion: Motion, driving_motion: Motion) -> Tensor:
        """Animate an encoded source: frames (T, 3, H, W) in [0, 1], one for each frame of `driving_motion`."""

    def source(self, picture: Tensor, landmarks: np.ndarray | None = None) -> Source:
        """Encode a picture (1, 3, H, W) in [0, 1] of any size whose shape is that of the frames.

        Args:
            picture: what is animated.
            landmarks: (478, 3) in pixels, of the face that is meant, for a backbone that looks for faces: which of
                several it is.

        Raises:
            KinecastError: another shape, or nothing in it that this backbone can animate.
        """
        check_source(picture, 1)
        height, width = picture.shape[2:]
        if height * self.frame_size[1] != width * self.frame_size[0]:
            raise KinecastError(
                f"source: expected a picture of the shape {self.frame_size[1]}x{self.frame_size[0]} (width x height), "
                f"found {width}x{height}: cut it"
            )
        picture = picture.to(self.device)
        seen = resized(picture, self.frame_size)
        return Source(picture, self.detect(seen), self.encode_source(seen))

    def render(self, source: Source, motion: Motion, size: int | None = None) -> Tensor:
        """Animate a source by motion that is absolute: frames (T, 3, h, w) in [0, 1], one for each of `motion`.

        Args:
            source: what `source` returned.
            motion: T frames, on any device.
            size: the height of the frames in pixels; None takes the source's.

        Raises:
            KinecastError: motion of another backbone, or of no frames.
        """
        frames = self.animate(source.state, source.motion, motion.to(self.device))
        height, width = source.picture.shape[2:]
        return resized(frames, (height, width) if size is None else (size, round(size * width / height)))

    def layer(self, source: Source, motion: Motion) -> Layer:
        """Animate a source by motion: T frames as changes of its picture, for `kinecast.models.pasting.paint`.

        Here they replace all of it.

        Raises:
            KinecastError: as `render`.
        """
        return Layer.of_frames(self.animate(source.state, source.motion, motion.to(self.device)))

    @abstractmethod
    def relative_motion(self, source: Motion, driving: Motion, initial: Motion, adapt_scale: bool) -> Motion:
        """Apply the change of `driving` (T) since `initial` (1) to the `source` (1) motion.

        With `adapt_scale` movements are as large as the source is beside `initial`.

        Raises:
            KinecastError: `adapt_scale` where `adapts_scale` says that it cannot be.
        """

    def adapts_scale(self, source: Motion, initial: Motion) -> bool:
        """Return whether `relative_motion` can adapt the scale of these two poses (1 each).

        Here never: this motion has no size, or that of the source already.
        """
        return False

    def check_transfer(self, options: Transfer) -> None:
        """Check that this backbone has what is asked for; here nothing but relative and absolute motion.

        Raises:
            KinecastError: it has not.
        """
        options.refuse(self.name)

    def retarget(
        self, source: Motion, initial: Motion, options: Transfer | None = None, adapt_scale: bool | None = None
    ) -> Retargeter:
        """Return what applies successive frames of a driving motion to a source; it sees no later frame.

        Args:
            source: the source's motion (1).
            initial: the driving frame (1) that changes are counted from.
            options: what is asked for; relative by default.
            adapt_scale: as `relative_motion`; None where `adapts_scale` says that it can be.

        Raises:
            KinecastError: an option that this backbone does not have; `adapt_scale` as `relative_motion`.
        """
        options = options or Transfer()
        self.check_transfer(options)
        if options.mode == "absolute":
            return lambda driving: driving
        adapt = self.adapts_scale(source, initial) if adapt_scale is None else adapt_scale
        return lambda driving: self.relative_motion(source, driving, initial, adapt)

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Return what of the config decides results, leaves no trace in the tensors, and is not as published.

        With the tensors it makes up which model this is (`codec.identity`).
        """

    def motion_tensors(self) -> dict[str, Tensor] | None:
        """Return the tensors by name that define what the numbers of motion mean: `codec.stream_identity` is theirs.

        None, unless a backbone says otherwise: they are what the network finds, and mean nothing to another.
        """
        return None

    @abstractmethod
    def _template(self) -> Motion:
        """Return a motion of no frames that has this backbone's component shapes."""

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
        """Check what `animate` is given.

        Raises:
            KinecastError: motion of another backbone, or none to animate by.
        """
        self._check_motion(source_motion)
        self._check_motion(driving_motion)
        if len(driving_motion) < 1:
            raise KinecastError("driving motion: expected at least one frame, found none: use a clip with frames")

    def unflatten(self, vectors: Tensor) -> Motion:
        """Return the motion that `flatten` made `vectors` (T, D) of."""
        return self._template().with_vectors(vectors)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def resized(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Return frames (B, 3, H, W) in a size (height, width), averaged where they shrink."""
    if tuple(frames.shape[2:]) == size:
        return frames
    shrinks = size[0] < frames.shape[2]
    return F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=shrinks)


def check_frames(frames: Tensor, multiple: int) -> None:
    """Check a batch of pictures before a network sees it.

    Raises:
        KinecastError: not (B, 3, H, W) floating point, none or empty ones, or H or W not a multiple of `multiple`.
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
    """Check the one picture that is to be animated.

    Raises:
        KinecastError: as `check_frames`, or a batch of several.
    """
    check_frames(image, multiple)
    if len(image) != 1:
        raise KinecastError(f"source: expected one image (1, 3, H, W), found {len(image)}: animate one at a time")
