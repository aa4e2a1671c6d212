"""A picture, its animated heads, and the rendered frames.

Notation: T frames, H x W the picture.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kinecast.apps.portrait.crops import FRAMED, ROOMY, Crop, head_crop
from kinecast.faces import Face
from kinecast.media.framing import check_size, fit
from kinecast.media.pictures import side_by_side, to_tensor, to_uint8
from kinecast.models.base import Backbone, Source
from kinecast.models.pasting import paint
from kinecast.models.transfer import Retargeter, Transfer
from kinecast.motion import Motion

_PIXELS = 1 << 21  # frames per batch
_BATCH = 8


@dataclass(frozen=True)
class Actor:
    """An animated head: its crop and the encoded source."""

    crop: Crop
    source: Source


@dataclass(frozen=True)
class Stage:
    """The scene: the whole `picture` (H, W, 3), uint8, with animated actors, or their squares of `size` pixels.

    Squares stand side by side in the order of the actors.
    """

    backbone: Backbone
    picture: np.ndarray
    actors: Sequence[Actor]
    size: int | None = None

    def frames(
        self, motions: Iterable[Motion], initial: Motion | None, options: Transfer | None = None
    ) -> Iterator[np.ndarray]:
        """Yield frames, uint8, one for each of the motions' as they come.

        Args:
            motions: motion of the driving frames, in order.
            initial: frames to choose the reference of relative motion from, all of a clip that is known or else its
                first: each actor takes the one that suits it (`Backbone.reference`); None applies absolute motion.
            options: how relative motion is applied.
        """
        retargets = [self._retargeter(actor, initial, options or Transfer()) for actor in self.actors]
        for motion in motions:
            for start in range(0, len(motion), self._chunk):
                yield from self._shown(motion[start : start + self._chunk], retargets)

    @property
    def _chunk(self) -> int:
        side = self.size or 1  # layers have the network's size, whatever the picture's
        return max(min(_PIXELS // (side * side), _BATCH), 1)

    @torch.inference_mode()
    def _shown(self, motion: Motion, retargets: Sequence[Retargeter]) -> Iterator[np.ndarray]:
        driven = [retarget(motion) for retarget in retargets]
        if self.size is not None:
            drawn = [self._squares(actor, each) for actor, each in zip(self.actors, driven, strict=True)]
            yield from (
                side_by_side(squares) if len(squares) > 1 else squares[0] for squares in zip(*drawn, strict=True)
            )
            return
        layers = [self.backbone.layer(actor.source, each) for actor, each in zip(self.actors, driven, strict=True)]
        for i in range(len(motion)):
            frame = self.picture.copy()
            for actor, layer in zip(self.actors, layers, strict=True):
                paint(actor.source.picture, layer, i, actor.crop.fading, actor.crop.cut(frame))
            yield frame

    def _squares(self, actor: Actor, motion: Motion) -> np.ndarray:
        return to_uint8(self.backbone.render(actor.source, motion, self.size))

    def _retargeter(self, actor: Actor, initial: Motion | None, options: Transfer) -> Retargeter:
        """Return a function from driving motion to an actor's motion."""
        if initial is None:
            return lambda motion: motion
        own = actor.source.motion.to("cpu")
        return self.backbone.retarget(own, initial[self.backbone.reference(own, initial)], options)


def set_stage(
    backbone: Backbone, picture: np.ndarray, faces: Sequence[Face], size: int | None = None, relative: bool = True
) -> Stage:
    """Crop heads from a picture and encode them.

    Args:
        backbone: what animates.
        picture: (H, W, 3), uint8.
        faces: the faces to animate.
        size: side of squares to show instead of the whole picture.
        relative: whether only changes of motion are applied; otherwise heads are cropped as in driving clips.

    Raises:
        KinecastError: a size out of range, or nothing the backbone can animate.
    """
    check_size(size)
    actors = []
    for face in faces:
        crop = head_crop(face, (picture.shape[0], picture.shape[1]), ROOMY if relative else FRAMED)
        pixels, landmarks = crop.cut(picture), crop.landmarks(face)
        if size is not None and size < crop.side:  # with the same filter as clips
            pixels, landmarks = fit(pixels, (0, 0, crop.side, crop.side), (size, size)), landmarks * (size / crop.side)
        actors.append(Actor(crop, backbone.source(to_tensor(pixels), landmarks)))
    return Stage(backbone, picture, actors, size)
