"""Frames out: clips written atomically."""

import warnings
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image
from torch import Tensor

from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import CLIP_OUTPUTS, atomic_path, check_suffix
from kinecast.media.pictures import as_frames
from kinecast.media.sound import SoundSource, SoundTrack, has_sound

_ENCODERS = {
    ".mp4": ("libx264", "yuv420p"),
    ".mov": ("libx264", "yuv420p"),
    ".mkv": ("libx264", "yuv420p"),
    ".webm": ("libvpx-vp9", "yuv420p"),
    ".gif": ("gif", "pal8"),
}
_TICKS = {
    ".mp4": 90_000,
    ".mov": 90_000,
    ".mkv": 1000,
    ".webm": 1000,
    ".gif": 100,
}  # ticks per second, for variable frame times
_GIF_LEAST = 2  # minimum duration in ticks: players replace shorter delays by a tenth of a second
_LARGE = 1 << 22  # frame size above which x264 keeps few frames: at 12 megapixels each takes about 60 MB
_FEW_FRAMES = {"x264-params": "rc-lookahead=4:sync-lookahead=0:bframes=0:ref=1", "threads": "1"}
_BT601 = 6  # the matrix of the conversion; written to the file, since players guess another for large frames


class VideoWriter:
    """Write frames to mp4, mov or mkv (H.264), webm (VP9) or gif; a context manager.

    The file appears when the `with` block ends; after an error or Ctrl-C nothing is written, and an existing file is
    kept. Writing no frame is an error. H.264 and VP9 need even sizes: odd ones are padded to even by repeating the last
    row or column. A gif has at most 50 frames per second, since players slow down faster ones: frames are dropped with
    a warning.

    Args:
        path: the output; its suffix chooses the format.
        fps: frames per second, finite and above 0; approximate for frames with their own times.
        size: required (height, width) of every frame; None takes the first frame's.
        quality: constant rate factor, 0 (best) to 51 (smallest), 20 by default; gif ignores it.
        sound: sound from the first frame to the end of the last. A gif drops it with a warning.

    Raises:
        KinecastError: an unknown suffix, a number out of range, frames of another size, or an unwritable path.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float | Fraction,
        size: tuple[int, int] | None = None,
        quality: int = 20,
        sound: SoundSource | None = None,
    ) -> None:
        self.path = check_suffix(path, CLIP_OUTPUTS, "clip")
        if not 0 < fps < float("inf"):
            raise KinecastError(f"fps: expected a number above 0, found {fps}")
        if not 0 <= quality <= 51:
            raise KinecastError(f"quality: expected 0 (best) to 51 (smallest file), found {quality}")
        self.given_fps = fps
        # mp4 stores times in whole ticks: 1001 keeps 30000/1001 exact, and 29.97 close enough.
        self.fps = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
        self.size = size
        self.quality = quality
        self.frames_written = 0
        self._codec, self._pixels = _ENCODERS[self.path.suffix.lower()]
        self.sound = sound
        _check_encoder(self._codec)
        self._stream: Any = None
        self._left_out = 0  # frames
        self._track: SoundTrack | None = None
        self._clock: _RateClock | _EdgeClock | None = None
        self._converter = VideoReformatter()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            # faststart: the index comes first, so that a truncated copy can still be read.
            options = {"movflags": "+faststart"} if self.path.suffix.lower() in (".mp4", ".mov") else {}
            self._container = stack.enter_context(av.open(f"file:{temporary}", "w", options=options))
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, frames: Tensor | np.ndarray, edges: np.ndarray | None = None) -> None:
        """Append frames: floats (B, 3, H, W) in [0, 1], or uint8 (H, W, 3) or (B, H, W, 3).

        Args:
            frames: the frames to append.
            edges: (B + 1,) seconds, increasing and continuing from the previous call: frame i is shown from edge i to
                edge i + 1. Without them frames follow at `fps`; the first call decides for all.

        Raises:
            KinecastError: frames of another size or kind.
        """
        pictures = as_frames(frames)
        if edges is None and not self._is_yuv and self.fps * _GIF_LEAST > _TICKS[".gif"]:
            edges = (self.frames_written + np.arange(len(pictures) + 1)) / float(self.fps)
        if self._clock is None:
            tick, least = Fraction(1, _TICKS[self.path.suffix.lower()]), 1 if self._is_yuv else _GIF_LEAST
            self._clock = _RateClock(self.fps) if edges is None else _EdgeClock(tick, float(edges[0]), least)
        for index, frame in enumerate(pictures):
            self._write(frame, None if edges is None else (float(edges[index]), float(edges[index + 1])))

    def _write(self, frame: np.ndarray, edges: tuple[float, float] | None) -> None:
        assert self._clock is not None
        if self.size is None:
            self.size = (frame.shape[0], frame.shape[1])
        if frame.shape[:2] != self.size:
            raise KinecastError(
                f"{self.path}: expected frames of {self.size[1]}x{self.size[0]} (width x height), "
                f"found {frame.shape[1]}x{frame.shape[0]}: resize them"
            )
        self.frames_written += 1
        pts = self._clock.place(edges)
        if pts is None:
            self._left_out += 1
            return
        picture = self._gif_frame(frame) if self._pixels == "pal8" else self._yuv_frame(frame)
        if self._stream is None:
            self._stream = self._start(picture.width, picture.height)
        picture.pts, picture.time_base = pts, self._clock.time_base
        self._mux(self._stream.encode(picture))
        if self._track is not None:
            self._track.write_until(self._clock.seconds)

    def _mux(self, packets: list[Any]) -> None:
        assert self._clock is not None
        for packet in packets:
            self._clock.set_duration(packet)
            self._container.mux(packet)

    def _start(self, width: int, height: int) -> Any:
        options = {"crf": str(self.quality)}
        if self._codec == "libx264" and width * height > _LARGE:
            options |= _FEW_FRAMES
        if self._codec == "libvpx-vp9":
            options |= {"b": "0", "cpu-used": "4", "row-mt": "1"}  # b 0: rate controlled by quality alone
        stream: Any = self._container.add_stream(self._codec, rate=self.fps, options=options if self._is_yuv else {})
        assert self._clock is not None
        stream.time_base = stream.codec_context.time_base = self._clock.time_base
        if isinstance(self._clock, _EdgeClock) and self._codec == "libx264":
            # mp4 derives durations from decoding times, which match display times only without B-frames.
            stream.codec_context.max_b_frames = 0
        stream.width, stream.height, stream.pix_fmt = width, height, self._pixels
        if self._is_yuv:
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT601
            context.color_range = ColorRange.MPEG
        self._add_sound()
        return stream

    def _add_sound(self) -> None:
        if self.sound is None:
            return
        suffix = self.path.suffix.lower()
        if has_sound(suffix):
            self._track = SoundTrack(self.sound, self._container, suffix)
        else:
            warnings.warn(KinecastWarning(f"{self.path}: {suffix[1:]} has no sound: it is omitted"), stacklevel=2)

    @property
    def _is_yuv(self) -> bool:
        return self._pixels != "pal8"

    def _yuv_frame(self, frame: np.ndarray) -> av.VideoFrame:
        even = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        return self._converter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24"),
            format=self._pixels,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )

    def _gif_frame(self, frame: np.ndarray) -> av.VideoFrame:
        """Use a palette of 256 colours per frame: libav alone would use one fixed, coarse palette."""
        indexed = Image.fromarray(frame).quantize(256)
        colours = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
        palette = np.full((256, 4), 255, np.uint8)  # alpha, red, green, blue
        palette[: len(colours), 1:] = colours
        pair: Any = (np.asarray(indexed), palette)  # PyAV's type hints lack this form
        return av.VideoFrame.from_ndarray(pair, format="pal8")

    def _finish(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush the encoder, before the container closes, unless the block failed."""
        if kind is not None:
            return
        if not self.frames_written:
            raise KinecastError(f"{self.path}: expected at least one frame to write, found none: check the input")
        self._mux(self._stream.encode(None))
        if self._left_out and not self._is_yuv:
            left = f"{self._left_out} of {self.frames_written} frames are dropped"
            text = f"{self.path}: a gif shows at most {_TICKS['.gif'] // _GIF_LEAST} frames per second: {left}"
            warnings.warn(KinecastWarning(text), stacklevel=2)


