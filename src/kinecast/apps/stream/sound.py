"""Sound in a stream: mono Opus packets of 20 ms, a few per unit. See docs/protocol.md, Sound."""

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av

from kinecast.codec.packets import MAX_SOUNDS, SOUND_ROOM, SoundUnit
from kinecast.codec.stream import StreamReader
from kinecast.files import existing_file
from kinecast.media.sound import OPUS_RATE, Decodable, PacketQueue, SoundSource, decodable, opus_encoder, transcoded

PACKET = 960  # samples of a packet, at 48 kHz
PRE_SKIP = 312  # delay of Opus encoders in samples: packet n begins at sample 960 n - 312 after the first frame
# Initial header of Opus decoders (RFC 7845, section 5.1): version 1, one channel, family 0.
_HEAD = b"OpusHead\x01\x01" + PRE_SKIP.to_bytes(2, "little") + OPUS_RATE.to_bytes(4, "little") + bytes(3)


class SoundWriter:
    """A clip's sound as units, released as the pictures proceed."""

    def __init__(self, source: SoundSource, kbps: float) -> None:
        self._queue = PacketQueue(transcoded(source, opus_encoder(kbps)), source.where)
        self._first, self._waiting = 0, list[bytes]()

    def until(self, seconds: float) -> Iterator[SoundUnit]:
        """Yield the full units of sound before `seconds`."""
        for packet in self._queue.until(seconds):
            data = bytes(packet)
            if sum(len(one) + 2 for one in (*self._waiting, data)) > SOUND_ROOM or len(self._waiting) == MAX_SOUNDS:
                yield from self.flush()
            self._waiting.append(data)

    def flush(self) -> Iterator[SoundUnit]:
        """Yield what waits for its unit to fill."""
        if self._waiting:
            yield SoundUnit(self._first, tuple(self._waiting))
            self._first += len(self._waiting)
            self._waiting = []


def stream_sound(path: Path, start: float = 0.0) -> SoundSource | None:
    """Return the sound of a .kcm file; None if it has none, or, with a warning, none that can be decoded.

    Args:
        path: the file.
        start: seconds from frame 0 to the first displayed frame.
    """
    path = existing_file(path, "motion stream (.kcm)")
    shift = round(start * OPUS_RATE)

    def packets() -> Iterator[Decodable]:
        decoder = _decoder()
        for number, data in _numbered(path):
            packet = av.Packet(data)
            packet.time_base, packet.duration = Fraction(1, OPUS_RATE), PACKET
            packet.pts = packet.dts = number * PACKET - PRE_SKIP - shift
            yield packet, partial(decoder.decode, packet)
        yield None, partial(decoder.decode, None)

    source = SoundSource(str(path), "opus", packets, _add)
    return source if next(_numbered(path), None) is not None and decodable(source) else None


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for unit in StreamReader(file).units():
            if isinstance(unit, SoundUnit):
                yield from enumerate(unit.packets, unit.first)


def _add(container: Any) -> Any:
    # An encoder that is given nothing to encode: its parameters are what a muxer asks for.
    stream = container.add_stream("libopus", rate=OPUS_RATE)
    stream.codec_context.layout = "mono"
    return stream


def _decoder() -> Any:
    decoder: Any = av.CodecContext.create("libopus", "r")
    decoder.extradata, decoder.sample_rate, decoder.layout = _HEAD, OPUS_RATE, "mono"
    return decoder
