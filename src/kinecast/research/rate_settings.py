"""The settings of rate-distortion: each is one way to send a clip, in plain values, and measures its cost.

A setting measures one clip, independently of others, so that clips and settings may be done anywhere, in any order.

Notation: T frames, N observed, H horizon, D numbers per frame.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kinecast.apps.stream.clips import layout_for_quality
from kinecast.codec import FILE, Layout, Packing, decode_motion, encode_motion
from kinecast.codec.filling import INTERPOLATE, Forecast, fill, interpolate
from kinecast.codec.packets import MotionPacket
from kinecast.codec.profiles import Profile
from kinecast.codec.schedule import Blocks, ClosedLoop, EveryKth, Schedule, in_steps
from kinecast.media.pictures import to_tensor
from kinecast.research.rate_clips import RateClip
from kinecast.research.video_codecs import CODECS, code_clip

QUALITIES = (1, 3, 5, 7)
PICTURES = (20, 60, 90)
QUALITY, PICTURE = 5, 60  # of what is varied one at a time
SKIPPING = Packing(FILE.frames, FILE.key_every, FILE.wide, skips=True)


@dataclass(frozen=True)
class Measured:
    """One setting on one clip: distortions (T,) by name; `seconds`, `motion_bytes` and other numbers."""

    distortions: dict[str, np.ndarray]
    facts: dict[str, float]


@dataclass(frozen=True)
class Stream:
    """How motion is coded: `layout` and `profile` by quality, with the fillers that a receiver may have, by name."""

    layouts: dict[int, Layout]
    profile: Callable[[Layout], Profile]
    forecasts: dict[str, Forecast]

    @staticmethod
    def of(backbone: Any, profile: Callable[[Layout], Profile], forecasts: dict[str, Forecast]) -> "Stream":
        """Build for a backbone."""
        template = backbone.unflatten(torch.zeros(1, backbone.motion_dim))
        return Stream({q: layout_for_quality(template, q) for q in range(1, 10)}, profile, forecasts)


@dataclass(frozen=True)
class Exact:
    """The detector's own keypoints, unquantised: the limit of any rate."""

    curve: str = "exact keypoints"
    name: str = ""

    def measure(self, clip: RateClip, stream: Stream) -> Measured:
        """Measure a clip."""
        facts = {"seconds": clip.seconds, "frames": len(clip.frames), "fps": float(clip.fps)}
        return Measured(clip.compare(clip.draw(clip.vectors, PICTURE)), facts)


@dataclass(frozen=True)
class Codec:
    """An ordinary codec at a constant quality, at 1/shrink of the size."""

    codec: str
    crf: int
    shrink: int

    @property
    def curve(self) -> str:
        """The codec, and its size."""
        return CODECS[self.codec].label + (" at half size" if self.shrink == 2 else "")

    @property
    def name(self) -> str:
        """`crf 30`."""
        return f"crf {self.crf}"

    def measure(self, clip: RateClip, stream: Stream) -> Measured:
        """Measure a clip."""
        coded = code_clip(CODECS[self.codec], clip.frames, clip.fps, self.crf, self.shrink)
        once, later = coded.packet_bytes[0], sum(coded.packet_bytes[1:])
        facts = {"seconds": clip.seconds, "motion_bytes": later, "once_bytes": once, "sent": 1.0}
        return Measured(clip.compare(to_tensor(coded.frames)), facts)


@dataclass(frozen=True)
class Motion:
    """Our stream: quality of motion and picture, skipped frames, and their concealment.

    `schedule` is its name with its numbers: ("every", k), ("blocks", N, H), ("loop", tolerance); () is every frame.
    With `apart`, distortions also hold `keypoint`, the mean error of the keypoints in motion units, and `own`, the MAE
    from what the backbone draws with unquantised keypoints: what only matters between ways of sending one motion.
    """

    curve: str
    name: str
    quality: int = QUALITY
    picture: int = PICTURE
    filler: str = "hold"
    schedule: tuple[Any, ...] = ()
    apart: bool = False

    def measure(self, clip: RateClip, stream: Stream) -> Measured:
        """Measure a clip."""
        shown, size, sent = code_motion(clip, stream, self.quality, self.filler, self._schedule(stream))
        drawn = clip.draw(shown, self.picture)
        distortions = clip.compare(drawn)
        if self.apart:
            own = clip.draw(clip.vectors, self.picture)
            distortions["own"] = (drawn - own).abs().mean(dim=(1, 2, 3)).numpy()
            distortions["keypoint"] = np.abs(shown - clip.vectors).mean(axis=1)
        facts = {"seconds": clip.seconds, "motion_bytes": size, "sent": sent}
        return Measured(distortions, facts | {"once_bytes": clip.picture_bytes(self.picture)})

    def _schedule(self, stream: Stream) -> Schedule | None:
        match self.schedule:
            case ("every", k):
                return EveryKth(k)
            case ("blocks", observed, horizon):
                return Blocks(observed, horizon)
            case ("loop", tolerance):
                return ClosedLoop(stream.forecasts[self.filler], in_steps(stream.layouts[QUALITY]), tolerance)
        return None


def code_motion(
    clip: RateClip, stream: Stream, quality: int, filler: str = "hold", schedule: Schedule | None = None
) -> tuple[np.ndarray, int, float]:
    """Send a clip's motion through bytes and back: vectors (T, D) as shown, bytes of packets, share of frames sent."""
    layout = stream.layouts[quality]
    profile = stream.profile(layout)
    packing = FILE if schedule is None else SKIPPING
    data = [bytes(packet) for packet in encode_motion(clip.vectors, layout, profile, packing, schedule)]
    frames = list(decode_motion((MotionPacket.parse(one)[0] for one in data), layout, profile))
    sent = float(np.mean([not frame.concealed for frame in frames]))
    shown = interpolate(frames) if filler == INTERPOLATE else fill(frames, stream.forecasts[filler])
    return np.stack([frame.vector for frame in shown]), sum(map(len, data)), sent


def codec_settings(codecs: Sequence[str]) -> list[Motion | Codec]:
    """Return the points of kinecast and of each codec, at full and at half size."""
    pairs = [(q, PICTURE) for q in QUALITIES] + [(QUALITY, p) for p in PICTURES if p != PICTURE]
    ours = [Motion("kinecast", f"quality {q}, picture {p}", q, p) for q, p in pairs]
    theirs = [Codec(name, crf, shrink) for name in codecs for shrink in (1, 2) for crf in CODECS[name].crfs]
    return [*ours, *theirs]


def frame_settings(
    fillers: Iterable[str],
    horizons: Iterable[tuple[int, int]] = ((6, 6), (12, 12)),
    tolerances: Iterable[float] = (0.5, 1, 2, 4),
) -> list[Motion]:
    """Return the points of sending every frame, fewer frames, N of N+H, and closed loop, at the same quantiser."""
    found = [Motion("every frame, coarser steps", f"quality {q}", q, apart=True) for q in (7, 5, 4, 3, 2, 1)]
    for filler in (INTERPOLATE, "hold"):
        title = "every k-th frame, " + ("interpolated" if filler == INTERPOLATE else "held")
        found += [Motion(title, f"k = {k}", filler=filler, schedule=("every", k), apart=True) for k in (2, 3, 4, 6)]
    for name in fillers:
        found += [
            Motion(f"N-H, {name}", f"{n}-{h}", filler=name, schedule=("blocks", n, h), apart=True) for n, h in horizons
        ]
        found += [
            Motion(f"closed loop, {name}", f"{t:g} steps", filler=name, schedule=("loop", t), apart=True)
            for t in tolerances
        ]
    return found
