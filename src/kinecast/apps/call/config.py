"""Configuration of a call, and its inputs and outputs.

Times are seconds of `time.time()` unless a name ends in `ms`.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinecast.apps.heads.expression import HeadPose
from kinecast.apps.stream.options import check_quality
from kinecast.errors import KinecastError
from kinecast.faces.landmarker import Face
from kinecast.media.framing import check_reading

PLAIN_VIDEO_KBPS = 500.0  # the papers' reference: a plain video call of a talking head
MAX_CAMERA_SIDE = 4096
LEAST_KBPS = 2.0  # of a line, headers of IP packets included
_LATEST = 1e11  # s since 1970
State = Literal["new", "waiting", "connecting", "connected", "interrupted", "reconnecting", "ended"]
ShownState = Literal["received", "forecast", "idle", "frozen"]


@dataclass(frozen=True)
class LinkFaults:
    """A simulated bad link for tests, applied to outgoing motion messages in real time, with a seed.

    `loss` is the share of lost messages, in bursts of `burst` on average (1: independently). All are delayed by
    `delay_ms` and up to `jitter_ms` more at random, possibly out of order if `reorder`. `outages` are (start, end) in
    seconds since the channel opened, during which nothing passes.
    """

    loss: float = 0.0
    burst: float = 1.0
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    reorder: bool = False
    outages: tuple[tuple[float, float], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.loss < 1 or not 1 <= self.burst <= 1000:
            raise KinecastError(
                f"link faults: expected a loss of 0 to below 1 in bursts of 1 to 1000, found {self.loss}, {self.burst}"
            )
        if not (0 <= self.delay_ms <= 10_000 and 0 <= self.jitter_ms <= 10_000):
            raise KinecastError(
                f"link faults: expected delay and jitter of 0 to 10000 ms, found {self.delay_ms}, {self.jitter_ms}"
            )


@dataclass(frozen=True)
class IceServer:
    """A STUN or TURN server: `stun:host:port`, `turn:host:port?transport=udp`."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("stun:", "turn:", "turns:")) or len(self.url) > 256:
            raise KinecastError(f"ICE server: expected stun:HOST:PORT or turn:HOST:PORT, found {self.url[:80]!r}")


@dataclass(frozen=True)
class CallConfig:
    """One end of a call.

    Args:
        model: backbone, by name or file; both ends must have the same weights.
        engine: how it runs, see `kinecast.runtime`; auto is `fast` on a CPU, and plain torch elsewhere.
        precision: the lowest precision allowed.
        fps: maximum frames sent per second.
        kbps: what this end may send at most, headers of IP packets included; what the line bears is estimated besides.
        quality: motion quality, 1 to 9, see `kinecast encode`.
        picture_quality: WebP quality of reference pictures, 1 to 100.
        forecaster: concealment of missing frames: hold, damped, a forecaster of the zoo, or auto: the best that is
            bundled for this motion, otherwise damped.
        avatar: None sends the camera's picture; otherwise this picture is sent, animated by the camera's motion; "head"
            sends no picture, and the other side draws a 3-D head.
        head: GLB file of the 3-D head drawn for another side that is seen as one; None is kinecast's own.
        crop: crop of the camera: center, face (found once; face:2 is the second from the left) or none.
        jitter_ms: maximum delay added by the jitter buffer; it adds what recent packets needed.
        ice_servers: STUN and TURN servers; without any, only addresses of this machine are offered.
        link: a simulated bad link, for tests.
        record: a clip to record what is shown.
        blendshapes: CSV of ARKit's blendshapes and the head's pose in each frame that is shown.
        diverse_idle: their avatar keeps moving on sampled futures while the link is down, marked `idle`.
        seed: seed of everything random except keys and secrets.
    """

    model: str = "mesh"
    engine: str = "auto"
    precision: str = "exact"
    fps: float = 25.0
    kbps: float | None = None
    quality: float = 5
    picture_quality: int = 60
    forecaster: str = "auto"
    avatar: Path | Literal["head"] | None = None
    head: Path | None = None
    crop: str = "center"
    jitter_ms: float = 60.0
    ice_servers: tuple[IceServer, ...] = ()
    link: LinkFaults | None = None
    record: Path | None = None
    blendshapes: Path | None = None
    diverse_idle: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 60:
            raise KinecastError(f"fps: expected 1 to 60, found {self.fps}")
        if self.kbps is not None and not LEAST_KBPS <= self.kbps <= 10_000:
            raise KinecastError(f"rate: expected {LEAST_KBPS:g} to 10000 kbps, found {self.kbps}")
        check_quality(self.quality)
        if not 1 <= self.picture_quality <= 100:
            raise KinecastError(f"picture quality: expected 1 to 100, found {self.picture_quality}")
        if not 0 <= self.jitter_ms <= 1000:
            raise KinecastError(f"jitter buffer: expected 0 to 1000 ms, found {self.jitter_ms}")
        check_reading(self.crop)


