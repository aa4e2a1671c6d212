"""A clip within a budget: motion first, then as many pictures, as good, as the rest of the budget allows.

The motion of the whole clip is found and coded, then its frames are read a second time for the pictures.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import torch

from kinecast.apps.stream.budget import Coder, Recording
from kinecast.apps.stream.key_pictures import KeyPictures
from kinecast.apps.stream.options import EncodeOptions, layout_for_quality, profile_named
from kinecast.apps.stream.sending import BATCH, Beside, Progress, Sending
from kinecast.apps.stream.sound import SoundWriter
from kinecast.codec.filling import Forecast
from kinecast.codec.packets import REFERENCES, Header, MotionPacket
from kinecast.codec.quantizer import Layout
from kinecast.codec.schedule import ClosedLoop, RateControl, Render, Schedule, in_pictures, in_steps
from kinecast.codec.stream import BodyUnit, write_stream
from kinecast.media.footage import Footage
from kinecast.media.pictures import to_tensor, to_uint8

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone


def encode_within(
    backbone: "Backbone",
    seen: Footage,
    file: BinaryIO,
    header: Header,
    options: EncodeOptions,
    sound: SoundWriter | None,
    progress: Progress,
) -> tuple[Beside, dict[str, int], dict[str, Any]]:
    """Encode a clip within `options.kbps`; returns what was counted beside the motion, sizes, and what was chosen."""
    assert options.kbps is not None
    sending = Sending(backbone, seen, None, progress)
    recording = Recording.of(sending)
    frames = (frame for _, batch in seen.batches(BATCH) for frame in told(batch, progress))
    return encode_recording(backbone, recording, frames, file, header, options, sound)


def encode_recording(
    backbone: "Backbone",
    recording: Recording,
    frames: Iterable[torch.Tensor],
    file: BinaryIO,
    header: Header,
    options: EncodeOptions,
    sound: SoundWriter | None = None,
) -> tuple[Beside, dict[str, int], dict[str, Any]]:
    """Encode a clip whose motion is known, and its frames (3, H, W) in [0, 1], as `encode_within`."""
    assert options.kbps is not None
    frames = iter(frames)
    seen = list(islice(frames, recording.opening + 1))
    coder = coder_for(backbone, options, header.fps, to_uint8(seen[-1][None])[0])
    motion = coder.within(recording, options.kbps, options.quality)
    header = replace(header, layout=motion.layout, fingerprint=motion.tables.fingerprint(), version=REFERENCES)
    rest = 125 * options.kbps * recording.seconds - len(bytes(header)) - motion.size
    pictures = KeyPictures(
        backbone,
        motion.shown(options.filler[1]),
        recording.present,
        recording.edges,
        max(rest, 1.0),
        in_steps(motion.layout),
    )
    pictures.walk(chain(seen, frames))
    beside, first = motion.beside(sound), pictures.pictures[0]

    def units() -> Iterator[BodyUnit]:
        for unit in motion.units(beside):
            if isinstance(unit, MotionPacket):
                yield from pictures.units(beside.frames)
            yield unit

    sizes = write_stream(file, header, first.data, first.mime, units())
    every = len(recording.vectors) / max(beside.sent, 1)
    facts = {"budget_kbps": options.kbps, "quality": motion.quality, "one_frame_in": round(every, 2)}
    return beside, sizes, facts | {"pictures": len(pictures.pictures), "switches": len(pictures.choices)}


def told(frames: torch.Tensor, progress: Progress) -> torch.Tensor:
    """Tell of frames whose pictures are looked at, and return them."""
    progress("pictures", len(frames))
    return frames


def coder_for(backbone: "Backbone", options: EncodeOptions, fps: float, picture: np.ndarray) -> Coder:
    """Return how a backbone's motion is coded. Only distances in pictures need `picture`, uint8 (H, W, 3)."""
    template = backbone.unflatten(torch.empty(0, backbone.motion_dim))
    forecast = options.filler[1]
    return Coder(
        partial(layout_for_quality, template),
        partial(profile_named, options.profile, options.model_name),
        options.packing,
        backbone.needs_face,
        None if forecast is None else partial(_thinned, backbone, options.terms, fps, picture, forecast),
    )


def _thinned(
    backbone: "Backbone", terms: str, fps: float, picture: np.ndarray, forecast: Forecast, layout: Layout, kbps: float
) -> Schedule:
    """Return what leaves frames out to keep a budget of motion."""
    distance = in_pictures(renderer(backbone, picture)) if terms == "pictures" else in_steps(layout)
    return RateControl(ClosedLoop(forecast, distance, 0.0), kbps, fps)


def renderer(backbone: "Backbone", picture: np.ndarray) -> Render:
    """Return what draws motion vectors as a receiver of the reference picture, uint8 (H, W, 3), does."""
    source = backbone.source(to_tensor(picture[None]).to(backbone.device))

    def render(vectors: np.ndarray) -> np.ndarray:
        motion = backbone.unflatten(torch.from_numpy(vectors.astype(np.float32))).to(backbone.device)
        return to_uint8(backbone.animate(source.state, source.motion, motion).cpu())

    return render
