"""Key pictures: a clip's frames that are sent as further references where what the receiver draws is too far off.

The sender draws what its receiver will see, a few times a second, and compares it with the true frame at a quarter of
its size. A frame becomes a picture when the error has grown by a bound beyond that of the picture in use, and the
budget has room for one; no frame is drawn from a picture of a later one. Once a stretch of ten seconds is known, its
pictures are coded as well as what it may cost allows.

Notation: D numbers per frame.
"""

import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, features
from torch import Tensor

from kinecast.codec.packets import CHUNK, ReferenceChunk, split_picture
from kinecast.codec.references import MAX_NUMBER, RECENT, ChoiceUnit
from kinecast.codec.schedule import Distance
from kinecast.codec.stream import open_picture
from kinecast.errors import KinecastError
from kinecast.media.pictures import to_tensor

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone, Source

STRETCH = 10.0  # seconds over which a budget is kept
LOOKS = 4  # a second, at what the receiver sees
_SMALL = 4  # frames are compared at a quarter of their size, where a shift of an edge by a pixel is not yet seen
_ONE = 250  # bytes, of 256x256: up to this a stretch has one picture, beyond it more of them, each larger
_BETTER = 0.95  # of the error: another picture is chosen, or sent, for less than that
_GROWN, _LEAST = 0.1, 0.1  # the bound: this share of the error just after a picture, and so many grey levels, more
_LAST = 0.5  # seconds before the end in which no picture is worth its bits
_LEFT = 0.01  # of the bytes, that are not worth coding pictures once more
_PAUSE = 1.0  # seconds after a picture that would not have helped
_FEW, _MORE = 300, 800  # bytes, and those of 256x256, below which a smaller picture may be the better one
_CHOICE, _CHUNK = 9, 11  # bytes of a choice, and of a chunk beside its data, about


@dataclass
class Reference:
    """A picture: of frame `first`, its true pixels, how it is coded, and what the network made of that."""

    number: int
    first: int
    pixels: np.ndarray | None  # (H, W, 3) uint8, until its code is final
    data: bytes
    mime: str
    source: "Source"
    vector: np.ndarray  # (D,) of its frame
    floor: float = 0.0  # error at its own frame, grey levels

    @property
    def size(self) -> int:
        """Bytes of its chunks."""
        return _chunked(self.data, self.mime, self.number)


