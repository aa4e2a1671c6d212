"""The units of a stream, one class each: `parse(bytes) -> (unit, rest)` and `bytes(unit)`. See docs/protocol.md.

A file is one header, the chunks of its reference pictures, and motion packets, back to back. On a network each unit
is one datagram. The first byte identifies the unit.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from kinecast.codec.absences import ABSENCE, AbsenceUnit
from kinecast.codec.quantizer import FINE, MAX_COMPONENTS, MAX_DIM, Component, Layout, check_nested
from kinecast.codec.references import CHOICE, PICTURE_LAYER, ChoiceUnit, PictureLayerUnit
from kinecast.codec.times import TIMES, TimesUnit
from kinecast.codec.wire import (
    checksum,
    put_text,
    put_varint,
    take,
    take_checksum,
    take_mark,
    take_number,
    take_text,
    take_varint,
)
from kinecast.errors import KinecastError

# With times or sound beside the motion it is the second, with pictures after the first one the third, with layers the
# fourth.
VERSION, EXTENDED, REFERENCES, LAYERED = VERSIONS = 1, 2, 3, 4
MAX_LAYERS = 4  # of a stream, the base included
MAGIC = b"KCM"
DATAGRAM = 1200  # bytes of one unit: below IPv6's minimum MTU of 1280 with IP, UDP and DTLS headers
MAX_HEADER = 1024
MAX_PICTURE = 4 << 20
CHUNK = 1100  # bytes of a picture in one chunk
MAX_FRAMES = 128  # of one packet; bounds the work that a few hostile bytes can cause
MIMES = ("image/webp", "image/jpeg", "image/png", "image/avif")
MAX_SOUNDS = 64  # packets of sound in one unit
SOUND_ROOM = 1150  # bytes of sound in one unit, which fits a datagram with the rest
_MOST_SOUNDS = (1 << 32) - 1  # number of a sound packet: over two years
_REFERENCE, _SOUND, _MOTION = 0x52, 0x53, 0x80
_KEY, _COUNTED, _WIDE, _BACK, _SKIPS, _LAYER = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first frame.

    `model` is the sha256 of the backbone (`codec.identity`), `model_name` is for error messages only.
    `rate` is the frame rate as a fraction, `frame_size` (height, width). `profile` names the prediction tables, and
    `fingerprint` their content, the entropy tables included. `filler` says how the sender expects frames that it
    leaves out to be filled (`codec.filling`), and is advice: it decides no bit. `version` is EXTENDED where the stream
    has times of frames or sound, REFERENCES where it has several pictures, or smaller ones than its frames, LAYERED
    where it has layers: `layout` is then the base's, and `layers` are those of the layers above it, in order, which
    differ from it in their steps alone.
    """

    layout: Layout
    rate: tuple[int, int]
    frame_size: tuple[int, int]
    model: bytes = bytes(32)
    model_name: str = ""
    profile: str = ""
    fingerprint: bytes = bytes(8)
    filler: str = "hold"
    version: int = VERSION
    layers: tuple[Layout, ...] = ()

    def __post_init__(self) -> None:
        if (self.version == LAYERED) != bool(self.layers) or len(self.layers) >= MAX_LAYERS:
            raise KinecastError(
                f"header: expected 2 to {MAX_LAYERS} layers in a stream of version {LAYERED} and one before, found "
                f"{1 + len(self.layers)} in version {self.version}"
            )
        for lower, upper in zip((self.layout, *self.layers), self.layers, strict=False):
            check_nested(lower, upper)
        numerator, denominator = self.rate
        if not (1 <= numerator <= 1_000_000 and 1 <= denominator <= 1_000_000 and numerator <= 1000 * denominator):
            raise KinecastError(f"frame rate: expected above 0, at most 1000 fps, found {numerator}/{denominator}")
        if not all(1 <= side <= 16384 for side in self.frame_size):
            raise KinecastError(f"frame size: expected 1 to 16384 pixels per side, found {self.frame_size}")
        if len(self.model) != 32 or len(self.fingerprint) != 8:
            raise KinecastError("header: expected a model hash of 32 bytes and a fingerprint of 8")

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.rate[0] / self.rate[1]

    def __bytes__(self) -> bytes:
        body = (
            self.model + put_text(self.model_name) + put_text(self.profile) + self.fingerprint + put_text(self.filler)
        )
        body += b"".join(map(put_varint, (*self.rate, *self.frame_size)))
        body += put_text(self.layout.name) + put_varint(self.layout.keypoints) + bytes([len(self.layout.components)])
        for part in self.layout.components:
            body += put_text(part.name) + put_varint(part.width) + put_varint(part.step)
        if self.layers:
            steps = (put_varint(part.step) for layout in self.layers for part in layout.components)
            body += bytes([len(self.layers)]) + b"".join(steps)
        data = MAGIC + bytes([self.version]) + put_varint(len(body)) + body
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a header.

        Raises:
            KinecastError: another format or version, cut off, damaged, or beyond a limit.
        """
        what = "motion stream header"
        magic, rest = take(data, len(MAGIC), what)
        if magic != MAGIC:
            raise KinecastError(
                f"{what}: expected it to start with {MAGIC!r}, found {magic!r}: this is not a .kcm stream"
            )
        version, rest = take_number(rest, 1, what)
        if version not in VERSIONS:
            raise KinecastError(
                f"{what}: expected format version {VERSION} to {VERSIONS[-1]}, found {version}: update kinecast to "
                "read it"
            )
        size, rest = take_varint(rest, what, MAX_HEADER)
        body, rest = take(rest, size, what)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        model, body = take(body, 32, what)
        model_name, body = take_text(body, what)
        profile, body = take_text(body, what)
        fingerprint, body = take(body, 8, what)
        filler, body = take_text(body, what)
        numbers = []
        for most in (1_000_000, 1_000_000, 16384, 16384):
            number, body = take_varint(body, what, most)
            numbers.append(number)
        name, body = take_text(body, what)
        keypoints, body = take_varint(body, what, MAX_DIM)
        count, body = take_number(body, 1, what)
        if not 1 <= count <= MAX_COMPONENTS:
            raise KinecastError(f"{what}: expected 1 to {MAX_COMPONENTS} components, found {count}: it is damaged")
        parts = []
        for _ in range(count):
            part, body = take_text(body, what)
            width, body = take_varint(body, what, MAX_DIM)
            step, body = take_varint(body, what, FINE)
            parts.append(Component(part, width, step))
        layout = Layout(name, keypoints, tuple(parts))
        layers, body = _take_layers(body, layout, what) if version >= LAYERED else ((), body)
        if body:
            raise KinecastError(f"{what}: expected no bytes after its fields, found {len(body)}: it is damaged")
        rate, frame_size = (numbers[0], numbers[1]), (numbers[2], numbers[3])
        return cls(layout, rate, frame_size, model, model_name, profile, fingerprint, filler, version, layers), rest


def _take_layers(body: bytes, layout: Layout, what: str) -> tuple[tuple[Layout, ...], bytes]:
    """Read the layouts of the layers above the base."""
    count, body = take_number(body, 1, what)
    if not 1 <= count < MAX_LAYERS:
        raise KinecastError(
            f"{what}: expected 1 to {MAX_LAYERS - 1} layers above the base, found {count}: it is damaged"
        )
    layers = []
    for _ in range(count):
        parts = []
        for part in layout.components:
            step, body = take_varint(body, what, FINE)
            parts.append(replace(part, step=step))
        layers.append(replace(layout, components=tuple(parts)))
    return tuple(layers), body


@dataclass(frozen=True)
class ReferenceChunk:
    """A piece of a coded reference picture: `index` of `count`; the last may be shorter than CHUNK bytes."""

    picture: int
    mime: str
    size: int  # bytes of the whole picture
    index: int
    data: bytes

    def __post_init__(self) -> None:
        if self.mime not in MIMES:
            raise KinecastError(f"reference picture: expected one of {', '.join(MIMES)}, found {self.mime!r}")
        if not 0 <= self.picture <= 255 or not 1 <= self.size <= MAX_PICTURE:
            raise KinecastError(f"reference picture: expected 1 to {MAX_PICTURE} bytes, found {self.size}: shrink it")
        if not 0 <= self.index < self.count or len(self.data) != min(CHUNK, self.size - self.index * CHUNK):
            raise KinecastError(
                f"reference picture: expected chunk 0 to {self.count - 1} of up to {CHUNK} bytes, "
                f"found chunk {self.index} of {len(self.data)}: it is damaged"
            )

    @property
    def count(self) -> int:
        """Chunks of the whole picture."""
        return -(-self.size // CHUNK)

    def __bytes__(self) -> bytes:
        data = bytes([_REFERENCE, self.picture, MIMES.index(self.mime)]) + put_varint(self.size)
        data += put_varint(self.index) + self.data
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a chunk.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "reference picture"
        head, rest = take(data, 3, what)
        if head[0] != _REFERENCE or head[2] >= len(MIMES):
            raise KinecastError(f"{what}: expected a chunk of {', '.join(MIMES)}, found {head.hex()}: it is damaged")
        size, rest = take_varint(rest, what, MAX_PICTURE)
        index, rest = take_varint(rest, what, max(-(-size // CHUNK) - 1, 0))
        piece, rest = take(rest, min(CHUNK, size - index * CHUNK), what)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        return cls(head[1], MIMES[head[2]], size, index, piece), rest


def split_picture(data: bytes, mime: str, picture: int = 0) -> Iterator[ReferenceChunk]:
    """Yield the chunks of a coded picture, each small enough for a datagram."""
    for index in range(max(-(-len(data) // CHUNK), 1)):
        yield ReferenceChunk(picture, mime, len(data), index, data[index * CHUNK : (index + 1) * CHUNK])


@dataclass(frozen=True)
class MotionPacket:
    """A few frames of motion.

    `sequence` counts packets and `frame` is the number of the first frame, its time in frame periods, both modulo
    2**16. A key packet (`back` 0) is self-contained; a delta packet starts from the state after the packet `back`
    before it, normally 1. `wide` selects CRC-32; otherwise it is CRC-16. With `skips` the payload gives before each
    frame but the first how many frames the sender skipped; otherwise frames are consecutive.

    Each layer counts its own packets. One above the base, `layer` 1 or more, can be decoded after the packet `below`
    of the layer below it.
    """

    sequence: int
    frame: int
    count: int
    payload: bytes
    back: int = 0
    wide: bool = True
    skips: bool = False
    layer: int = 0
    below: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.layer < MAX_LAYERS and 0 <= self.below < 1 << 16 and (self.layer or not self.below)):
            raise KinecastError(
                f"motion packet: expected layer 0 to {MAX_LAYERS - 1}, and the packet below it from layer 1 on, found "
                f"{self.layer} and {self.below}: it is damaged"
            )
        if not (0 <= self.sequence < 1 << 16 and 0 <= self.frame < 1 << 16 and 0 <= self.back <= 255):
            raise KinecastError(
                "motion packet: expected 16-bit sequence and frame numbers and a base at most 255 packets back"
            )
        if not 1 <= self.count <= MAX_FRAMES:
            raise KinecastError(f"motion packet: expected 1 to {MAX_FRAMES} frames, found {self.count}: it is damaged")

    @property
    def key(self) -> bool:
        """Whether it can be decoded on its own."""
        return self.back == 0

    def __bytes__(self) -> bytes:
        flags = _KEY if self.key else 0
        tail = b""
        if self.back > 1:
            flags, tail = flags | _BACK, bytes([self.back])
        if self.count > 1:
            flags, tail = flags | _COUNTED, tail + bytes([self.count])
        flags |= (_WIDE if self.wide else 0) | (_SKIPS if self.skips else 0) | (_LAYER if self.layer else 0)
        head = bytes([_MOTION | flags]) + self.sequence.to_bytes(2, "big") + self.frame.to_bytes(2, "big")
        if self.layer:
            head += bytes([self.layer]) + self.below.to_bytes(2, "big")
        data = head + tail + put_varint(len(self.payload)) + self.payload
        data += checksum(data, self.wide)
        if len(data) > DATAGRAM:
            raise KinecastError(
                f"motion packet: expected at most {DATAGRAM} bytes, found {len(data)}: put fewer frames in it"
            )
        return data

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a packet.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "motion packet"
        flags, rest = take_number(data, 1, what)
        wide = bool(flags & _WIDE)
        if flags & 0xC0 != _MOTION or (flags & _KEY and flags & _BACK):
            raise KinecastError(
                f"{what}: expected flags 0x80 to 0xbf, no base with a key, found 0x{flags:02x}: it is damaged"
            )
        sequence, rest = take_number(rest, 2, what)
        frame, rest = take_number(rest, 2, what)
        layer = below = 0
        if flags & _LAYER:
            layer, rest = take_number(rest, 1, what)
            below, rest = take_number(rest, 2, what)
        back, count = int(not flags & _KEY), 1
        if flags & _BACK:
            back, rest = take_number(rest, 1, what)
        if flags & _COUNTED:
            count, rest = take_number(rest, 1, what)
        if (
            (flags & _LAYER and not layer)
            or (flags & _BACK and back < 2)
            or (flags & _COUNTED and not 2 <= count <= MAX_FRAMES)
        ):
            raise KinecastError(
                f"{what}: expected a base of 2 or more, 2 to {MAX_FRAMES} frames and layer 1 or more if given "
                f"explicitly, found {back}, {count} and {layer}: it is damaged"
            )
        size, rest = take_varint(rest, what, DATAGRAM)
        payload, rest = take(rest, size, what)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what, wide)
        if len(data) - len(rest) > DATAGRAM:
            raise KinecastError(
                f"{what}: expected at most {DATAGRAM} bytes, found {len(data) - len(rest)}: it is foreign"
            )
        return cls(sequence, frame, count, payload, back, wide, bool(flags & _SKIPS), layer, below), rest


@dataclass(frozen=True)
class SoundUnit:
    """Consecutive packets of sound, numbered from `first`."""

    first: int
    packets: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not (0 <= self.first <= _MOST_SOUNDS and 1 <= len(self.packets) <= MAX_SOUNDS):
            raise KinecastError(f"sound: expected 1 to {MAX_SOUNDS} packets in a unit, found {len(self.packets)}")
        if sum(len(packet) + 2 for packet in self.packets) > SOUND_ROOM:
            raise KinecastError(f"sound: expected at most {SOUND_ROOM} bytes in a unit, found more: lower --sound-kbps")

    def __bytes__(self) -> bytes:
        data = bytes([_SOUND]) + put_varint(self.first) + bytes([len(self.packets)])
        data += b"".join(put_varint(len(packet)) + packet for packet in self.packets)
        return data + checksum(data)

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Read a unit.

        Raises:
            KinecastError: cut off, damaged, or beyond a limit.
        """
        what = "sound"
        first, rest = take_varint(take_mark(data, _SOUND, what), what, _MOST_SOUNDS)
        count, rest = take_number(rest, 1, what)
        packets = []
        for _ in range(min(count, MAX_SOUNDS + 1)):
            size, rest = take_varint(rest, what, SOUND_ROOM)
            packet, rest = take(rest, size, what)
            packets.append(packet)
        rest = take_checksum(data[: len(data) - len(rest)], rest, what)
        return cls(first, tuple(packets)), rest


Unit = Header | TimesUnit | AbsenceUnit | SoundUnit | ReferenceChunk | ChoiceUnit | PictureLayerUnit | MotionPacket


def parse_unit(data: bytes) -> tuple[Unit, bytes]:
    """Read the unit that `data` starts with.

    Raises:
        KinecastError: none, or a damaged one.
    """
    if not data:
        raise KinecastError("motion stream: expected a header, a picture or a motion packet, found no bytes")
    if data[0] == MAGIC[0]:
        return Header.parse(data)
    if data[0] == _REFERENCE:
        return ReferenceChunk.parse(data)
    if data[0] == CHOICE:
        return ChoiceUnit.parse(data)
    if data[0] == PICTURE_LAYER:
        return PictureLayerUnit.parse(data)
    if data[0] == TIMES:
        return TimesUnit.parse(data)
    if data[0] == ABSENCE:
        return AbsenceUnit.parse(data)
    if data[0] == _SOUND:
        return SoundUnit.parse(data)
    if data[0] & 0xC0 == _MOTION:
        return MotionPacket.parse(data)
    raise KinecastError(
        f"motion stream: expected a unit of this format, found first byte 0x{data[0]:02x}: it is damaged"
    )
