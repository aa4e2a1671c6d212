"""Sound of a clip beside its pictures: copied where the output's container takes it, otherwise coded anew.

Times are seconds since the first frame that is shown. Sound begins where it began in the clip, earlier, later or with
holes in it, and ends with the last frame, to half a packet (10 to 15 ms).
"""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
from av.filter import Graph

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.container import decoded, open_clip, packets_of
from kinecast.media.sources import existing

OPUS_RATE = 48_000  # Hz, the clock of every Opus stream

# What players are known to take; None is everything. Other sound is coded anew.
_COPIED: dict[str, tuple[str, ...] | None] = {
    ".mp4": ("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"),
    ".mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
    ".mkv": None,
    ".webm": ("opus", "vorbis"),
}
_ENCODERS = {".mp4": "aac", ".mov": "aac", ".mkv": "aac", ".webm": "libopus"}
_MUXERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_SAMPLES = {"aac": "fltp", "libopus": "flt"}
_CHANNEL_BITS = 64_000  # bits per second and channel of sound that is coded anew
_TRIED = 50  # packets among which one must be decodable

_FAULTS = (av.error.FFmpegError, ValueError)  # PyAV raises ValueError on parameters that it cannot use


Decodable = tuple[Any, Callable[[], list[Any]]]  # a packet, and what decodes it


@dataclass(frozen=True)
class SoundSource:
    """A sound stream that can be read more than once.

    `packets` gives its packets anew at each call, their times moved to count from the first frame, each with what
    decodes it to frames; the last is None, with what gives the frames that the decoder still holds back. `add` adds a
    stream of its codec to an output container.
    """

    where: str  # for messages
    codec: str
    packets: Callable[[], Iterator[Decodable]]
    add: Callable[[Any], Any]


def clip_sound(path: str | Path, start: float = 0.0) -> SoundSource | None:
    """Return the sound of a clip with pictures; None if it has none, or none that can be decoded, which is then said.

    Pictures and folders have none; whoever reads the frames says what is wrong with a file.

    Args:
        path: the clip.
        start: seconds of the clip that times count from.
    """
    try:
        path = existing(path)
        if path.is_dir():
            return None
        with open_clip(path) as (container, video):
            stream = _best(container)
            if stream is None:
                return None
            codec = stream.codec_context.codec.canonical_name if stream.codec_context else "an unknown codec"
            first = _first_shown(container, video) + start
    except KinecastError:
        return None

    def packets() -> Iterator[Decodable]:
        with open_clip(path) as (opened, _):
            for packet in packets_of(opened, _best(opened)):
                yield (_moved(packet, first) if packet.size else None), packet.decode

    def add(output: Any) -> Any:
        with open_clip(path) as (opened, _):
            return output.add_stream_from_template(_best(opened))

    source = SoundSource(str(path), codec, packets, add)
    return source if decodable(source) else None


def decodable(source: SoundSource) -> bool:
    """Return whether a source's first packets can be decoded; if not, say that it is left out."""
    if any(frames for _, frames in _sound(source, _TRIED)):
        return True
    _warn(f"{source.where}: its sound ({source.codec}) cannot be decoded: it is left out")
    return False


class PacketQueue:
    """Packets of a sound stream, given out as the pictures go on. A fault ends the sound, with a line, and not more."""

    def __init__(self, packets: Iterator[Any], where: str) -> None:
        self._packets, self._where = packets, where
        self._waiting: Any = None  # the packet that is beyond the end so far
        self._last: int | None = None  # decoding time of the last packet

    def until(self, seconds: float) -> Iterator[Any]:
        """Yield the packets whose middle comes before `seconds`, in order; of those, none that runs backwards."""
        try:
            while (packet := self._waiting or next(self._packets, None)) is not None:
                self._waiting = None
                if (packet.pts + (packet.duration or 0) / 2) * packet.time_base > seconds:
                    self._waiting = packet
                    return
                if self._last is None or packet.dts > self._last:
                    self._last = packet.dts
                    yield packet
        except _FAULTS as error:
            self._packets = iter(())
            _warn(f"{self._where}: its sound is damaged and ends at {seconds:.1f} s or before: {_cause(error)}")


class SoundTrack:
    """Sound on its way into a container beside pictures.

    Args:
        source: what to write.
        container: the output, before its first packet.
        suffix: of the output, a key of the formats that have sound.
    """

    def __init__(self, source: SoundSource, container: Any, suffix: str) -> None:
        self._container = container
        if _copies(source, suffix):
            self._stream = source.add(container)
            packets = _settling(packet for packet, _ in _sound(source) if packet is not None)
        else:
            self._stream = container.add_stream(_ENCODERS[suffix], rate=OPUS_RATE)
            packets = transcoded(source, self._stream.codec_context)
        self._queue = PacketQueue(packets, source.where)

    def write_until(self, seconds: float) -> None:
        """Write what is heard before `seconds`."""
        for packet in self._queue.until(seconds):
            packet.stream = self._stream
            self._container.mux(packet)


def has_sound(suffix: str) -> bool:
    """Return whether a container, by the suffix of its files, can have sound."""
    return suffix in _MUXERS


