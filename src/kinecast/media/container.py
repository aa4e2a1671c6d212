"""Clips through libav: opened, demuxed for their times alone, and decoded up to the first damage."""

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
# Listed, because libav otherwise renders any text file as video and follows the URLs in a playlist.
_FORMATS = "mov,matroska,avi,gif,mpegts,mpeg,flv,asf,ogg,ivf,h264,hevc,obu,yuv4mpegpipe,mxf,nut,dv,wav,mp3,flac,aac"
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_GIF_SHORTEST, _GIF_UNTIMED = 2, 10  # hundredths of a second: a shorter delay means the second
_JOINED = ("mpegts", "mpeg")
_RAW = ("h264", "hevc")
_LEAP = 10  # seconds: no recording has a gap that long, in sound or pictures
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


@contextmanager
def open_clip(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield libav's container and the video stream that players show.

    Of several: the file's default, then the largest, then the first; never a cover picture.

    Raises:
        KinecastError: libav cannot read it, or it has no video.
    """
    try:
        # The prefix keeps a name with a colon from being parsed as a URL.
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
            f"{path}: expected a complete mp4, found one without its index (moov), which is at the end and cut off or "
            "damaged, so no frame can be read: copy or record it again"
        )
    return KinecastError(f"{path}: expected a clip or picture ({_READABLE}), found a file of another kind: convert it")


def clip_timing(path: Path) -> tuple[Timing, int | None]:
    """Determine a clip's rate and length from its packets' times, and its number of frames from the header, if there.

    Nothing is decoded.

    Raises:
        KinecastError: as `open_clip`.
    """
    with open_clip(path) as (container, stream):
        times, last = _packet_times(container, stream)
        tick = float(stream.time_base or 0)
        # The header also counts what an edit list removed.
        frames = min(stream.frames, len(times)) or None
        return measured(times * tick, header_fps(stream), tick, last * tick), frames


def _packet_times(container: Any, stream: Any) -> tuple[np.ndarray, float]:
    """Return the sorted display times of frames and the last one's duration, in ticks of the stream's clock.

    If the file has none, they follow at the rate its header claims.
    """
    times, last, count = array("d"), (-float("inf"), 0.0), 0
    with suppress(av.error.FFmpegError):  # the damage is reported when frames are decoded
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
    """Return whether packets have display times. In avi they only have an order, and libav guesses badly."""
    return container.format.name != "avi"


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets with their display times.

    A gif's delay below 0.02 s is replaced. Where files were joined the clock continues.
    """
    packets = container.demux(stream)
    if container.format.name == "gif":
        return _gif_timed(packets)
    return _continued(packets) if may_be_joined(container) else packets


def may_be_joined(container: Any) -> bool:
    """Return whether files of a format can be joined by `cat`: the first packet after a seam is marked as damaged."""
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
    """Yield packets; where the clock restarts or jumps, they follow the previous one."""
    shift, last, step, delay = 0, None, 1, 0
    for packet in packets:
        if packet.dts is not None:
            ahead = None if last is None else packet.dts + shift - last
            if ahead is not None and not 0 < ahead * packet.time_base < _LEAP:
                shift += step - ahead
            if packet.pts is not None:
                if abs(packet.pts - packet.dts) * packet.time_base < _LEAP:
                    delay = packet.pts - packet.dts
                packet.pts = packet.dts + shift + delay  # at a seam libav may mix the times of both sides
            packet.dts += shift
            last, step = packet.dts, packet.duration or step
        yield packet


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield decoded frames; at the first damage those still buffered in the decoder, then None."""
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
    text = "files were joined here, or packets are missing: a few frames may be damaged; all are used"
    warnings.warn(KinecastWarning(f"{path}: {text}"), stacklevel=2)


def _decoder(stream: Any) -> Any:
    """Return the stream's decoder. Transparency of VP8 and VP9 is stored separately, and only libvpx reads it."""
    if has_alpha_beside(stream):
        with suppress(av.codec.codec.UnknownCodecError):
            return av.CodecContext.create(_WITH_ALPHA[stream.codec_context.name], "r")
    return stream.codec_context


def has_alpha_beside(stream: Any) -> bool:
    """Return whether a webm declares transparency."""
    said = {name.lower(): value for name, value in stream.metadata.items()}
    return stream.codec_context.name in _WITH_ALPHA and said.get("alpha_mode") == "1"


def header_fps(stream: Any) -> float:
    """Return the frame rate that the file claims, which may be wrong."""
    if stream.container.format.name in _RAW:
        return float(
            stream.guessed_rate or DEFAULT_FPS
        )  # the stream's own value; the mean rate is the demuxer's default
    return float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)


def promised_seconds(stream: Any) -> float:
    """Return the stream's length from its header, 0 if unknown: mkv and webm keep it in a tag."""
    if may_be_joined(stream.container):
        return 0.0  # libav's guess, from the first and the last clock
    if stream.duration:
        return float(stream.duration * stream.time_base)
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found:
        hours, minutes, seconds = map(float, found.groups())
        return hours * 3600 + minutes * 60 + seconds - float((stream.start_time or 0) * stream.time_base)
    return 0.0
