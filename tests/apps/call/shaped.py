"""Two exchanges and a line of so many kilobits per second between them, in virtual time: packets queue, some are lost.

What a message costs is what it costs a real line: headers of IP, UDP, DTLS and SCTP, and an acknowledgement back.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from apps.call.ends import FakePeer, config, models
from apps.call.virtual_time import VirtualLoop
from kinecast.apps.call.config import CameraFrame, ShownFrame
from kinecast.apps.call.exchange import Exchange
from kinecast.apps.call.line import ACK, HEADERS

_AGAIN_S = 1.0  # until a lost message of the reliable channel is sent again


class Line:
    """One way: a queue of `queue` bytes before `kbps`, and a share of packets that are lost behind it."""

    def __init__(self, loop: VirtualLoop, kbps: float, loss: float = 0.0, queue: int = 4000, seed: int = 0) -> None:
        self.loop, self.kbps, self.loss, self.queue = loop, kbps, loss, queue
        self.random = random.Random(seed)
        self.free_at = 0.0
        self.bytes = self.dropped = 0

    def send(self, size: int, arrived: Callable[[], Any]) -> bool:
        """Send a packet; returns whether there was room for it and it is not lost."""
        now = self.loop.time()
        waiting = max(self.free_at - now, 0.0)
        if waiting * self.kbps * 125 + size > self.queue:
            self.dropped += 1
            return False
        self.free_at = max(self.free_at, now) + size / (125 * self.kbps)
        self.bytes += size
        if self.random.random() < self.loss:
            return False
        self.loop.call_later(self.free_at - now + 0.02, arrived)
        return True


class LinePeer(FakePeer):
    """A connection over two lines."""

    def __init__(self, out: Line, back: Line) -> None:
        super().__init__()
        self.out, self.back = out, back
        self.to: Callable[[str, bytes], None] = lambda channel, data: None
        self._numbers, self._due = 0, 0  # of reliable messages: sent, and to be delivered next
        self._ahead: dict[int, bytes] = {}

    def send(self, channel: str, data: bytes) -> bool:
        if channel == "picture":
            self._numbers += 1
            self._reliably(self._numbers - 1, data)
        else:
            self.out.send(len(data) + HEADERS, lambda: self._arrived(data))
        return True

    def _arrived(self, data: bytes) -> None:
        self.back.send(ACK, lambda: None)
        self.to("motion", data)

    def _reliably(self, number: int, data: bytes) -> None:
        """Send until it arrives; messages are delivered in order."""

        def arrived() -> None:
            self.back.send(ACK, lambda: None)
            self._ahead[number] = data
            while self._due in self._ahead:
                self._due += 1
                self.to("picture", self._ahead.pop(self._due - 1))

        if not self.out.send(len(data) + HEADERS, arrived):
            self.out.loop.call_later(_AGAIN_S, self._reliably, number, data)


class Side:
    """One end of it."""

    def __init__(self, loop: VirtualLoop, peer: LinePeer, **changes: Any) -> None:
        self.loop, self.peer, self.shown = loop, peer, list[tuple[float, ShownFrame]]()
        loaded = models()
        self.exchange: Any = Exchange(
            config(**changes),
            loaded,
            lambda frame: self.shown.append((loop.time(), frame)),
            *(lambda *said: None,) * 4,
            loop.time,
        )
        self.number = 0

    def film(self, picture: Any) -> None:
        """Submit a camera frame."""
        self.exchange.submit(CameraFrame(picture, self.loop.time(), self.number))
        self.number += 1


def joined(loop: VirtualLoop, line: float, loss: float = 0.0, **changes: Any) -> tuple[Side, Side]:
    """Return two ends that are connected by `line` kbps."""
    lines = Line(loop, line, loss, seed=1), Line(loop, line, loss, seed=2)
    peers = LinePeer(*lines), LinePeer(*lines[::-1])
    sides = Side(loop, peers[0], **changes), Side(loop, peers[1], **changes)
    for peer, other in zip(peers, sides[::-1], strict=True):
        peer.to = partial(other.exchange.take, other.peer)
    for side in sides:
        side.exchange.attach(side.peer)
    return sides