def transcoded(source: SoundSource, encoder: Any) -> Iterator[Any]:
    """Yield a source's sound coded anew, from the first frame on, silent where there is none.

    Args:
        source: what to code.
        encoder: an audio encoder that is not open yet; one whose layout and rate were not chosen gets the source's,
            stereo at most.
    """
    graph: Any = None
    expected = 0  # where a frame that does not say when it begins follows the one before
    for frame in (frame for _, frames in _sound(source) for frame in frames):
        if graph is None:
            if not encoder.is_open:
                _set_up(encoder, frame)
            graph = _to_encoder(frame, encoder)
        frame.pts = expected if frame.pts is None else frame.pts
        expected = frame.pts + round(frame.samples / frame.sample_rate / frame.time_base)
        yield from _through(graph, frame, encoder)
    if graph is not None:
        yield from _through(graph, None, encoder)
        yield from _encoded(encoder, None)


def check_sound_kbps(kbps: float) -> None:
    """Check what sound may cost.

    Raises:
        KinecastError: it is not what Opus codes speech in one channel with.
    """
    if not 6 <= kbps <= 96:
        raise KinecastError(f"sound: expected 6 to 96 kbps, found {kbps:g}: choose another --sound-kbps")


def opus_encoder(kbps: float) -> Any:
    """Return an encoder of speech in one channel, packets of 20 ms."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = OPUS_RATE, "mono", _SAMPLES["libopus"]
    encoder.time_base, encoder.bit_rate = Fraction(1, OPUS_RATE), round(1000 * kbps)
    encoder.options = {"application": "voip", "frame_duration": "20", "vbr": "constrained"}
    encoder.open()
    return encoder


def _best(container: Any) -> Any:
    return container.streams.best("audio")


def _first_shown(container: Any, video: Any) -> float:
    """Return the time of the first frame that is shown, on the container's clock."""
    for frame in decoded(container, video):
        if frame is not None and not frame.is_corrupt:
            return float(frame.pts * video.time_base) if frame.pts is not None else 0.0
    return 0.0


def _moved(packet: Any, start: float) -> Any:
    """Let a packet's time count from `start`; packets of formats without times of their own have decoding times."""
    shift = round(start / packet.time_base)
    pts = packet.pts if packet.pts is not None else packet.dts
    if pts is None:
        raise ValueError("a packet has no time")
    packet.pts = pts - shift
    packet.dts = packet.dts - shift if packet.dts is not None else packet.pts
    return packet


def _settling(packets: Iterator[Any]) -> Iterator[Any]:
    """Leave out packets before the first frame, but the last, from which a decoder settles."""
    return (p for p in packets if p.pts + 2 * (p.duration or 0) > 0)


def _copies(source: SoundSource, suffix: str) -> bool:
    """Return whether a container takes a source's packets as they are: listed, and tried in memory."""
    codecs = _COPIED[suffix]
    if codecs is not None and source.codec not in codecs:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=_MUXERS[suffix]) as trial:
            stream = source.add(trial)
            for packet, _ in islice(source.packets(), 3):
                if packet is not None:
                    packet.stream = stream
                    trial.mux(packet)
    except _FAULTS:
        return False
    return True


def _sound(source: SoundSource, limit: int | None = None) -> Iterator[tuple[Any, list[Any]]]:
    """Yield packets that can be decoded, with their frames; the last is None, as in `SoundSource`."""
    damaged = False
    for packet, decode in islice(source.packets(), limit):
        try:
            yield packet, decode()
        except av.error.FFmpegError:
            if packet is not None and limit is None and not damaged:
                damaged = True
                when = float(packet.pts * packet.time_base)
                _warn(f"{source.where}: its sound is damaged at {when:.1f} s: what cannot be decoded is left out")


def _set_up(encoder: Any, frame: Any) -> None:
    channels = min(frame.layout.nb_channels, 2)
    encoder.layout, encoder.format = ("mono", "stereo")[channels - 1], _SAMPLES[encoder.name]
    encoder.bit_rate = channels * _CHANNEL_BITS
    encoder.open()


def _to_encoder(frame: Any, encoder: Any) -> Any:
    """Return a filter graph from frames like this one to frames as the encoder wants them, without holes, from 0 on."""
    graph = Graph()
    nodes = [
        graph.add_abuffer(
            sample_rate=frame.sample_rate,
            format=frame.format.name,
            layout=frame.layout.name,
            time_base=frame.time_base,
        ),
        graph.add("aresample", f"{encoder.sample_rate}:async=1:first_pts=0"),
        graph.add(
            "aformat",
            f"sample_fmts={encoder.format.name}:channel_layouts={encoder.layout.name}:"
            f"sample_rates={encoder.sample_rate}",
        ),
        graph.add("asetnsamples", f"n={encoder.frame_size}:p=1"),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _through(graph: Any, frame: Any, encoder: Any) -> Iterator[Any]:
    """Push a frame, or the end, and yield the packets of what comes out."""
    graph.push(frame)
    with suppress(av.error.BlockingIOError, av.error.EOFError):
        while True:
            yield from _encoded(encoder, graph.pull())


def _encoded(encoder: Any, frame: Any) -> Iterator[Any]:
    for packet in encoder.encode(frame):
        packet.time_base = packet.time_base or encoder.time_base
        yield packet


def _cause(error: BaseException) -> str:
    return str(error).split(": '")[0].splitlines()[0] if str(error) else type(error).__name__


def _warn(line: str) -> None:
    warnings.warn(KinecastWarning(line), stacklevel=3)
