"""The other end of a call, for `live_browser.py --alone`: sends a clip's motion and draws nothing.

A `kinecast` call session over the same network and protocol, whose model is replaced by one that knows the motion of
the clip's frames beforehand and draws grey. What it costs is coding motion, some 2 ms a frame.

    python benchmarks/live_peer.py CLIP INVITATION MODEL
"""

import asyncio
import sys
import tempfile
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kinecast.apps.call.config import CallConfig, CameraFrame
from kinecast.apps.call.models import load_models
from kinecast.apps.call.session import CallSession
from kinecast.media.pictures import to_tensor
from kinecast.media.video import probe, read_frames

FRAMES = 150  # of the clip, forwards and backwards


class Remembered:
    """A backbone that detects each picture once, and draws none."""

    def __init__(self, backbone: Any) -> None:
        self._backbone, self._known = backbone, dict[int, Any]()
        self._grey = torch.full((1, 3, *backbone.frame_size), 0.5)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def detect(self, frames: torch.Tensor) -> Any:
        """Return the motion of a picture, computed the first time only."""
        key = zlib.crc32(frames.numpy())
        if key not in self._known:
            self._known[key] = self._backbone.detect(frames)
        return self._known[key]

    def animate(self, *_: Any) -> torch.Tensor:
        """Return grey."""
        return self._grey


async def call(clip: Path, invitation: str, model: str) -> None:
    """Join, and send until the other side hangs up."""
    config = CallConfig(model=model, precision="bf16")
    models = load_models(config)
    backbone: Any = Remembered(models.backbone)
    pictures = list(read_frames(clip, backbone.frame_size[0], "center", FRAMES))
    for picture in pictures:
        backbone.detect(to_tensor(picture))
    pictures += pictures[-2:0:-1]
    ended = asyncio.Event()

    def on_event(kind: str, line: str) -> None:
        print(f"{kind}: {line}", file=sys.stderr, flush=True)
        if line == "ended":
            ended.set()

    session = CallSession(config, lambda frame: None, on_event, replace(models, backbone=backbone))
    await session.open()
    await session.join_room(invitation)
    started, number, period = time.time(), 0, 1 / probe(clip).fps
    while not ended.is_set():
        picture: np.ndarray = pictures[number % len(pictures)]
        session.submit(CameraFrame(picture, time.time(), number))
        number += 1
        await asyncio.sleep(max(started + number * period - time.time(), 0))
    await session.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        import os

        os.environ["KINECAST_CACHE"] = cache
        asyncio.run(call(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
