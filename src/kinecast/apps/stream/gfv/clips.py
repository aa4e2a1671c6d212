"""From a clip to video with GFV messages and back, in constant memory, with any backbone."""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kinecast.apps.stream.gfv.reading import GfvClip
from kinecast.apps.stream.gfv.writing import GfvWriter
from kinecast.apps.stream.options import DEFAULT_QUALITY, EncodeOptions, layout_for_quality
from kinecast.apps.stream.sending import BATCH, Progress, Sending
from kinecast.codec.gfv.coding import GfvEncoder
from kinecast.codec.gfv.layouts import FrameCoder, exact_layout
from kinecast.codec.gfv.naming import Sender
from kinecast.codec.identity import model_identity
from kinecast.codec.quantizer import Layout, dequantize, quantize
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import CLIP_OUTPUTS, GFV_OUTPUTS, check_output
from kinecast.media.footage import footage
from kinecast.media.sound import clip_sound
from kinecast.media.video import VideoWriter, to_tensor, to_uint8
from kinecast.motion import Motion

if TYPE_CHECKING:  # the codec knows nothing of networks: it is given one
    from kinecast.models.base import Backbone


def encode_gfv(
    backbone: "Backbone",
    clip: str | Path,
    output: str | Path,
    options: EncodeOptions | None = None,
    progress: Progress = lambda stage, frames: None,
) -> dict[str, Any]:
    """Encode a clip as a still with GFV messages: .mp4 or .h264 by x264, .h265 by x265; returns sizes and rates.

    Of the options, `quality` chooses the steps, as whole powers of two at least as fine as those of a .kcm, and
    `picture_quality` that of the base picture; sound is copied into an mp4 if `sound_kbps` is set. All frames are sent.

    Raises:
        KinecastError: unreadable input, a number out of range, or an output that cannot be written or tell its times.
    """
    options = options or EncodeOptions()
    check_output(output, GFV_OUTPUTS, "GFV stream", [clip])
    if options.kbps is not None:
        raise KinecastError("rate: expected no budget with GFV messages, which every picture carries, found one")
    layout = exact_layout(backbone_layout(backbone, DEFAULT_QUALITY if options.quality is None else options.quality))
    seen = footage(clip, backbone.frame_size, options.crop, options.fps, options.limit, true_fps=options.true_fps)
    rate = Fraction(seen.rate).limit_denominator(1001 if seen.rate > 1 else 1_000_000)
    started = time.perf_counter()
    sending = Sending(backbone, seen, None, progress)
    encoder = GfvEncoder(layout, Sender(layout, model_identity(backbone), options.model_name))
    sound = None if options.sound_kbps is None else clip_sound(clip)
    picture = to_uint8(sending.picture)[0]
    with GfvWriter(output, picture, rate, seen.constant, options.picture_quality, sound) as writer:
        for edges, vector in sending.timed():
            payload = encoder.push(quantize(vector[None], layout)[0], sure=sending.present)
            writer.write(payload, None if seen.constant else (float(edges[0]), float(edges[1])))
    return {
        **report(writer, sending.seconds),
        "frames_without_face": sending.absent,
        "constant_rate": seen.constant,
        "seconds": round(time.perf_counter() - started, 3),
    }


def decode_gfv(
    backbone: "Backbone",
    stream: str | Path,
    output: str | Path,
    quality: int = 18,
    progress: Progress = lambda stage, frames: None,
    sound: bool = True,
) -> dict[str, Any]:
    """Render the clip described by GFV messages, with its sound if `sound` is set.

    Every frame is rendered by the network, including the base picture's. Damaged messages are skipped, with a warning.

    Raises:
        KinecastError: not such a video, one of another model, or with numbers that do not fit the model.
    """
    clip = GfvClip.open(stream)
    check_output(output, CLIP_OUTPUTS, "clip", [clip.path])
    vectors = motion_of(clip, backbone)
    source = to_tensor(clip.picture[None]).to(backbone.device)
    state, source_motion = backbone.encode_source(source), backbone.detect(source)
    rate = Fraction(clip.rate).limit_denominator(1001)
    heard = clip_sound(clip.path) if sound else None
    with VideoWriter(output, rate, quality=quality, sound=heard) as writer:
        while batch := list(islice(vectors, BATCH)):
            motion = backbone.unflatten(torch.from_numpy(np.stack([vector for *_, vector in batch])))
            edges = np.array([*(begin for begin, *_ in batch), batch[-1][1]])
            frames = backbone.animate(state, source_motion, motion.to(backbone.device)).cpu()
            writer.write(frames, None if clip.constant else edges)
            progress("decode", len(batch))
        written = writer.frames_written
    return {"frames": written, "fps": clip.rate}


