"""Clips as libav reads them: opened, demuxed for their times alone, and decoded up to the first damage."""

import re
import warnings
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.media.times import DEFAULT_FPS, Timing, measured

_READABLE = "mp4, mov, webm, mkv, avi, gif, png, jpg, webp, avif, heic, or a folder of pictures"
# Named, because libav otherwise renders any text file as film and follows the addresses in a playlist.
_FORMATS = "mov,matroska,avi,gif,mpegts,mpeg,flv,asf,ogg,ivf,h264,hevc,obu,yuv4mpegpipe,mxf,nut,dv,wav,mp3,flac,aac"
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_GIF_SHORTEST, _GIF_UNTIMED = 2, 10  # hundredths of a second: a shorter delay is none, and stands for the second
_JOINED = ("mpegts", "mpeg")
_RAW = ("h264", "hevc")
_LEAP = 10  # seconds: no recording is silent for so long, in sound or pictures
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


@contextmanager
def open_clip(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield libav's container and the video stream that players show.

    Of several it is the one that the file calls its default, then the largest, then the first; never a cover picture.

    Raises:
        KinecastError: libav cannot read it, or there is no video in it.
    """
    try:
        # The prefix keeps a name with a colon from being taken for an address.
        container = av.open(f"file:{path}", options={"format_whitelist": _FORMATS}, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise _unreadable(path) from error
    with container:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]  # not a cover
        if not streams:
            found = "only sound" if container.streams.audio else "no video stream"
            raise KinecastError(f"{path}: expected a clip with pictures, found {found}: choose a video file")
        yield container, max(streams, key=_rank)


def _rank(stream: Any) -> tuple[bool, int]:
    return bool(stream.disposition & Disposition.default), stream.width * stream.height


def _unreadable(path: Path) -> KinecastError:
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] in _MP4_BOXES:
        return KinecastError(
            f"{path}: expected a whole mp4, found one without its index (moov), which stands at the end and is cut "
            "off or damaged, so no frame can be read: copy or record it again"
        )
    return KinecastError(f"{path}: expected a clip or picture ({_READABLE}), found a file of another kind: convert it")


def clip_timing(path: Path) -> tuple[Timing, int | None]:
    """Tell a clip's rate and length from the times of its packets, and its number of frames if the header does.

    Nothing is decoded.

    Raises:
        KinecastError: as `open_clip`.
    """
    with open_clip(path) as (container, stream):
        times, last = _packet_times(container, stream)
        tick = float(stream.time_base or 0)
        # The header counts what an edit has taken out too.
        frames = min(stream.frames, len(times)) or None
        return measured(times * tick, header_fps(stream), tick, last * tick), frames


def _packet_times(container: Any, stream: Any) -> tuple[np.ndarray, float]:
    """Return when frames are shown, sorted, and how long the last one stays, in ticks of the stream's clock.

    Where the file does not say, they follow each other at the rate that its header claims.
    """
    times, last, count = array("d"), (-float("inf"), 0.0), 0
    with suppress(av.error.FFmpegError):  # the damage is told of when frames are decoded
        for packet in packets_of(container, stream):
            if packet.size == 0 or packet.is_discard:
                continue
            if packet.is_corrupt and not may_be_joined(container):
                break
            count += 1
            ticks = packet.pts if keeps_times(container) else packet.dts
            if ticks is not None:
                times.append(ticks)
                last = max(last, (ticks, packet.duration or 0))
    if 2 * len(times) < count:
        step = 1 / float(header_fps(stream) * stream.time_base)
        return np.arange(count) * step, step
    return np.sort(np.frombuffer(times, dtype=np.float64)), last[1]


def keeps_times(container: Any) -> bool:
    """Tell whether packets say when they are shown. In avi they have an order alone, and libav guesses badly."""
    return container.format.name != "avi"


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets with the times at which players show them.

    A gif's delay below 0.02 s is none. Where files were joined the clock goes on.
    """
    packets = container.demux(stream)
    if container.format.name == "gif":
        return _gif_timed(packets)
    return _continued(packets) if may_be_joined(container) else packets


def may_be_joined(container: Any) -> bool:
    """Tell whether files of a format can be joined by `cat`: the first packet after a seam is marked as damaged."""
    return container.format.name in _JOINED


def _gif_timed(packets: Iterator[Any]) -> Iterator[Any]:
    late = 0
    for packet in packets:
        if packet.pts is not None:
            packet.pts, packet.dts = packet.pts + late, packet.pts + late
            if (delay := packet.duration or 0) < _GIF_SHORTEST:
                packet.duration = _GIF_UNTIMED
                late += _GIF_UNTIMED - delay
        yield packet


def _continued(packets: Iterator[Any]) -> Iterator[Any]:
    """Yield packets; those after a clock that starts anew, or leaps, follow the one before."""
    shift, last, step, delay = 0, None, 1, 0
    for packet in packets:
        if packet.dts is not None:
            ahead = None if last is None else packet.dts + shift - last
            if ahead is not None and not 0 < ahead * packet.time_base < _LEAP:
                shift += step - ahead
            if packet.pts is not None:
                if abs(packet.pts - packet.dts) * packet.time_base < _LEAP:
                    delay = packet.pts - packet.dts
                packet.pts = packet.dts + shift + delay  # at a seam libav may have one time of either side
            packet.dts += shift
            last, step = packet.dts, packet.duration or step
        yield packet


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded frames; at the first damage those that the decoder still holds back, then None."""
    decoder = _decoder(stream)
    try:
        for packet in packets_of(container, stream):
            if packet.is_corrupt:
                if not may_be_joined(container):
                    break
                _warn_seam(container.name.removeprefix("file:"))
            yield from decoder.decode(packet)
        else:
            return
    except av.error.FFmpegError:
        pass
    with suppress(av.error.FFmpegError):
        yield from decoder.decode(None)
    yield None


@lru_cache(1024)  # a clip is read more than once, and Python forgets what it has said whenever a filter changes
def _warn_seam(path: str) -> None:
    text = "files were joined here, or packets are missing: a few frames may be damaged, and all are used"
    warnings.warn(KinecastWarning(f"{path}: {text}"), stacklevel=2)


def _decoder(stream: Any) -> Any:
    """Return the stream's decoder. Transparency of VP8 and VP9 lies beside the pictures, where libvpx alone looks."""
    if has_alpha_beside(stream):
        with suppress(av.codec.codec.UnknownCodecError):
            return av.CodecContext.create(_WITH_ALPHA[stream.codec_context.name], "r")
    return stream.codec_context


def has_alpha_beside(stream: Any) -> bool:
    """Tell whether a webm says that it has transparency."""
    said = {name.lower(): value for name, value in stream.metadata.items()}
    return stream.codec_context.name in _WITH_ALPHA and said.get("alpha_mode") == "1"


def header_fps(stream: Any) -> float:
    """Return the frame rate that the file claims, which need not be true."""
    if stream.container.format.name in _RAW:
        return float(stream.guessed_rate or DEFAULT_FPS)  # what the stream says; the mean rate is the demuxer's default
    return float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def promised_seconds(stream: Any) -> float:
    """Return the stream's length by its header, 0 if that does not say: mkv and webm keep it in a tag."""
    if may_be_joined(stream.container):
        return 0.0  # libav's guess, from the first and the last clock
    if stream.duration:
        return float(stream.duration * stream.time_base)
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found:
        hours, minutes, seconds = map(float, found.groups())
        return hours * 3600 + minutes * 60 + seconds - float((stream.start_time or 0) * stream.time_base)
    return 0.0
