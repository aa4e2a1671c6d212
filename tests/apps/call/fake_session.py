"""A session without a model and without another machine: tests of the page see in it what the page asks for.

It echoes: the camera's frames come back, every fifth as a forecast one, and the microphone is heard.
"""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from kinecast.apps.call.config import CallConfig, CallStats, CameraFrame, ShownFrame
from kinecast.apps.call.session import CallSession
from kinecast.apps.heads.expression import SHAPES, HeadPose
from kinecast.apps.heads.glb import Head, own_head
from kinecast.errors import KinecastError

INVITATION = "https://rooms.example.org/#kinecast-1-abcdefghijklmnopqrstuvwxyz"


def no_models(config: CallConfig) -> Any:
    """Stands for `load_models`."""
    return SimpleNamespace(name=f"models of {config.model}", backbone=SimpleNamespace(frame_size=(128, 128)))


class FakeSession(CallSession):
    """`made` lists all there were; nothing of CallSession but its signatures is used."""

    made: list["FakeSession"] = []

    def __init__(
        self,
        config: CallConfig,
        on_frame: Callable[[ShownFrame], None],
        on_event: Callable[[str, str], None],
        models: Any = None,
    ) -> None:
        self.config, self.on_frame, self.on_event, self.models = config, on_frame, on_event, models
        self.on_audio = None
        self.calls: list[tuple[Any, ...]] = []
        self.frames: list[CameraFrame] = []
        self.avatar: Any = "unset"
        self.state = "new"
        self.track: Any = None
        self.figures: dict[str, Any] = {}
        self.mark = "received"
        self.draws = True
        self.echoes = True
        FakeSession.made.append(self)

    def go(self, state: str) -> None:
        self.state = state
        self.on_event("state", state)
        if state == "connected" and self.track and self.on_audio:
            self.on_audio(self.track)

    async def open(self) -> None:
        await asyncio.sleep(0)

    async def host_room(self, server: str) -> str:
        self.calls.append(("host", server))
        if not server.startswith("http"):
            raise KinecastError(f"room server: expected http(s)://HOST:PORT, found {server!r}: name one")
        self.go("waiting")
        return INVITATION

    async def join_room(self, invitation: str) -> None:
        self.calls.append(("join", invitation))
        if invitation != INVITATION:
            raise KinecastError("invitation: expected one that is open, found one that was used: ask for another")
        self.go("connecting")

    async def make_offer(self) -> str:
        self.go("waiting")
        return "kinecast1:offer"

    async def accept_offer(self, text: str) -> str:
        if text != "kinecast1:offer":
            raise KinecastError("offer: expected kinecast1:..., found other text: copy all of it")
        self.go("connecting")
        return "kinecast1:answer"

    async def accept_answer(self, text: str) -> None:
        if text != "kinecast1:answer":
            raise KinecastError("answer: expected kinecast1:..., found other text: copy all of it")
        self.go("connected")

    def submit(self, frame: CameraFrame) -> None:
        self.frames.append(frame)
        if self.echoes and self.state in ("connected", "interrupted", "reconnecting"):
            picture = np.ascontiguousarray(frame.picture[:128, :128])
            state = "forecast" if self.mark == "received" and frame.number % 5 == 0 else self.mark
            self.on_frame(ShownFrame(picture, frame.number, frame.captured, state))  # type: ignore[arg-type]

    def set_muted(self, video: bool, audio: bool) -> None:
        self.calls.append(("muted", video, audio))

    def set_avatar(self, picture: Any) -> None:
        self.avatar = picture

    @property
    def head(self) -> Head:
        return own_head()

    def draw_heads(self, wanted: bool) -> None:
        self.draws = wanted

    def show_head(self, number: int, rotation: tuple[float, float, float] = (0, 0, 0), **shapes: float) -> None:
        """Show what a 3-D head does, as a session does where the other side is seen as one."""
        weights = np.array([shapes.get(name, 0.0) for name in SHAPES], np.float32)
        pose = HeadPose(weights, np.array(rotation, np.float32), np.zeros(2, np.float32), 1.0)
        picture = np.full((128, 128, 3), 90, np.uint8) if self.draws else np.zeros((0, 0, 3), np.uint8)
        self.on_frame(ShownFrame(picture, number, None, "received", pose))

    def stats(self) -> CallStats:
        n = len(self.frames)
        rates = {"motion": 5.1 + 1.5 * np.sin(n / 40), "picture": 0.0, "audio": 0.0}
        rates["total"] = float(sum(rates.values()))
        received = {**rates, "total": 7.4 + 2.2 * float(np.cos(n / 35))}
        values: dict[str, Any] = {
            "state": self.state,
            "seconds": 134.0,
            "kbps_sent": rates,
            "kbps_received": received,
            "bytes_sent": {"total": 94_300},
            "bytes_received": {"total": 121_800},
            "fps_captured": 25.0,
            "fps_sent": 25.0,
            "fps_shown": 25.0,
            "latency_ms_p50": 96.0,
            "latency_ms_p95": 131.0,
            "round_trip_ms": 1.2,
            "jitter_buffer_ms": 40.0,
            "share_forecast": 0.2,
            "loss": 0.034,
            "pictures_sent": 2,
            "pictures_received": 1,
        }
        return CallStats(**{**values, **self.figures})

    def audio_in(self, track: Any) -> None:
        self.track = track

    async def close(self) -> None:
        self.state = "closed"