class _RateClock:
    """Places frames at a constant rate."""

    def __init__(self, fps: Fraction) -> None:
        self.time_base, self._placed = 1 / fps, 0

    @property
    def seconds(self) -> float:
        """When the last frame ends."""
        return float(self._placed * self.time_base)

    def place(self, edges: tuple[float, float] | None) -> int:
        """Return the start of the next frame, in units of `time_base`."""
        self._placed += 1
        return self._placed - 1

    def set_duration(self, packet: Any) -> None:
        """Leave it to the muxer."""


class _EdgeClock:
    """Places frames at their own times, rounded to a container's ticks, each for at least `least` ticks."""

    def __init__(self, time_base: Fraction, start: float, least: int = 1) -> None:
        self.time_base, self.seconds = time_base, 0.0
        self._start, self._least = start, least
        self._last: int | None = None  # start of the last frame
        self._ends: dict[int, int] = {}  # of the encoder's frames, by their start

    def place(self, edges: tuple[float, float] | None) -> int | None:
        """Return the start of a frame; None, to drop it, if the previous one has not lasted long enough."""
        assert edges is not None
        self.seconds = edges[1] - self._start
        begin, end = (round((edge - self._start) / self.time_base) for edge in edges)
        early = self._last is not None and begin < self._last + self._least
        if self._last is None or not early:
            self._last = begin
        self._ends[self._last] = max(end, self._last + self._least)
        return None if early else begin

    def set_duration(self, packet: Any) -> None:
        """Set a packet's duration, which nothing else gives for the last frame."""
        if packet.pts in self._ends:
            packet.duration = self._ends.pop(packet.pts) - packet.pts


def _check_encoder(name: str) -> None:
    """Check that libav has an encoder, now rather than at the first frame."""
    try:
        av.Codec(name, "w")
    except (av.error.FFmpegError, ValueError) as error:
        raise KinecastError(f"encoder {name}: expected a PyAV with this encoder, found none: pip install av") from error
