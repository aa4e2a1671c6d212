"""A clip's sound: copied if the output's container supports it, otherwise re-encoded.

Times are seconds since the first displayed frame. Sound keeps its offset and gaps, and ends with the last frame, to
within half a packet (10 to 15 ms).
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

# Formats that players support; None means all. Other sound is re-encoded.
_COPIED: dict[str, tuple[str, ...] | None] = {
    ".mp4": ("aac", "mp3", "opus", "ac3", "eac3", "alac", "flac"),
    ".mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
    ".mkv": None,
    ".webm": ("opus", "vorbis"),
}
_ENCODERS = {".mp4": "aac", ".mov": "aac", ".mkv": "aac", ".webm": "libopus"}
_MUXERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_SAMPLES = {"aac": "fltp", "libopus": "flt"}
_CHANNEL_BITS = 64_000  # bits per second and channel of re-encoded sound
_TRIED = 50  # packets of which at least one must be decodable

_FAULTS = (av.error.FFmpegError, ValueError)  # PyAV raises ValueError for unsupported parameters


Decodable = tuple[Any, Callable[[], list[Any]]]  # a packet and its decoder


@dataclass(frozen=True)
class SoundSource:
    """A sound stream that can be read more than once.

    Each call of `packets` yields its packets from the start, with times relative to the first frame, each with a
    function that decodes it to frames; the last is None, with a function that returns the frames still in the decoder.
    `add` adds a stream of its codec to an output container.
    """

    where: str  # for messages
    codec: str
    packets: Callable[[], Iterator[Decodable]]
    add: Callable[[Any], Any]


def clip_sound(path: str | Path, start: float = 0.0) -> SoundSource | None:
    """Return the sound of a clip; None if it has none, or, with a warning, none that can be decoded.

    Pictures and folders have none; faults of the file are reported when its frames are read.

    Args:
        path: the clip.
        start: origin of times, in seconds of the clip.
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
    """Return whether a source's first packets can be decoded; if not, warn that it is omitted."""
    if any(frames for _, frames in _sound(source, _TRIED)):
        return True
    _warn(f"{source.where}: its sound ({source.codec}) cannot be decoded: it is omitted")
    return False


class PacketQueue:
    """Packets of a sound stream, released as the pictures proceed. An error ends only the sound, with a warning."""

    def __init__(self, packets: Iterator[Any], where: str) -> None:
        self._packets, self._where = packets, where
        self._waiting: Any = None  # the first packet beyond the end so far
        self._last: int | None = None  # decoding time of the last packet

    def until(self, seconds: float) -> Iterator[Any]:
        """Yield the packets whose middle comes before `seconds`, in order, dropping any that run backwards."""
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
    """Writes sound into a container beside pictures.

    Args:
        source: the sound to write.
        container: the output, before its first packet.
        suffix: of the output, a format with sound.
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
        """Write the sound before `seconds`."""
        for packet in self._queue.until(seconds):
            packet.stream = self._stream
            self._container.mux(packet)


def has_sound(suffix: str) -> bool:
    """Return whether a container, by its file suffix, can hold sound."""
    return suffix in _MUXERS


def transcoded(source: SoundSource, encoder: Any) -> Iterator[Any]:
    """Yield a source's sound re-encoded, from the first frame on, with silence in gaps.

    Args:
        source: the sound to encode.
        encoder: an unopened audio encoder; without a chosen layout and rate it gets the source's, at most stereo.
    """
    graph: Any = None
    expected = 0  # start of a frame without a time: it follows the one before
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
    """Check the bit rate of sound.

    Raises:
        KinecastError: outside Opus' range for mono speech.
    """
    if not 6 <= kbps <= 96:
        raise KinecastError(f"sound: expected 6 to 96 kbps, found {kbps:g}: choose another --sound-kbps")


def opus_encoder(kbps: float) -> Any:
    """Return an encoder of mono speech with packets of 20 ms."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = OPUS_RATE, "mono", _SAMPLES["libopus"]
    encoder.time_base, encoder.bit_rate = Fraction(1, OPUS_RATE), round(1000 * kbps)
    encoder.options = {"application": "voip", "frame_duration": "20", "vbr": "constrained"}
    encoder.open()
    return encoder


def _best(container: Any) -> Any:
    return container.streams.best("audio")


def _first_shown(container: Any, video: Any) -> float:
    """Return the time of the first displayed frame, on the container's clock."""
    for frame in decoded(container, video):
        if frame is not None and not frame.is_corrupt:
            return float(frame.pts * video.time_base) if frame.pts is not None else 0.0
    return 0.0


def _moved(packet: Any, start: float) -> Any:
    """Shift a packet's time by `start`; packets of formats without display times have decoding times."""
    shift = round(start / packet.time_base)
    pts = packet.pts if packet.pts is not None else packet.dts
    if pts is None:
        raise ValueError("a packet has no time")
    packet.pts = pts - shift
    packet.dts = packet.dts - shift if packet.dts is not None else packet.pts
    return packet


def _settling(packets: Iterator[Any]) -> Iterator[Any]:
    """Drop packets before the first frame except the last, which primes the decoder."""
    return (p for p in packets if p.pts + 2 * (p.duration or 0) > 0)


def _copies(source: SoundSource, suffix: str) -> bool:
    """Return whether a container accepts a source's packets unchanged: listed, and tried in memory."""
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
                _warn(f"{source.where}: its sound is damaged at {when:.1f} s: what cannot be decoded is omitted")


def _set_up(encoder: Any, frame: Any) -> None:
    channels = min(frame.layout.nb_channels, 2)
    encoder.layout, encoder.format = ("mono", "stereo")[channels - 1], _SAMPLES[encoder.name]
    encoder.bit_rate = channels * _CHANNEL_BITS
    encoder.open()


def _to_encoder(frame: Any, encoder: Any) -> Any:
    """Return a filter graph from frames like this one to the encoder's format, without gaps, starting at 0."""
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
    """Push a frame, or the end, and yield the resulting packets."""
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
