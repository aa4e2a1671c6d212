"""Rate against distortion: kinecast's stream beside ordinary codecs, what leaving frames out saves, what losses do.

All rates are of whole clips: bits of everything a receiver needs over the duration, in kbps. The reference picture
counts on both sides: as it is stored in a .kcm file, and as a codec's own intra frame.

Letters: T frames, N observed, H horizon, D numbers a frame.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from kinecast.codec import FILE, Layout, Packing, decode_motion, encode_motion
from kinecast.codec.clips import layout_for_quality
from kinecast.codec.filling import INTERPOLATE, Forecast, fill, interpolate
from kinecast.codec.packets import MotionPacket
from kinecast.codec.profiles import Profile
from kinecast.codec.schedule import Blocks, ClosedLoop, EveryKth, Schedule, in_steps
from kinecast.evaluation.distortions import BETTER_HIGH, summary
from kinecast.evaluation.rate_clips import RateClip
from kinecast.evaluation.video_codecs import CODECS, code_clip
from kinecast.pictures import to_tensor

QUALITIES = (1, 3, 5, 7)
PICTURES = (20, 60, 90)
QUALITY, PICTURE = 5, 60  # of what is varied one at a time
SKIPPING = Packing(FILE.frames, FILE.key_every, FILE.wide, skips=True)
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Point:
    """One setting of one curve over all clips: rates in kbps, distortions by name."""

    curve: str
    setting: str
    kbps: float
    motion_kbps: float  # without header and reference picture, or intra frame
    frames_sent: float  # share
    distortions: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


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


def against_codecs(
    clips: Sequence[RateClip], stream: Stream, codecs: Sequence[str], header_bytes: int, progress: Progress
) -> list[Point]:
    """Return the points of kinecast and of each codec, at full and at half size."""
    points = []
    settings = [(q, PICTURE) for q in QUALITIES] + [(QUALITY, p) for p in PICTURES if p != PICTURE]
    for quality, picture in settings:
        values, motion, whole, seconds = [], 0.0, 0.0, 0.0
        for clip in clips:
            shown, size, _ = code_motion(clip, stream, quality)
            values.append(clip.compare(clip.draw(shown, picture)))
            motion, whole = motion + size, whole + size + header_bytes + clip.picture_bytes(picture)
            seconds += clip.seconds
            progress("kinecast", len(shown))
        name = f"quality {quality}, picture {picture}"
        points.append(Point("kinecast", name, _kbps(whole, seconds), _kbps(motion, seconds), 1.0, summary(values)))
    for codec in (CODECS[name] for name in codecs):
        for shrink in (1, 2):
            for crf in codec.crfs:
                values, whole, later, seconds = [], 0.0, 0.0, 0.0
                for clip in clips:
                    coded = code_clip(codec, clip.frames, clip.fps, crf, shrink)
                    values.append(clip.compare(to_tensor(coded.frames)))
                    whole, later = whole + sum(coded.packet_bytes), later + sum(coded.packet_bytes[1:])
                    seconds += clip.seconds
                    progress(codec.label, len(clip.frames))
                curve = codec.label + (" at half size" if shrink == 2 else "")
                rates = _kbps(whole, seconds), _kbps(later, seconds)
                points.append(Point(curve, f"crf {crf}", *rates, 1.0, summary(values)))
    return points


def without_quantiser(clips: Sequence[RateClip], picture: int = PICTURE) -> dict[str, float]:
    """Return the distortions with the detector's own keypoints: the limit of any rate."""
    return summary([clip.compare(clip.draw(clip.vectors, picture)) for clip in clips])