def read_gfv(backbone: "Backbone", stream: str | Path) -> tuple[Tensor, Motion]:
    """Return the base picture, (1, 3, H, W) in [0, 1], and the motion of its messages, to animate any source.

    Raises:
        KinecastError: as `decode_gfv`.
    """
    clip = GfvClip.open(stream)
    valid = list[bool]()
    found = list(motion_of(clip, backbone, valid))
    motion = backbone.unflatten(torch.from_numpy(np.stack([vector for *_, vector in found])))
    motion = replace(
        motion, fps=clip.rate, frame_size=backbone.frame_size, clip=clip.path.name, valid=torch.tensor(valid)
    )
    if not clip.constant:
        begins = torch.tensor([begin for begin, *_ in found], dtype=torch.float64)
        motion = replace(motion, times=begins, end=found[-1][1])
    return to_tensor(clip.picture[None]), motion


def motion_of(
    clip: GfvClip, backbone: "Backbone", valid: list[bool] | None = None
) -> Iterator[tuple[float, float, np.ndarray]]:
    """Return when frames are shown, seconds from and until, and their motion (D,), as they come.

    Whether the sender was sure of each is appended to `valid`: of kinecast's own, whether it showed a face.

    Raises:
        KinecastError: it is of another model, or has other numbers than this one's.
    """
    layout = _checked_layout(clip, backbone)
    coder, exact = FrameCoder(layout), clip.sender is not None

    def vectors() -> Iterator[tuple[float, float, np.ndarray]]:
        for begin, end, frame in clip.frames():
            try:
                values = frame.values
                vector = dequantize(coder.levels(values)[None], layout)[0] if exact else coder.vector(values)
            except KinecastError as error:
                raise KinecastError(f"{clip.path}: {error}") from error
            if valid is not None:
                valid.append(not (exact and frame.message.low_confidence))
            yield begin, end, vector

    return vectors()


def _checked_layout(clip: GfvClip, backbone: "Backbone") -> Layout:
    size = clip.picture.shape[:2]
    if size != tuple(backbone.frame_size):
        height, width = backbone.frame_size
        raise KinecastError(
            f"{clip.path}: expected a base picture of the model's {width}x{height}, found {size[1]}x{size[0]}: "
            "name the model that wrote it with --model"
        )
    network, sender = clip.base.network, clip.sender
    if sender is None:
        if network is not None:
            found = f"the network {network.uri[:80]!r}" if network.data is None else "a network of its own"
            raise KinecastError(f"{clip.path}: expected a stream of this model, found one of {found}")
        text = "it does not name its network: messages are decoded as this model's"
        warnings.warn(KinecastWarning(f"{clip.path}: {text}"), stacklevel=4)
        return backbone_layout(backbone)
    identity = model_identity(backbone)
    if identity != sender.model or sender.layout.dim != backbone.motion_dim:
        raise KinecastError(
            f"{clip.path}: expected the model {sender.model_name or '?'} ({sender.model.hex()[:12]}...) that encoded "
            f"it, found one of {identity.hex()[:12]}...: name the right one with --model"
        )
    return sender.layout


def backbone_layout(backbone: "Backbone", quality: float = 5) -> Layout:
    """Return the layout of a backbone's motion at a quality."""
    return layout_for_quality(backbone.unflatten(torch.empty(0, backbone.motion_dim)), quality)


def report(writer: GfvWriter, seconds: float) -> dict[str, Any]:
    """Return sizes and rates in kbps over a duration in seconds; messages and skipped pictures count as motion."""
    sizes = writer.sizes | {"container_bytes": writer.path.stat().st_size - sum(writer.sizes.values())}
    parts = {
        "message": sizes["message_bytes"],
        "motion": sizes["message_bytes"] + sizes["skipped_bytes"],
        "total": sum(sizes.values()),
    }
    rates = {f"{part}_kbps": 8 * size / seconds / 1000 for part, size in parts.items()}
    return {"frames": writer.frames, "fps": writer.frames / seconds, **sizes, **rates}
