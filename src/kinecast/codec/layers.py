"""Layers of motion: a base of few frames and wide steps, and layers above it with more frames and finer steps.

A level of a layer lies in the cell of the layer below at each frame that both have, so that only what the cell leaves
open is coded. Whoever passes a stream on drops the upper layers by a number in their packets, decoding nothing, and a
receiver shows each frame as the highest layer that came has it. See docs/protocol.md.

Notation: T frames, D numbers per frame.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from kinecast.codec.decoder import MAX_GAP, DecodedFrame, Losses, MotionDecoder
from kinecast.codec.encoder import FILE, MotionEncoder, Packing
from kinecast.codec.entropy import MAX_SKIP
from kinecast.codec.packets import MAX_LAYERS, REFERENCES, Header, MotionPacket, ReferenceChunk
from kinecast.codec.profiles import Profile
from kinecast.codec.quantizer import Layout, check_nested, coarser, dequantize, quantize, windows
from kinecast.codec.references import ChoiceUnit, PictureLayerUnit
from kinecast.codec.schedule import Schedule
from kinecast.codec.stream import BodyUnit
from kinecast.codec.wire import unwrap
from kinecast.errors import KinecastError

_RECENT = 256  # packets, and four times as many frames, of the layer below that an upper layer may be coded against


class LayeredEncoder:
    """Encodes frames in layers, one at a time.

    Args:
        layouts: of the layers, the base first, each with steps as fine as those of the one below or finer.
        profile: prediction tables, of all layers.
        every: of each layer, one frame in how many it has; the base the fewest.
        packing: how frames are put into packets; packets of all layers end together.

    Raises:
        KinecastError: not 1 to 4 layers, layouts that are not nested, or frames that are not.
    """

    def __init__(
        self, layouts: Sequence[Layout], profile: Profile, every: Sequence[int], packing: Packing = FILE
    ) -> None:
        if not 1 <= len(layouts) <= MAX_LAYERS or len(every) != len(layouts):
            raise KinecastError(f"layers: expected 1 to {MAX_LAYERS}, found {len(layouts)} of {len(every)} frame rates")
        if not all(MAX_SKIP + 1 >= one >= after >= 1 for one, after in zip(every, [*every[1:], 1], strict=True)):
            raise KinecastError(
                f"layers: expected one frame in 1 to {MAX_SKIP + 1}, in fewer from layer to layer, found {list(every)}"
            )
        for lower, upper in zip(layouts, layouts[1:], strict=False):
            check_nested(lower, upper)
        self.layouts, self._every = tuple(layouts), tuple(every)
        packing = replace(packing, skips=True)
        self._encoders = [MotionEncoder(layout, profile, packing, n) for n, layout in enumerate(layouts)]
        self._last: list[int | None] = [None] * len(layouts)  # frames of each layer
        self._frame = 0  # the next one's number

    def push(self, levels: np.ndarray, skipped: int = 0, last: bool = False) -> list[MotionPacket]:
        """Take the top layer's levels (D,) of the next frame after `skipped` omitted ones; returns full packets.

        The `last` frame of a stream is in all layers.

        Raises:
            KinecastError: as `MotionEncoder.push`.
        """
        number = self._frame + skipped
        self._frame = number + 1
        ladder = [np.asarray(levels)]
        for lower, upper in zip(self.layouts[-2::-1], self.layouts[:0:-1], strict=True):
            ladder.insert(0, coarser(ladder[0], upper, lower))
        taken, out = False, list[MotionPacket]()
        if any(number - encoder.frame > MAX_SKIP for encoder in self._encoders):
            out = self.flush()
        full, below = list[MotionPacket](), None
        for n, encoder in enumerate(self._encoders):
            before = self._last[n]
            taken = taken or last or before is None or number - before >= self._every[n]
            if not taken:
                continue
            if number - encoder.frame > MAX_SKIP:
                encoder.jump(number)
            known = None if below is None else windows(ladder[n - 1], self.layouts[n - 1], self.layouts[n])
            packet = encoder.push(ladder[n], number - encoder.frame, known)
            full += [packet] if packet is not None else []
            self._last[n], below = number, n
        return out + self._together(full) if full else out

    def flush(self) -> list[MotionPacket]:
        """Return the packets of the frames still waiting, the base's first."""
        return self._together([])

    @property
    def bits(self) -> int:
        """Bits of all packets so far, and of the frames in open ones."""
        return sum(encoder.bits for encoder in self._encoders)

    def _together(self, full: list[MotionPacket]) -> list[MotionPacket]:
        """End the packets of all layers, and say which packet below each can be decoded after."""
        full = full + [packet for encoder in self._encoders if (packet := encoder.flush()) is not None]
        return [
            replace(packet, below=(self._encoders[packet.layer - 1].sequence - 1) & 0xFFFF) if packet.layer else packet
            for packet in sorted(full, key=lambda packet: packet.layer)
        ]