def leaving_out(
    clips: Sequence[RateClip],
    stream: Stream,
    horizons: Iterable[tuple[int, int]] = ((6, 6), (12, 12)),
    tolerances: Iterable[float] = (0.5, 1, 2, 4),
    progress: Progress = lambda stage, frames: None,
) -> list[Point]:
    """Return the points of sending every frame, fewer frames, N of N+H, and closed loop, at the same quantiser.

    Distortions also hold `keypoint`, the mean error of the keypoints in motion units, and `own`, the MAE from what
    the backbone draws with unquantised keypoints. Rates are of motion packets alone.
    """
    distance = in_steps(stream.layouts[QUALITY])
    runs: list[tuple[str, str, int, str, Callable[[], Schedule] | None]] = [
        ("every frame, coarser steps", f"quality {q}", q, "hold", None) for q in (7, 5, 4, 3, 2, 1)
    ]
    for filler in (INTERPOLATE, "hold"):
        title = "every k-th frame, " + ("interpolated" if filler == INTERPOLATE else "held")
        runs += [(title, f"k = {k}", QUALITY, filler, lambda k=k: EveryKth(k)) for k in (2, 3, 4, 6)]  # type: ignore[misc]
    for name, forecast in stream.forecasts.items():
        for n, h in horizons:
            runs.append((f"N-H, {name}", f"{n}-{h}", QUALITY, name, lambda n=n, h=h: Blocks(n, h)))  # type: ignore[misc]
        for tolerance in tolerances:

            def loop(forecast: Forecast = forecast, tolerance: float = tolerance) -> Schedule:
                return ClosedLoop(forecast, distance, tolerance)

            runs.append((f"closed loop, {name}", f"{tolerance:g} steps", QUALITY, name, loop))
    points = []
    for curve, setting, quality, filler, make in runs:
        values, size = [], 0
        sent: list[float] = []
        for clip in clips:
            shown, bytes_, share = code_motion(clip, stream, quality, filler, make() if make else None)
            values.append(_with_own(clip, shown))
            size += bytes_
            sent.append(share)
            progress(curve, len(shown))
        rate = _kbps(size, sum(clip.seconds for clip in clips))
        points.append(Point(curve, setting, rate, rate, float(np.mean(sent)), _summary(values)))
    return points


def _with_own(clip: RateClip, shown: np.ndarray) -> dict[str, np.ndarray]:
    """Compare pixels, and what only matters between two ways of sending the same motion."""
    drawn = clip.draw(shown, PICTURE)
    own = clip.draw(clip.vectors, PICTURE)
    out = clip.compare(drawn)
    out["own"] = (drawn - own).abs().mean(dim=(1, 2, 3)).numpy()
    out["keypoint"] = np.abs(shown - clip.vectors).mean(axis=1)
    return out


def _summary(values: list[dict[str, np.ndarray]]) -> dict[str, float]:
    extra = {name: float(np.concatenate([v[name] for v in values]).mean()) for name in ("own", "keypoint")}
    return summary(values) | extra


def rate_at(points: Sequence[Point], measure: str, level: float) -> tuple[float, str]:
    """Return the rate at which a curve reaches a level of a measure, and "=", "<" or ">".

    Between two points the logarithm of the rate is interpolated. "<": already its lowest rate is better than the
    level, ">": not even its highest is as good; the rate is then that of the end.
    """
    sign = -1 if measure in BETTER_HIGH else 1
    ordered = sorted(points, key=lambda point: point.kbps)
    values = [sign * point.distortions[measure] for point in ordered]
    if values[0] <= sign * level:
        return ordered[0].kbps, "<"
    for before, after, a, b in zip(ordered, ordered[1:], values, values[1:], strict=False):
        if b <= sign * level:
            share = (a - sign * level) / (a - b)
            return float(before.kbps * (after.kbps / before.kbps) ** share), "="
    return ordered[-1].kbps, ">"


def equal_quality(points: Sequence[Point], measures: Sequence[str], ours: str = "kinecast") -> list[dict[str, Any]]:
    """Return what each codec's best size needs to be as good as kinecast at its main setting, by measure."""
    setting = f"quality {QUALITY}, picture {PICTURE}"
    main = next(point for point in points if point.curve == ours and point.setting == setting)
    rows = []
    codecs = dict.fromkeys(p.curve.removesuffix(" at half size") for p in points if p.curve != ours)
    for codec in codecs:
        row: dict[str, Any] = {"codec": codec, "ours_kbps": main.kbps}
        for measure in measures:
            found = [
                rate_at([p for p in points if p.curve == curve], measure, main.distortions[measure])
                for curve in (codec, f"{codec} at half size")
            ]
            reached = [one for one in found if one[1] != ">"] or found
            kbps, relation = min(reached)
            row[measure] = {"kbps": kbps, "relation": relation, "saving": kbps / main.kbps}
        rows.append(row)
    return rows


def _kbps(size_bytes: float, seconds: float) -> float:
    return 8 * size_bytes / seconds / 1000


__all__ = [
    "Point",
    "Stream",
    "against_codecs",
    "code_motion",
    "equal_quality",
    "leaving_out",
    "rate_at",
    "without_quantiser",
]
