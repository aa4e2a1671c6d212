"""A receiver's pictures: which of a stream's reference pictures each frame is drawn from, and the frames drawn.

Notation: T frames.
"""

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kinecast.codec.decoder import DecodedFrame
from kinecast.codec.packets import REFERENCES, Header, MotionPacket, ReferenceChunk
from kinecast.codec.references import ChoiceUnit, Gallery
from kinecast.codec.stream import BodyUnit, PictureAssembler, open_picture
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.pictures import to_tensor
from kinecast.motion import Motion

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone, Source

_ENCODED = 4  # sources in mind: what a network made of the pictures drawn from last


class Drawer:
    """Draws frames as they come, each from the picture that the sender chose for it.

    Where a chosen picture did not come, or is damaged, the one before it stays in use.

    Args:
        backbone: draws.
        header: of the stream.
        path: of the stream, for messages.
    """

    def __init__(self, backbone: "Backbone", header: Header, path: Path) -> None:
        self._backbone, self._path = backbone, path
        self._size, self._smaller = header.frame_size, header.version >= REFERENCES
        self._assembler, self._gallery = PictureAssembler(), Gallery()
        self._sources: OrderedDict[int, tuple[bytes, Source]] = OrderedDict()
        self._frames: dict[int, tuple[bytes, Motion]] = {}  # the motion of pictures' own frames
        self._last: int | None = None  # the picture drawn from last
        self.pictures = self.damaged = 0  # whole ones, and those among them that cannot be drawn from

    @property
    def missed(self) -> int:
        """Choices of pictures that are not there."""
        return self._gallery.missed

    def start(self, units: Iterator[BodyUnit]) -> None:
        """Read a stream's units as far as the first picture.

        Raises:
            KinecastError: there is none before the motion, or it cannot be drawn from.
        """
        for unit in units:
            if isinstance(unit, MotionPacket):
                break
            self._take(unit)
            if self.pictures:
                number = self._gallery.of(0)
                assert number is not None
                self._source(number)
                return
        raise KinecastError(f"{self._path}: expected a whole reference picture before the motion, found none: {_AGAIN}")

    def watch(self, units: Iterable[BodyUnit]) -> Iterator[BodyUnit]:
        """Yield a stream's units, and keep what is said of pictures in passing."""
        for unit in units:
            self._take(unit)
            yield unit

    def _take(self, unit: BodyUnit) -> None:
        if isinstance(unit, ChoiceUnit) and self._smaller:
            self._gallery.choose(unit)
        elif isinstance(unit, ReferenceChunk):
            try:
                whole = self._assembler.push(unit)
            except KinecastError:  # chunks that contradict each other
                self.damaged += 1
                return
            # Until version 3 a later picture is passed over: all is drawn from the first.
            if whole is not None and (self._smaller or not self.pictures):
                self.pictures += 1
                self._gallery.came(whole[0], whole[2])

    @torch.inference_mode()
    def draw(self, frames: list[DecodedFrame]) -> Tensor:
        """Draw frames in order: (T, 3, H, W) in [0, 1], on the CPU."""
        drawn = []
        for number, group in groupby(frames, key=lambda frame: self._gallery.of(frame.number)):
            source = self._drawable(number)
            vectors = torch.stack([torch.from_numpy(frame.vector) for frame in group])
            motion = self._backbone.unflatten(vectors)
            motion = self._backbone.since(motion, self._own(number, motion[0])).to(self._backbone.device)
            drawn.append(self._backbone.animate(source.state, source.motion, motion).cpu())
        return torch.cat(drawn)

    def _own(self, number: int | None, first: Motion) -> Motion:
        """Return the motion of a picture's own frame: that of the first one drawn from it."""
        assert number is not None
        data, known = self._gallery.data(number), self._frames.get(number)
        if known is None or (data is not None and known[0] is not data):
            known = self._frames[number] = data or b"", first
        return known[1]

    def _drawable(self, number: int | None) -> "Source":
        """Return the source of a picture, or that of the one before it if this cannot be drawn from."""
        assert number is not None and self._last is not None  # after `start`
        try:
            return self._source(number)
        except KinecastError as error:
            self.damaged += 1
            warnings.warn(KinecastWarning(f"{self._path}: {error}"), stacklevel=2)
            kept = self._sources[self._last]
            self._sources[number] = self._gallery.data(number) or b"", kept[1]
            return kept[1]

    def _source(self, number: int) -> "Source":
        """Encode a picture, unless that was done."""
        data, known = self._gallery.data(number), self._sources.get(number)
        if known is None or (data is not None and known[0] is not data):
            picture = to_tensor(open_picture(data or b"", self._size, self._smaller)[None])
            known = data or b"", self._backbone.source(picture.to(self._backbone.device))
        self._sources[number] = known
        self._sources.move_to_end(number)
        if len(self._sources) > _ENCODED:
            self._sources.popitem(last=False)
        self._last = number
        return known[1]


_AGAIN = "copy it again"
