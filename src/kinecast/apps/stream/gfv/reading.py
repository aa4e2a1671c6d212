"""Reading video with GFV messages: the base picture, and the frames generated from it, with their times."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

from kinecast.codec.gfv.coding import GfvDecoder, GfvFrame
from kinecast.codec.gfv.message import PAYLOAD_TYPE, GfvMessage
from kinecast.codec.gfv.nal import CODECS, Codec, sei_messages
from kinecast.codec.gfv.naming import Sender
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import existing_file
from kinecast.files.pipes import from_pipe
from kinecast.media.container import open_clip
from kinecast.media.resampling import Shown, with_ends
from kinecast.media.video import probe, read_frames

_LOOKED_AT = 16  # pictures among which the first message must be
_FILTERS = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_OTHERS = (".kcm", ".npz", ".csv")  # not video; recognised without opening


def carries_gfv(path: str | Path) -> bool:
    """Return whether a file is video with GFV messages, judging by its first pictures. Other files are no error."""
    with suppress(KinecastError, av.error.FFmpegError):
        path = from_pipe(path, "clip")
        if not path.is_file() or path.suffix.lower() in _OTHERS:
            return False
        return any(payloads for _, payloads in islice(_pictures(path), _LOOKED_AT))
    return False


@dataclass(frozen=True)
class GfvClip:
    """A file with GFV messages.

    Attributes:
        path: its path.
        rate: pictures per second, the mean if it varies.
        constant: whether all pictures have the same duration and generate one frame each.
        sender: how kinecast wrote it; None if another program did.
        base: the message of the base picture.
        picture: the base picture, uint8 (H, W, 3).
    """

    path: Path
    rate: float
    constant: bool
    sender: Sender | None
    base: GfvMessage
    picture: np.ndarray
    _duration: float | None

    @classmethod
    def open(cls, path: str | Path) -> "GfvClip":
        """Open a file: all of it is read once, and one picture is decoded.

        Raises:
            KinecastError: not a video, no base picture among its messages, or a later version.
        """
        path = existing_file(path, "video with GFV messages")
        info = probe(path)
        index, base = _find_base(path)
        even = all(len(payloads) == 1 for _, payloads in islice(_pictures(path), index, None))
        picture = next(islice(read_frames(path, None, "none"), index, None))
        try:
            sender = Sender.of(base.network)
        except KinecastError as error:
            raise KinecastError(f"{path}: {error}") from error
        return cls(path, info.fps, info.constant_rate and even, sender, base, picture, info.duration)

    def frames(self) -> Iterator[Shown[GfvFrame]]:
        """Yield start and end of each frame's display in seconds, and its message.

        Pictures without a message, or, with a warning, with a damaged one, keep showing the previous frame. At a
        constant rate there is one frame per picture, repeated where necessary.
        """
        damaged, last = 0, list[GfvFrame]()
        decoder = GfvDecoder()

        def timed() -> Iterator[tuple[float, list[GfvFrame]]]:
            nonlocal damaged, last
            for index, (time, payloads) in enumerate(_pictures(self.path)):
                found = []
                for payload in payloads:
                    try:
                        frame = decoder.push(payload)
                    except KinecastError:
                        damaged += 1
                        continue
                    found += [] if frame is None else [frame]
                if self.constant:
                    found = last = found[-1:] or last
                if found:
                    yield index / self.rate if self.constant or time is None else time, found

        for begin, end, frames in with_ends(timed(), self._duration):
            step = (end - begin) / len(frames)
            for number, frame in enumerate(frames):
                yield begin + number * step, begin + (number + 1) * step, frame
        if damaged:
            text = f"{self.path}: {damaged} damaged messages were skipped: the previous frame is held"
            warnings.warn(KinecastWarning(text), stacklevel=2)


def _find_base(path: Path) -> tuple[int, GfvMessage]:
    """Return number and message of the first picture that is a base picture.

    Raises:
        KinecastError: there is none; the message names the first fault.
    """
    fault, seen = "no GFV message", False
    for index, (_, payloads) in enumerate(_pictures(path)):
        for payload in payloads:
            try:
                message = GfvMessage.parse(payload)
            except KinecastError as error:
                fault = fault if seen else str(error)
                seen = True
                continue
            if message.base:
                return index, message
            fault, seen = fault if seen else "messages without one", True
    raise KinecastError(
        f"{path}: expected video with GFV messages and a base picture, found {fault}: name another file"
    )


def _pictures(path: Path) -> Iterator[tuple[float | None, list[bytes]]]:
    """Yield time, seconds since the first, and the payloads of GFV messages of each picture; up to the first damage."""
    with open_clip(path) as (container, stream):
        codec = CODECS.get(stream.codec_context.name if stream.codec_context else "")
        if codec is None:
            name = stream.codec_context.name if stream.codec_context else "an unknown codec"
            raise KinecastError(f"{path}: expected H.264 or H.265 with GFV messages, found {name}: name another file")
        start: float | None = None
        with suppress(av.error.FFmpegError):  # the damage is reported when the picture is decoded
            for packet in _annex_b(container, stream, codec):
                time = None if packet.pts is None else float(packet.pts * packet.time_base)
                start = time if start is None else start
                yield None if time is None or start is None else time - start, _payloads(codec, bytes(packet))


def _annex_b(container: Any, stream: Any, codec: Codec) -> Iterator[Any]:
    """Yield packets with start codes, whatever the container has."""
    converter = av.bitstream.BitStreamFilterContext(_FILTERS[codec.name], stream)
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            yield from converter.filter(packet)
    yield from converter.filter(None)


def _payloads(codec: Codec, unit: bytes) -> list[bytes]:
    found = []
    with suppress(KinecastError):  # an SEI message that is cut off takes the others of its unit with it
        for kind, payload in sei_messages(codec, unit):
            if kind == PAYLOAD_TYPE:
                found.append(payload)
    return found