@dataclass
class KeyPictures:
    """Chooses the pictures of one clip.

    Args:
        backbone: draws.
        shown: (T, D) vectors that the receiver shows.
        present: (T,) whether frames show something.
        edges: (T + 1,) seconds between which frames are shown.
        size: bytes that all pictures may take.
        distance: between two vectors: of several pictures the nearest is tried.
    """

    backbone: "Backbone"
    shown: np.ndarray
    present: np.ndarray
    edges: np.ndarray
    size: float
    distance: Distance
    pictures: list[Reference] = field(default_factory=list)
    choices: list[ChoiceUnit] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)  # at each look, grey levels

    def __post_init__(self) -> None:
        self.opening = int(self.present.argmax())
        self._seconds = self.edges[-1] - self.edges[0]
        self._stretches = max(1, round(self._seconds / STRETCH))
        area = self.backbone.frame_size[0] * self.backbone.frame_size[1] / 256**2
        one, share = _ONE * area, self.size / self._stretches
        self._one = max(min(share, one * max(share / one, 1) ** 0.5), 1.0)  # bytes of a picture, before the last word
        self._stride = max(1, round(len(self.shown) / self._seconds / LOOKS))
        self._current: Reference | None = None
        self._spent = 0  # bytes, of final pictures and choices
        self._pause = 0.0

    def walk(self, frames: Iterable[Tensor]) -> None:
        """Look at the clip's frames (3, H, W) in [0, 1], in turn."""
        stretch = 0
        for i, frame in enumerate(frames):
            now = self._stretch(i)
            if now != stretch:
                self._settle(now / self._stretches)
                stretch = now
            if i == self.opening:
                self._current = self._coded(i, frame)
                assert self._current is not None
                self.pictures.append(self._current)
            elif i > self.opening and self.present[i] and (i - self.opening) % self._stride == 0:
                self._look(i, frame)
        self._settle(1.0)

    def units(self, until: int) -> Iterator[ReferenceChunk | ChoiceUnit]:
        """Yield what belongs before a packet whose frames are below `until`: pictures after the first, and choices."""
        while self._given < len(self.choices) and self.choices[self._given].first < until:
            unit = self.choices[self._given]
            self._given += 1
            for picture in self.pictures[1:]:
                if picture.first == unit.first and picture.number == unit.picture:
                    yield from split_picture(picture.data, picture.mime, picture.number)
            yield unit

    _given = 0

    def _stretch(self, frame: int) -> int:
        return min(int((self.edges[frame] - self.edges[0]) / self._seconds * self._stretches), self._stretches - 1)

    def _bank(self, frame: int) -> float:
        """Return the bytes that may be spent at a frame: those of a picture at once, the rest as time goes on."""
        share, stretch = self.size / self._stretches, self._stretch(frame)
        passed = (self.edges[frame] - self.edges[0]) / self._seconds * self._stretches - stretch
        lead = min(self._one / share, 1)
        open_ = sum(picture.size + _CHOICE for picture in self.pictures if picture.pixels is not None)
        return share * (stretch + lead + (1 - lead) * passed) - self._spent - open_

    @torch.inference_mode()
    def _error(self, reference: Reference, vector: np.ndarray, small: Tensor) -> float:
        """Return how far what is drawn is from the true frame, both small: mean of grey levels."""
        both = self.backbone.unflatten(torch.from_numpy(np.stack([vector, reference.vector])))
        motion = self.backbone.since(both[0], both[1]).to(self.backbone.device)
        drawn = self.backbone.animate(reference.source.state, reference.source.motion, motion)
        return float((_shrunk(drawn) - small).abs().mean()) * 255

    def _look(self, i: int, frame: Tensor) -> None:
        current, vector = self._current, self.shown[i]
        assert current is not None
        small = _shrunk(frame[None].to(self.backbone.device))
        error = self._error(current, vector, small)
        kept = self.pictures[-RECENT:]
        nearest = min(kept, key=lambda each: self.distance(vector, each.vector))
        if nearest is not current:
            other = self._error(nearest, vector, small)
            if other < _BETTER * error:
                self._choose(i, nearest)
                current, error = nearest, other
        full = self._bank(i) / self._one
        bound = current.floor * (1 + _GROWN / max(full, 1)) + _LEAST
        time = self.edges[i]
        if full >= 1 and error > bound and time >= self._pause and self.edges[-1] - time >= _LAST:
            new = self._coded(i, frame, self._bank(i))
            if new is not None and new.floor < _BETTER * error:
                self.pictures.append(new)
                self._choose(i, new)
                error = new.floor
            else:
                self._pause = time + _PAUSE
        self.errors.append(error)

    def _choose(self, frame: int, reference: Reference) -> None:
        self._current = reference
        self.choices.append(ChoiceUnit(frame, reference.number))
        if reference.first != frame:
            self._spent += _CHOICE

    def _coded(self, i: int, frame: Tensor, most: float = math.inf) -> Reference | None:
        """Code a frame as a picture of the usual size, larger where it shows nothing to draw from.

        Returns:
            None where it shows nothing in `most` bytes either.
        """
        pixels = (frame.permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        number = len(self.pictures) & MAX_NUMBER
        coded = drawable(
            pixels, self._one, self._source, lambda data, mime: _chunked(data, mime, number) + _CHOICE <= most
        )
        if coded is None:
            return None
        reference = Reference(number, i, pixels, *coded, self.shown[i])
        reference.floor = self._error(reference, self.shown[i], _shrunk(frame[None].to(self.backbone.device)))
        return reference

    def _source(self, data: bytes) -> "Source":
        return source_of(self.backbone, data)

    def _settle(self, share: float) -> None:
        """Code the open pictures as well as `share` of all bytes allows: they will not change any more.

        They get equal parts at first; what some leave goes to the others.
        """
        pending = [picture for picture in self.pictures if picture.pixels is not None]
        total = share * self.size - self._spent
        for k, picture in enumerate(pending):
            self._recode(picture, (total - sum(map(self._cost, pending[:k]))) / (len(pending) - k))
        for picture in pending:
            left = total - sum(map(self._cost, pending))
            if left > _LEFT * total:
                self._recode(picture, self._cost(picture) + left)
        for picture in pending:
            picture.pixels = None
            self._spent += self._cost(picture)

    def _cost(self, picture: Reference) -> int:
        """Return the bytes of a picture, and of the choice of it."""
        return picture.size + (_CHOICE if picture is not self.pictures[0] else 0)

    def _recode(self, picture: Reference, cost: float) -> None:
        """Code a picture anew for a cost, if it can be drawn from then and is better."""
        assert picture.pixels is not None
        room = cost - (self._cost(picture) - picture.size)
        data, mime = code_to_size(picture.pixels, int(room - _CHUNK * (1 + max(room, 0) // CHUNK)))
        if len(data) <= len(picture.data):
            return
        try:
            picture.source, picture.data, picture.mime = self._source(data), data, mime
        except KinecastError:
            return  # what was coded before shows a face


def _chunked(data: bytes, mime: str, number: int) -> int:
    """Return the bytes of a picture's chunks."""
    return sum(len(bytes(chunk)) for chunk in split_picture(data, mime, number))


def _shrunk(frames: Tensor) -> Tensor:
    return F.avg_pool2d(frames, _SMALL)


def source_of(backbone: "Backbone", data: bytes) -> "Source":
    """Return the source that a receiver makes of a coded picture.

    Raises:
        KinecastError: it shows nothing to draw from.
    """
    picture = open_picture(data, backbone.frame_size, smaller=True)
    return backbone.source(to_tensor(picture[None]).to(backbone.device))


def drawable(
    picture: np.ndarray,
    most: float,
    source_of: Callable[[bytes], "Source"],
    fits: Callable[[bytes, str], bool] = lambda data, mime: True,
) -> tuple[bytes, str, "Source"] | None:
    """Code a picture as well as `most` bytes allow, or in so many more that it shows what is drawn from.

    Args:
        picture: uint8 (H, W, 3).
        most: bytes that are tried first.
        source_of: from a code to its source; raises where it shows nothing.
        fits: whether a code and its mime type may be taken; larger ones are not tried after one that may not.

    Returns:
        The code, its mime type and its source; None where none that fits shows anything.

    Raises:
        KinecastError: it shows nothing in any size.
    """
    while True:
        data, mime = code_to_size(picture, int(most))
        if not fits(data, mime):
            return None
        try:
            return data, mime, source_of(data)
        except KinecastError:
            if most > picture.size:
                raise
            most *= 1.5


def code_to_size(picture: np.ndarray, most: int) -> tuple[bytes, str]:
    """Code a picture, uint8 (H, W, 3), as well as `most` bytes allow; returns bytes and mime type.

    It is an AVIF, or a WebP where Pillow lacks AVIF. Where few bytes are allowed it may be a WebP of half or a quarter
    of the size, whichever of these is nearer to the picture; where none is small enough, the smallest.
    """
    image, area = Image.fromarray(picture), picture.shape[0] * picture.shape[1]
    kinds = ("AVIF" if features.check("avif") else "WEBP", 1), ("WEBP", 1), ("WEBP", 2), ("WEBP", 4)
    found: list[tuple[float, bytes, str]] = []
    smallest: tuple[bytes, str] | None = None
    for form, by in kinds:
        if found and most >= _FEW + _MORE * area / 256**2:
            break
        size = image.width // by, image.height // by
        small = image if by == 1 else image.resize(size, Image.Resampling.LANCZOS)
        data, mime = _best(small, form, most), f"image/{form.lower()}"
        if smallest is None or len(data) < len(smallest[0]):
            smallest = data, mime
        if len(data) <= most:
            shown = open_picture(data, picture.shape[:2], smaller=True)
            found.append((float(np.square(shown.astype(np.float32) - picture).mean()), data, mime))
    if found:
        return min(found, key=lambda each: each[0])[1:]
    assert smallest is not None
    return smallest


def _best(image: Image.Image, form: str, most: int) -> bytes:
    """Return the best code of at most `most` bytes, or the worst if none is."""
    low, high = 0, 100
    best = _code(image, form, low)
    while len(best) <= most and low < high:
        middle = (low + high + 1) // 2
        data = _code(image, form, middle)
        if len(data) <= most:
            best, low = data, middle
        else:
            high = middle - 1
    return best


def _code(image: Image.Image, form: str, quality: int) -> bytes:
    out = io.BytesIO()
    if form == "AVIF":
        image.save(out, form, quality=quality, speed=6, max_threads=1)
    else:
        image.save(out, form, quality=quality, method=6)
    return out.getvalue()
