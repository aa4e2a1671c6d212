"""Ordinary video codecs with call-like settings, through PyAV, at their lowest rates.

Settings: one thread, no B-frames, no lookahead, every packet out as its frame goes in (checked while encoding), one
intra frame at the start and none after; slow presets, which favour the codecs: a call could not always afford them.
Constant quality, since rate control at a few kilobits per second only makes them worse.

Notation: T frames.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from PIL import Image

from kinecast.errors import KinecastError

os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 writes its settings on stderr for every stream; errors alone will do


@dataclass(frozen=True)
class VideoCodec:
    """An encoder: `options` at a constant quality `crf`, with the useful values `crfs`; `label` is for tables."""

    name: str
    label: str
    options: tuple[tuple[str, str], ...]
    crfs: tuple[int, ...]

    def settings(self, crf: int) -> dict[str, str]:
        """Return libav's options."""
        return {key: value.format(crf=crf) for key, value in self.options}

    @property
    def available(self) -> bool:
        """Whether this PyAV has it."""
        try:
            return bool(av.codec.Codec(self.name, "w"))
        except av.error.FFmpegError:
            return False


_H264_SEI = 6  # the type of a unit that decides no pixel
_X265 = "log-level=error:info=0:crf={crf}:bframes=0:rc-lookahead=0:keyint=-1:scenecut=0:pools=1:frame-threads=1"
CODECS = {
    "x264": VideoCodec(
        "libx264",
        "H.264 (x264)",
        (
            *(("preset", "veryslow"), ("tune", "zerolatency"), ("crf", "{crf}"), ("bf", "0"), ("g", "100000")),
            *(("sc_threshold", "0"), ("threads", "1")),
        ),
        (51, 48, 45, 42, 38, 34, 30),
    ),
    "x265": VideoCodec(
        "libx265",
        "H.265 (x265)",
        (("preset", "slow"), ("tune", "zerolatency"), ("x265-params", _X265)),
        (51, 48, 45, 42, 38, 34, 30),
    ),
    "av1": VideoCodec(
        "libsvtav1",
        "AV1 (SVT-AV1)",
        (
            *(("preset", "5"), ("crf", "{crf}"), ("g", "100000")),
            ("svtav1-params", "pred-struct=1:lookahead=0:scd=0:lp=1:rtc=1"),
        ),
        (63, 60, 56, 52, 47, 42, 36),
    ),
    "vp9": VideoCodec(
        "libvpx-vp9",
        "VP9 (libvpx)",
        (
            *(("crf", "{crf}"), ("b", "0"), ("deadline", "realtime"), ("cpu-used", "1"), ("lag-in-frames", "0")),
            *(("auto-alt-ref", "0"), ("g", "100000"), ("threads", "1"), ("error-resilient", "0")),
        ),
        (63, 60, 56, 52, 47, 42, 36),
    ),
}


def _at_speed(name: str, crfs: tuple[int, ...], **options: str) -> VideoCodec:
    """Return an encoder of CODECS with other options, and constant qualities worth looking at."""
    known = CODECS[name]
    return replace(known, options=tuple((dict(known.options) | options).items()), crfs=crfs)


_X_STEPS, _AV_STEPS = (51, 44, 36), (63, 55, 44)
# As slow as a low delay lets them be. libx265's veryslow runs at three pictures a second and gains a tenth: slow it is.
SLOW_CODECS = {
    "x264": _at_speed("x264", _X_STEPS),
    "x265": _at_speed("x265", _X_STEPS),
    "av1": _at_speed("av1", _AV_STEPS, preset="3", **{"svtav1-params": "pred-struct=1:lookahead=0:scd=0:lp=1"}),
    "vp9": _at_speed("vp9", _AV_STEPS, deadline="good", **{"cpu-used": "0"}),
}
# As calls run them, next to a camera and a network: libwebrtc takes VP9 at speed 7 for small pictures.
CALL_CODECS = {
    "x264": _at_speed("x264", _X_STEPS, preset="veryfast"),
    "x265": _at_speed("x265", _X_STEPS, preset="veryfast"),
    "av1": _at_speed("av1", _AV_STEPS, preset="10"),
    "vp9": _at_speed("vp9", _AV_STEPS, **{"cpu-used": "7"}),
}


@dataclass(frozen=True)
class Coded:
    """The result of coding a clip: bytes of each packet, the first of them the intra frame, and frames (T, H, W, 3)."""

    packet_bytes: list[int]
    frames: np.ndarray
    delay: int  # maximum frames delayed in the encoder


def code_clip(codec: VideoCodec, frames: np.ndarray, fps: Fraction, crf: int, shrink: int = 1) -> Coded:
    """Encode and decode frames (T, H, W, 3) uint8, at 1/shrink of their size if that is above 1.

    Container bytes are not counted.

    Raises:
        KinecastError: this PyAV has no such encoder, or it does not take frames of this size.
    """
    height, width = frames.shape[1] // shrink, frames.shape[2] // shrink
    fault = f"{codec.label}: expected frames that it can code, found {width}x{height}: omit it, or use larger ones"
    if min(height, width) < 2:
        raise KinecastError(fault)
    try:
        return _code(codec, frames, fps, crf, (height, width))
    except av.error.FFmpegError as error:
        raise KinecastError(fault) from error


def _code(codec: VideoCodec, frames: np.ndarray, fps: Fraction, crf: int, size: tuple[int, int]) -> Coded:
    if not codec.available:
        raise KinecastError(f"{codec.label}: expected PyAV with {codec.name}, found none: install the wheel from PyPI")
    encoder: Any = av.codec.CodecContext.create(codec.name, "w")
    encoder.width, encoder.height, encoder.pix_fmt = size[1], size[0], "yuv420p"
    encoder.time_base, encoder.framerate = 1 / fps, fps
    encoder.options = codec.settings(crf)
    decoder: Any = av.codec.CodecContext.create(_decoder(codec.name), "r")
    sizes: list[int] = []
    decoded: list[np.ndarray] = []
    delay = 0
    packets = []
    for index, frame in enumerate(_scaled(frames, *size)):
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
        picture.pts = index
        packets += encoder.encode(picture)
        delay = max(delay, index + 1 - len(packets))
    packets += encoder.encode(None)
    for packet in [*packets, None]:
        if packet is not None:
            sizes.append(_size(bytes(packet), codec.name))
        decoded += [one.to_ndarray(format="rgb24") for one in decoder.decode(packet)]
    if len(decoded) != len(frames):
        raise KinecastError(f"{codec.label}: expected {len(frames)} frames back, found {len(decoded)}")
    return Coded(sizes, _scaled(np.stack(decoded), *frames.shape[1:3]), delay)


def _size(packet: bytes, encoder: str) -> int:
    """Return the bytes of a packet; of H.264's without the note of its settings that x264 puts before the first."""
    if encoder != "libx264":
        return len(packet)
    units = re.split(rb"(?=\x00\x00\x01)", packet)
    return sum(len(unit) for unit in units if len(unit) < 4 or unit[3] & 31 != _H264_SEI)


def _decoder(encoder: str) -> str:
    return {"libx264": "h264", "libx265": "hevc", "libsvtav1": "libdav1d", "libvpx-vp9": "vp9"}[encoder]


def _scaled(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    if frames.shape[1:3] == (height, width):
        return frames
    resized: Sequence[np.ndarray] = [
        np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)) for frame in frames
    ]
    return np.stack(resized)
