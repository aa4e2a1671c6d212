"""Clips of a flash and a beep at known times, and where both are found again."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

VIDEO = {
    ".mp4": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx-vp9",
    ".avi": "mpeg4",
    ".ts": "libx264",
}
SIZE = 64


def write_timed(
    path: Path,
    times: Sequence[float] | np.ndarray,
    end: float,
    flash: float,
    sound: str | None = None,
    beep: float | None = None,
    sound_from: float = 0.0,
    sound_until: float | None = None,
    spoiled_from: float = float("inf"),
) -> Path:
    """Write frames at `times` (s), white from `flash` on, else dark; sound is silent but for a beep from `beep` on.

    Packets of sound from `spoiled_from` on are noise.
    """
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(VIDEO.get(path.suffix, "libx264"), rate=25)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        video.options = {"crf": "20", "preset": "veryfast", "cpu-used": "8"}
        audio: Any = None
        if sound is not None:
            audio = container.add_stream(sound, rate=48000)
            audio.codec_context.layout, audio.codec_context.bit_rate = "mono", 96_000
        ends = [*times[1:], end]
        lengths = {}
        for i, (begin, until) in enumerate(zip(times, ends, strict=True)):
            picture = np.full((SIZE, SIZE, 3), 225 if begin >= flash - 1e-6 else 30, np.uint8)
            picture[:, (3 * i) % SIZE] = 128
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * begin), Fraction(1, 1000)
            lengths[frame.pts] = round(1000 * (until - begin))
            _mux(container, video.encode(frame), lengths)
        _mux(container, video.encode(None), lengths)
        if audio is not None:
            _beep(container, audio, flash if beep is None else beep, sound_from, sound_until or end, spoiled_from)
    return path


def _mux(container: Any, packets: list[Any], lengths: dict[int, int]) -> None:
    for packet in packets:
        if packet.pts in lengths:
            packet.duration = lengths[packet.pts]
        container.mux(packet)


def _beep(container: Any, audio: Any, beep: float, begin: float, end: float, spoiled: float) -> None:
    moments = np.arange(round(48000 * begin), round(48000 * end))
    tone = np.where(moments >= 48000 * beep, 0.5 * np.sin(2 * np.pi * 440 * moments / 48000), 0).astype(np.float32)
    for start in range(0, len(tone), 960):
        part = tone[start : start + 960]
        frame = av.AudioFrame.from_ndarray(part[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, int(moments[start]), Fraction(1, 48000)
        container.mux([_spoiled(packet, spoiled) for packet in audio.encode(frame)])
    container.mux([_spoiled(packet, spoiled) for packet in audio.encode(None)])


def _spoiled(packet: Any, begin: float) -> Any:
    if packet.pts * packet.time_base < begin:
        return packet
    noise = av.Packet(np.random.default_rng(abs(packet.pts)).integers(0, 256, max(packet.size, 40), np.uint8).tobytes())
    noise.stream, noise.time_base = packet.stream, packet.time_base
    noise.pts, noise.dts, noise.duration = packet.pts, packet.dts, packet.duration
    return noise


def flash_of(path: Path) -> float:
    """Return when the first bright frame is shown, on the container's clock."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            if frame.to_ndarray(format="gray").mean() > 150:
                return float(frame.time)
    raise AssertionError(f"{path}: no flash")


def beep_of(path: Path) -> float:
    """Return when the beep begins, on the container's clock."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", 48000)
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.1)
                if len(loud):
                    return float(frame.time or 0.0) + float(loud[0]) / 48000
    raise AssertionError(f"{path}: no beep")


def lengths_of(path: Path) -> tuple[float, float]:
    """Return how long video and sound last, from the first frame on, by their packets."""
    with av.open(str(path)) as container:
        ends: dict[str, float] = {}
        first = float("inf")
        for packet in container.demux():
            if packet.pts is not None and packet.stream.type in ("video", "audio"):
                if packet.stream.type == "video":
                    first = min(first, float(packet.pts * packet.time_base))
                end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                ends[packet.stream.type] = max(end, ends.get(packet.stream.type, 0.0))
    return ends["video"] - first, ends.get("audio", 0.0) - first


def sound_codec(path: Path) -> str | None:
    """Return the codec of a clip's sound."""
    with av.open(str(path)) as container:
        audio = container.streams.best("audio")
        return None if audio is None else audio.codec_context.codec.canonical_name