@dataclass(frozen=True)
class CameraFrame:
    """One frame of the camera: `picture` (H, W, 3) uint8 RGB of any size; `number` is the camera's own count."""

    picture: np.ndarray
    captured: float
    number: int

    def __post_init__(self) -> None:
        shape = self.picture.shape
        if self.picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3:
            raise KinecastError(f"camera frame: expected uint8 (H, W, 3), found {self.picture.dtype} {shape}")
        if not all(8 <= side <= MAX_CAMERA_SIDE for side in shape[:2]):
            raise KinecastError(f"camera frame: expected 8 to {MAX_CAMERA_SIDE} pixels per side, found {shape[:2]}")
        if not 0 <= self.captured < _LATEST:  # also refuses NaN
            raise KinecastError(f"camera frame: expected seconds since 1970, found {self.captured}")


@dataclass(frozen=True)
class ShownFrame:
    """One frame to show, uint8 (h, w, 3) at the model's size.

    `number` is the sender's frame number, its time in frame periods; `captured` is its capture time on the sender's
    clock, to half a frame period. `state` is `received`; `forecast`, for a missing frame; `idle`, an avatar moving on
    sampled futures while nothing arrives; or `frozen`, the last frame, repeated. `head` is the pose of the 3-D head
    that the other side is seen as; `picture` may then be empty. `face` is what the motion says of the face, where
    blendshapes are recorded.
    """

    picture: np.ndarray
    number: int
    captured: float | None
    state: ShownState
    head: HeadPose | None = None
    face: Face | None = None


@dataclass(frozen=True)
class CallStats:
    """Figures of a call so far; rates are of the last seconds, totals of the whole call.

    kbps count the bytes of messages on each channel, per direction, `audio` RTP payload and headers. Latency is from
    capture to display, on the sender's clock as estimated by pings. `share_forecast` and `loss` (of expected motion
    packets) cover the last seconds too. `queues` are the current lengths of all queues.
    """

    state: State = "new"
    seconds: float = 0.0
    kbps_sent: dict[str, float] = field(default_factory=dict)  # motion, picture, audio, total
    kbps_received: dict[str, float] = field(default_factory=dict)
    bytes_sent: dict[str, int] = field(default_factory=dict)
    bytes_received: dict[str, int] = field(default_factory=dict)
    fps_captured: float = 0.0
    fps_sent: float = 0.0
    fps_shown: float = 0.0
    dropped_camera: int = 0  # camera frames skipped because a newer one came
    dropped_late: int = 0  # frames never shown, because a newer one was due
    latency_ms_p50: float | None = None
    latency_ms_p95: float | None = None
    round_trip_ms: float | None = None
    line_kbps: float | None = (
        None  # what may be sent, headers included: the budget or what the line bears, None no limit
    )
    jitter_buffer_ms: float = 0.0
    share_forecast: float = 0.0
    loss: float = 0.0
    refused: int = 0  # invalid messages
    failed: int = 0  # frames and messages skipped after a local failure
    frames_without_face: int = 0  # of the camera: the other side holds the last picture
    pictures_sent: int = 0
    pictures_received: int = 0
    queues: dict[str, int] = field(default_factory=dict)
    plain_video_kbps: float = PLAIN_VIDEO_KBPS

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)