def encode_layers(
    vectors: Iterable[np.ndarray],
    layouts: Sequence[Layout],
    profile: Profile,
    every: Sequence[int],
    packing: Packing = FILE,
    schedule: Schedule | None = None,
) -> Iterator[MotionPacket]:
    """Quantise and encode an iterator of motion vectors (D,) in layers, all of them or those a schedule selects.

    The last frame is always sent, in all layers.

    Raises:
        KinecastError: as `LayeredEncoder`, and `quantize`.

    Example:
        >>> layouts = Layout.plain(6, 1 / 32), Layout.plain(6, 1 / 128)
        >>> packets = list(encode_layers(vectors, layouts, generic_profile(layouts[0]), (4, 1)))
        >>> base = [packet for packet in packets if packet.layer == 0]
    """
    encoder, top = LayeredEncoder(layouts, profile, every, packing), layouts[-1]
    held: np.ndarray | None = None  # a frame waits for the next: whether it is the last is known then
    omitted = 0
    for vector in vectors:
        levels = quantize(np.asarray(vector)[None], top)[0]
        if held is not None:
            if schedule is None or schedule.wants(dequantize(held[None], top)[0], encoder.bits):
                yield from encoder.push(held, omitted)
                omitted = 0
            else:
                omitted += 1
        held = levels
    if held is not None:
        if schedule is not None:
            schedule.wants(dequantize(held[None], top)[0], encoder.bits)
        yield from encoder.push(held, omitted, last=True)
    yield from encoder.flush()


class _LayerDecoder(MotionDecoder):
    """A decoder of one layer, which remembers what the layer above it needs."""

    def __init__(self, layout: Layout, profile: Profile, reorder: int, lower: "_LayerDecoder | None") -> None:
        super().__init__(layout, profile, reorder)
        self._lower = lower
        self.layer = 0 if lower is None else lower.layer + 1
        self._sequences: deque[int] = deque(maxlen=_RECENT)
        self._levels: OrderedDict[int, np.ndarray] = OrderedDict()  # by the low 16 bits of the frame's number

    @property
    def reached(self) -> int | None:
        """The number of the next frame, None before the first key packet."""
        return None if self._held is None else self._frame

    def passed(self, sequence: int) -> bool:
        """Return whether a packet was decoded or will not be."""
        return self._next is not None and unwrap(sequence, self._next) < self._next

    def _join(self, packet: MotionPacket) -> None:
        super()._join(packet)
        if self._lower is not None and self._next is not None and self._held is None:
            self._frame = self._start = unwrap(packet.frame, self._lower._frame)

    def _supported(self, packet: MotionPacket) -> bool:
        return self._lower is None or packet.below in self._lower._sequences

    def _windows(self, number: int) -> np.ndarray | None:
        below = None if self._lower is None else self._lower._levels.get(number & 0xFFFF)
        return None if below is None or self._lower is None else windows(below, self._lower.layout, self.layout)

    def _decoded(self, packet: MotionPacket, numbers: list[int], levels: np.ndarray) -> None:
        self._sequences.append(packet.sequence)
        for number, one in zip(numbers, levels, strict=True):
            self._levels.pop(number & 0xFFFF, None)
            self._levels[number & 0xFFFF] = one
        while len(self._levels) > 4 * _RECENT:
            self._levels.popitem(last=False)


