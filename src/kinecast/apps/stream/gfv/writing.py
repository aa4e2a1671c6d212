"""Writing a still with GFV messages, playable anywhere: mp4 and raw H.264 by x264, raw H.265 by x265.

The first picture is coded normally; all others are skipped pictures of about 10 bytes, in which every block is a copy.
The encoder is fed its own first picture, decoded, so that there is nothing left to code in them.
"""

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from kinecast.codec.gfv.message import PAYLOAD_TYPE
from kinecast.codec.gfv.nal import CODECS, START, Codec, sei_unit, with_sei
from kinecast.errors import KinecastError
from kinecast.files import GFV_OUTPUTS, atomic_path, check_suffix
from kinecast.media.sound import SoundSource, SoundTrack

_FORMATS = {".mp4": ("mp4", "libx264"), ".h264": ("h264", "libx264"), ".h265": ("hevc", "libx265")}
_OPTIONS = {
    # CAVLC costs the first picture 5 %, and saves four bytes per skipped one.
    "libx264": (
        "x264-params",
        "cabac=0:keyint=infinite:scenecut=0:bframes=0:ref=1:weightp=0:sliced-threads=0:threads=1",
    ),
    # Without what is sent of every block: offsets of samples, and quantisers of their own.
    "libx265": (
        "x265-params",
        "log-level=none:info=0:keyint=-1:scenecut=0:bframes=0:ref=1:weightp=0:frame-threads=1:pools=none:wpp=0:"
        "no-sao=1:aq-mode=0:max-merge=1:no-temporal-mvp=1:rd=6:early-skip=1",
    ),
}
# Constant rate factors of x264 and x265 at which a portrait has the PSNR of WebP at a quality; H.265 has 1 dB more.
_QUALITIES, _FACTORS = (1, 40, 60, 80, 90, 100), (41.0, 31.5, 29.0, 24.0, 17.5, 10.0)
_BT601 = 6  # written to the file, since players guess another for large pictures
_TICKS = 90_000  # ticks per second, for a variable frame rate


class GfvWriter:
    """Write a picture and messages; a context manager, whose file appears, whole, when the block ends.

    Args:
        path: .mp4, .h264 or .h265.
        picture: uint8 (H, W, 3), of even sizes, as 4:2:0 needs them.
        rate: frames a second; the mean one where `constant` is False, which only mp4 can tell.
        constant: whether frame i is shown from i / rate to (i + 1) / rate.
        quality: of the picture, 1 to 100, about as WebP's.
        sound: what is heard with the frames, in mp4.

    Raises:
        KinecastError: an unknown suffix, an odd size, or times or sound that the format cannot tell.
    """

    def __init__(
        self,
        path: str | Path,
        picture: np.ndarray,
        rate: float | Fraction,
        constant: bool = True,
        quality: int = 60,
        sound: SoundSource | None = None,
    ) -> None:
        self.path = check_suffix(path, GFV_OUTPUTS, "GFV stream")
        suffix = self.path.suffix.lower()
        height, width = picture.shape[:2]
        if height % 2 or width % 2:
            raise KinecastError(
                f"{path}: expected a picture of even sizes, which 4:2:0 needs, found {width}x{height}: write a .kcm"
            )
        if suffix != ".mp4" and not constant:
            raise KinecastError(
                f"{path}: expected frames of a constant rate, since {suffix} has no times, found a variable rate: "
                "name an .mp4, or resample with --fps"
            )
        if suffix != ".mp4" and sound is not None:
            raise KinecastError(f"{path}: expected no sound, which {suffix} cannot have, found some: name an .mp4")
        self._format, self._encoder = _FORMATS[suffix]
        self.codec: Codec = CODECS["hevc" if suffix == ".h265" else "h264"]
        self._picture, self._constant, self._sound = picture, constant, sound
        self._rate = Fraction(rate).limit_denominator(1001 if rate > 1 else 1_000_000)
        self._factor = float(np.interp(quality, _QUALITIES, _FACTORS))
        self._frame: Any = None  # the next picture to code
        self._track: SoundTrack | None = None
        self.sizes = {"picture_bytes": 0, "message_bytes": 0, "skipped_bytes": 0}
        self.frames = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            options = {"movflags": "+faststart"} if self._format == "mp4" else {}
            self._container = stack.enter_context(
                av.open(f"file:{temporary}", "w", format=self._format, options=options)
            )
            stack.push(self._check)
            self._stream = self._start()
            if self._sound is not None:
                self._track = SoundTrack(self._sound, self._container, ".mp4")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, payload: bytes, edges: tuple[float, float] | None = None) -> None:
        """Append a picture with a message: the first time the picture itself, then skipped ones.

        `edges` are the seconds from and until which it is shown, where the rate is not constant.
        """
        whole = with_sei(self.codec, self._code(), PAYLOAD_TYPE, payload)
        message = len(START + sei_unit(self.codec, PAYLOAD_TYPE, payload))
        self.sizes["message_bytes"] += message
        self.sizes["skipped_bytes" if self.frames else "picture_bytes"] += len(whole) - message
        packet: Any = av.Packet(whole)
        packet.stream = self._stream
        begin, end = self._place(edges)
        packet.time_base = self._stream.codec_context.time_base
        packet.pts = packet.dts = begin
        packet.duration = max(end - begin, 1)
        packet.is_keyframe = not self.frames
        self._container.mux(packet)
        self.frames += 1
        if self._track is not None:
            self._track.write_until(self.frames / float(self._rate) if edges is None else edges[1])

    def _check(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self.frames:
            raise KinecastError(f"{self.path}: expected at least one frame to write, found none: check the input")

    def _start(self) -> Any:
        name, value = _OPTIONS[self._encoder]
        options = {"preset": "slow", "tune": "zerolatency", "crf": f"{self._factor:.2f}", name: value}
        stream: Any = self._container.add_stream(self._encoder, rate=self._rate, options=options)
        context = stream.codec_context
        stream.height, stream.width = self._picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = context.time_base = 1 / self._rate if self._constant else Fraction(1, _TICKS)
        context.framerate = self._rate
        context.max_b_frames = 0
        context.colorspace = context.color_primaries = context.color_trc = _BT601
        context.color_range = ColorRange.MPEG
        return stream

    def _place(self, edges: tuple[float, float] | None) -> tuple[int, int]:
        if edges is None:
            return self.frames, self.frames + 1
        begin, end = (round(edge * _TICKS) for edge in edges)
        return begin, end

    def _code(self) -> bytes:
        """Return the access unit of the next picture."""
        context = self._stream.codec_context
        if self._frame is None:
            self._frame = VideoReformatter().reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(self._picture), format="rgb24"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
        self._frame.pts, self._frame.time_base = self.frames, 1 / self._rate
        packets = context.encode(self._frame)
        if len(packets) != 1:
            raise KinecastError(f"{self.path}: expected one access unit of {self._encoder}, found {len(packets)}")
        unit = bytes(packets[0])
        if not self.frames:
            self._frame = self._decoded(unit, context.extradata)
        return unit

    def _decoded(self, unit: bytes, parameters: bytes | None) -> Any:
        decoder: Any = av.CodecContext.create(self.codec.name, "r")
        decoder.thread_count = 1
        frames: list[Any] = decoder.decode(av.Packet((parameters or b"") + unit)) + decoder.decode(None)
        frame = frames[0]
        frame.pict_type = 0  # which the encoder would otherwise take for an order
        return frame
