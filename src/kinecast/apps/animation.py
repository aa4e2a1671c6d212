"""Display and figures of an animation: pictures side by side, and the report.

Notation: T frames, D motion numbers per frame.
"""

import io
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kinecast.media.pictures import as_frames, border, caption, side_by_side, to_uint8
from kinecast.metrics.pixel import mae, ssim

PLAIN_VIDEO_KBPS = 500.0  # the papers' reference rate
_OBSERVED, _PREDICTED, _NEUTRAL = (40, 140, 70), (215, 110, 20), (32, 32, 32)


@dataclass
class Report:
    """Figures of one animation.

    Attributes:
        mode: "reconstruction" or "transfer".
        frames: number of frames written.
        frames_sent: number of frames not forecast.
        frames_without_face: frames without a detected face, if one is needed: the last picture is held.
        fps: their mean rate.
        motion_dim: numbers per frame, the background's included.
        forecaster: its name, if any.
        horizon: "N-H", if any.
        samples: number of futures side by side.
        truth: the reference of `quality`, None if there is none.
        quality: means of `mae` and `ssim` by kind of frame.
        rate: in kbps and bytes, of `rates`.
        seconds: spent, by stage.
    """

    mode: str
    frames: int
    frames_sent: int
    fps: float
    motion_dim: int
    forecaster: str | None = None
    horizon: str | None = None
    samples: int = 1
    truth: str | None = None
    quality: dict[str, dict[str, float]] = field(default_factory=dict)
    rate: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    frames_without_face: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def published_kbps(motion_dim: int, fps: float, sent_share: float = 1.0) -> float:
    """Return the published rate (arXiv 2504.05537, section 5): D 32-bit floats per frame sent, without the picture."""
    return motion_dim * 32 * fps * sent_share / 1000


def rates(dim: int, fps: float, mask: np.ndarray, share: float, picture: Tensor | np.ndarray) -> dict[str, float]:
    """Return the rates of D numbers per frame, where frames forecast, `mask` (T,), are not sent.

    Args:
        dim: D.
        fps: frames per second.
        mask: (T,) bool, True where a frame is forecast.
        share: of frames sent, in the papers' accounting.
        picture: the source, (1, 3, H, W) in [0, 1] or uint8 (H, W, 3).
    """
    published = published_kbps(dim, fps, share)
    seconds = len(mask) / fps
    motion_bytes = dim * 4 * int((~mask).sum())  # of 32-bit floats
    jpeg = io.BytesIO()
    Image.fromarray(as_frames(picture)[0]).save(jpeg, "JPEG", quality=90)
    sent = 8 * motion_bytes / seconds / 1000
    return {
        "published_kbps": published,
        "saving_published": PLAIN_VIDEO_KBPS / published,
        "sent_kbps": sent,
        "saving_sent": PLAIN_VIDEO_KBPS / sent,
        "motion_bytes": motion_bytes,
        "source_picture_bytes": jpeg.getbuffer().nbytes,
        "sent_kbps_with_picture": 8 * (motion_bytes + jpeg.getbuffer().nbytes) / seconds / 1000,
    }


class Scores:
    """MAE and SSIM of each kind of frame, accumulated frame by frame.

    In reconstruction the truth is the driving frames; otherwise it is the model's own output from true keypoints, and
    there is none without a forecast.
    """

    def __init__(self, reconstruction: bool, source: Tensor, forecast: bool) -> None:
        self.source = source
        self.forecast = forecast
        self.reconstruction = reconstruction
        self.truth: str | None = None
        if self.reconstruction:
            self.truth = "driving frames"
        elif forecast:
            self.truth = "own output with true keypoints"
        self.values: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def add(self, seen: Tensor | None, true: Tensor, rendered: list[Tensor], mask: np.ndarray) -> None:
        """Compare frames (B, 3, H, W): `seen` in the clip, from `true` keypoints, and `rendered` of each sample."""
        if self.truth is None:
            return
        target = seen if self.reconstruction and seen is not None else true
        if self.reconstruction:
            self._score("copy of the source", self.source.expand_as(target), target, slice(None))
        if not self.forecast:
            self._score("animated", rendered[0], target, slice(None))
            return
        for frames in rendered:
            self._score("all frames", frames, target, slice(None))
            self._score("observed", frames, target, ~mask)
            self._score("predicted", frames, target, mask)
        if self.reconstruction:
            self._score("copy of the source, predicted", self.source.expand_as(target), target, mask)

    def _score(self, name: str, frames: Tensor, target: Tensor, which: slice | np.ndarray) -> None:
        picked = which if isinstance(which, slice) else torch.from_numpy(which)
        frames, target = frames[picked], target[picked]
        if len(frames):
            self.values[name] += zip(mae(frames, target).tolist(), ssim(frames, target).tolist(), strict=True)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return the means by kind of frame."""
        means = {name: np.mean(pairs, axis=0) for name, pairs in self.values.items()}
        return {name: {"mae": float(m), "ssim": float(s)} for name, (m, s) in means.items()}


def compose(
    seen: Tensor | None, true: Tensor, rendered: list[Tensor], mask: np.ndarray, forecast: bool
) -> Iterator[np.ndarray]:
    """Yield the output pictures of B frames, uint8 (H, W, 3): samples side by side, marked where `forecast`.

    Args:
        seen: the driving frames (B, 3, H, W), shown on the left together with the `true` ones; None shows neither.
        true: frames rendered from true keypoints.
        rendered: frames of each sample.
        mask: (B,) bool, True where a frame is forecast.
        forecast: whether any is.
    """
    pictures, known = [to_uint8(frames) for frames in rendered], to_uint8(true)
    given = None if seen is None else to_uint8(seen)
    for i, predicted in enumerate(mask):
        columns = [frames[i] for frames in pictures]
        if forecast:
            color = _PREDICTED if predicted else _OBSERVED
            columns = [caption(border(c, color), "forecast" if predicted else "observed", color) for c in columns]
        elif given is not None:
            columns = [caption(c, "animated", _NEUTRAL) for c in columns]
        if given is not None:
            beside = [caption(given[i], "driving", _NEUTRAL)]
            if forecast:
                beside.append(caption(known[i], "true keypoints", _NEUTRAL))
            columns = beside + columns
        yield side_by_side(columns) if len(columns) > 1 else columns[0]


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the block's seconds to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


def transfer_report(
    frames: int, fps: float, dim: int, picture: np.ndarray, clock: Clock, without_face: int = 0
) -> Report:
    """Return the report of a transfer with all frames' D numbers known; `picture` (H, W, 3) is the source."""
    return Report(
        mode="transfer",
        frames=frames,
        frames_sent=frames,
        frames_without_face=without_face,
        fps=fps,
        motion_dim=dim,
        rate=rates(dim, fps, np.zeros(frames, dtype=bool), 1.0, picture),
        seconds={name: round(seconds, 4) for name, seconds in clock.seconds.items()},
    )
