"""Rate against distortion: kinecast's stream beside ordinary codecs, and the effect of skipping frames.

All rates are of whole clips: bits of everything a receiver needs over the duration, in kbps. The reference picture
counts on both sides: as it is stored in a .kcm file, and as a codec's own intra frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kinecast.research.distortions import BETTER_HIGH, summary
from kinecast.research.rate_settings import PICTURE, QUALITY, Codec, Measured, Motion

EXTRA = ("own", "keypoint")  # measures other than those of `Distortions`


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


def points_of(
    settings: Sequence[Motion | Codec], measured: Mapping[Any, Sequence[Measured]], header_bytes: int | None = None
) -> list[Point]:
    """Return the point of each setting from what was measured of it, clip by clip.

    With `header_bytes`, those of kinecast's header, rates are of everything; without, of motion packets alone.
    """
    points = []
    for setting in settings:
        clips = measured[setting]
        seconds, motion, once = (_total(clips, fact) for fact in ("seconds", "motion_bytes", "once_bytes"))
        header = (header_bytes or 0) * len(clips) if isinstance(setting, Motion) else 0
        whole = motion if header_bytes is None else motion + once + header
        sent = float(np.mean([clip.facts["sent"] for clip in clips]))
        rates = kbps(whole, seconds), kbps(motion, seconds)
        points.append(Point(setting.curve, setting.name, *rates, sent, mean_distortions(clips)))
    return points


def mean_distortions(clips: Sequence[Measured]) -> dict[str, float]:
    """Return the mean of each measure over all frames of all clips."""
    values = [clip.distortions for clip in clips]
    extra = {name: float(np.concatenate([v[name] for v in values]).mean()) for name in EXTRA if name in values[0]}
    return summary(values) | extra


def _total(clips: Sequence[Measured], fact: str) -> float:
    return sum(clip.facts[fact] for clip in clips)


def rate_at(points: Sequence[Point], measure: str, level: float) -> tuple[float, str]:
    """Return the rate at which a curve reaches a level of a measure, and "=", "<" or ">".

    Between two points the logarithm of the rate is interpolated. "<": its lowest rate is already better than the level,
    ">": even its highest is not as good; the rate is then that end's.
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


def kbps(size_bytes: float, seconds: float) -> float:
    """Return a size over a duration as a rate."""
    return 8 * size_bytes / seconds / 1000