class LayeredDecoder:
    """Decodes packets of all layers; each frame is of the highest layer that came, and the rest are concealed.

    As `MotionDecoder`; `levels` are of the layer that a frame was decoded from.

    Args:
        layouts: of the layers, the base first.
        profile: prediction tables.
        reorder: packets that wait for an earlier one, or for one of the layer below.
    """

    def __init__(self, layouts: Sequence[Layout], profile: Profile, reorder: int = 4) -> None:
        self.layout, self._reorder = layouts[0], reorder
        self._decoders: list[_LayerDecoder] = []
        for layout in layouts:
            self._decoders.append(
                _LayerDecoder(layout, profile, reorder, self._decoders[-1] if self._decoders else None)
            )
        self._waiting: list[MotionPacket] = []  # for a packet of the layer below
        self._found: dict[int, DecodedFrame] = {}  # by number, the best so far
        self._next: int | None = None  # the frame to return next
        self._held: DecodedFrame | None = None
        self._first = self._foreign = self._concealed = self._skipped = 0

    @property
    def losses(self) -> Losses:
        """Statistics: packets of all layers, and the frames that were returned concealed."""
        total = Losses(refused=self._foreign, concealed=self._concealed, skipped=self._skipped)
        for decoder in self._decoders:
            for name in ("decoded", "lost", "useless", "late", "refused"):
                setattr(total, name, getattr(total, name) + getattr(decoder.losses, name))
        return total

    def push(self, packet: MotionPacket) -> list[DecodedFrame]:
        """Take a packet; returns the frames that are now due, none before the base's first key packet."""
        if packet.layer >= len(self._decoders):
            self._foreign += 1
            return []
        self._waiting.append(packet)
        while (ready := self._ready()) is not None:
            self._waiting.remove(ready)
            self._keep(self._decoders[ready.layer].push(ready))
        reached = [0 if decoder.reached is None else decoder.reached for decoder in self._decoders]
        return self._due(max(min(reached), max(reached) - MAX_GAP))

    def flush(self) -> list[DecodedFrame]:
        """Return the frames that still wait, at the end of the stream."""
        for decoder in self._decoders:
            for packet in [packet for packet in self._waiting if packet.layer == decoder.layer]:
                self._keep(decoder.push(packet))
            self._keep(decoder.flush())
        self._waiting.clear()
        return self._due(max((decoder.reached or 0 for decoder in self._decoders), default=0))

    def _ready(self) -> MotionPacket | None:
        """Return a waiting packet that can be decoded as far as the layer below is concerned, or waited too long."""
        for packet in self._waiting:
            if not packet.layer or self._decoders[packet.layer - 1].passed(packet.below):
                return packet
        # The layer below may itself wait for so many of its packets.
        most = (self._reorder + 1) * (len(self._decoders) - 1)
        return self._waiting[0] if len(self._waiting) > most else None

    def _keep(self, frames: list[DecodedFrame]) -> None:
        """Keep frames of a layer where the layers so far had none, or held one; upper layers come after lower ones."""
        for frame in frames:
            known = self._found.get(frame.number)
            if self._next is not None and frame.number < self._next:
                continue
            if known is None or not frame.concealed or (known.concealed and not frame.skipped):
                self._found[frame.number] = frame

    def _due(self, until: int) -> list[DecodedFrame]:
        """Return the frames below a number, in order."""
        if self._next is None:
            real = [number for number, frame in self._found.items() if not frame.concealed]
            if not real or until <= min(real):
                return []
            self._next = self._first = min(real)
        out = []
        while self._next < until:
            coming = min((number for number in self._found if number >= self._next), default=until)
            if coming - self._next > MAX_GAP:  # the sender began anew: a long silence is not filled with copies
                self._first, self._next = self._first + coming - self._next, coming
                continue
            frame = self._found.pop(self._next, None)
            if frame is None or frame.concealed:
                if self._held is None:
                    raise AssertionError("the first frame is one that was decoded")
                skipped = frame is not None and frame.skipped
                self._skipped += skipped
                self._concealed += not skipped
                frame = replace(self._held, concealed=True, skipped=skipped, number=self._next)
            else:
                self._held = frame
            out.append(replace(frame, index=self._next - self._first))
            self._next += 1
        return out


def stream_decoder(header: Header, profile: Profile, reorder: int = 4) -> MotionDecoder | LayeredDecoder:
    """Return what decodes the motion packets of a stream, of one layer or several."""
    if not header.layers:
        return MotionDecoder(header.layout, profile, reorder)
    return LayeredDecoder((header.layout, *header.layers), profile, reorder)


def keep_layers(header: Header, units: Iterable[BodyUnit], count: int) -> tuple[Header, Iterator[BodyUnit]]:
    """Return a stream's header and units with its first `count` layers only, as a relay does: nothing is decoded.

    The base alone is a stream of version 3, which older readers can read.

    Raises:
        KinecastError: fewer layers than one.

    Example:
        >>> header, units = keep_layers(reader.header, reader.units(), 1)
    """
    if count < 1:
        raise KinecastError(f"layers: expected 1 or more to keep, found {count}")
    if count > len(header.layers):
        return header, iter(units)
    kept = header.layers[: count - 1]
    return replace(header, layers=kept, version=header.version if kept else REFERENCES), _kept(units, count)


def _kept(units: Iterable[BodyUnit], count: int) -> Iterator[BodyUnit]:
    layers: dict[int, int] = {}  # of pictures, by number
    before: BodyUnit | None = None
    for unit in units:
        layer = 0
        if isinstance(unit, MotionPacket | PictureLayerUnit):
            layer = unit.layer
        elif isinstance(unit, ReferenceChunk):
            if not unit.index:  # a number that is used again may be of another layer
                announced = isinstance(before, PictureLayerUnit) and before.picture == unit.picture
                layers[unit.picture] = before.layer if announced and isinstance(before, PictureLayerUnit) else 0
            layer = layers.get(unit.picture, 0)
        elif isinstance(unit, ChoiceUnit):
            layer = layers.get(unit.picture, 0)
        before = unit
        if layer < count:
            yield unit
