"""Frames of levels to messages, each in the fewest bits that the standard allows, and back.

Notation: D numbers per frame.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kinecast.codec.gfv.layouts import FrameCoder
from kinecast.codec.gfv.message import GfvMessage
from kinecast.codec.gfv.naming import Sender
from kinecast.codec.gfv.references import References, Values
from kinecast.codec.quantizer import Layout


class GfvEncoder:
    """Codes frames one at a time; the first belongs to the base picture.

    >>> encoder = GfvEncoder(Layout.fomm(2))
    >>> encoder.push(np.zeros(12, int)).hex()
    'e2109f340c08102040810204'
    """

    def __init__(self, layout: Layout, sender: Sender | None = None) -> None:
        self._coder, self._references = FrameCoder(layout), References()
        self._sender = sender

    def push(self, levels: np.ndarray, count: int = 0, sure: bool = True) -> bytes:
        """Return the message payload of a frame's levels (D,); `sure` is False for low confidence.

        `count` is above 0 for further frames of one coded picture, which start from the frame before instead of the
        base picture.

        Raises:
            KinecastError: a coordinate outside of [-1, 1], or a rotation that a matrix cannot represent.
        """
        message = replace(self._coder.exact_message(levels), low_confidence=not sure)
        if self._references.base_message is None:
            message = replace(message, base=True, network=None if self._sender is None else self._sender.network())
        else:
            message = replace(message, count=count)
        payload, shortest = min(((bytes(way), way) for way in self._ways(message)), key=lambda each: len(each[0]))
        self._references.take(shortest)
        return payload

    def _ways(self, message: GfvMessage) -> Iterator[GfvMessage]:
        """Yield the ways to write a message: absolute values, or differences where possible."""
        yield message
        for points, matrices in ((True, True), (True, False), (False, True)):
            changed = self._references.predicted(message, points, matrices)
            if changed is not None:
                yield changed


@dataclass(frozen=True)
class GfvFrame:
    """A message, and its values with differences resolved."""

    message: GfvMessage
    values: Values


class GfvDecoder:
    """Reads messages one at a time, of one face, that of the first base picture. Others are skipped."""

    def __init__(self) -> None:
        self._references = References()

    @property
    def base(self) -> GfvMessage | None:
        """The last message of a base picture."""
        return self._references.base_message

    def push(self, payload: bytes) -> GfvFrame | None:
        """Read a message; None if it is of another face or precedes any base picture.

        Raises:
            KinecastError: it is damaged.
        """
        message = GfvMessage.parse(payload, self.base)
        if self.base is None and not message.base or self.base is not None and message.id != self.base.id:
            return None
        return GfvFrame(message, self._references.take(message))
