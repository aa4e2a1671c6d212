"""Motion streams (.kcm) to video with GFV messages and back: the same quantised values, without any network."""

import warnings
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from kinecast.apps.stream.clips import first_picture, frames_of, profile_for, profile_named
from kinecast.apps.stream.gfv.clips import report
from kinecast.apps.stream.gfv.reading import GfvClip
from kinecast.apps.stream.gfv.writing import GfvWriter
from kinecast.apps.stream.sending import Beside
from kinecast.apps.stream.sound import SoundWriter, stream_sound
from kinecast.codec.encoder import FILE, encode_levels
from kinecast.codec.filling import DEFAULT_FILLER, interpolate
from kinecast.codec.gfv.coding import GfvEncoder
from kinecast.codec.gfv.layouts import FrameCoder
from kinecast.codec.gfv.naming import Sender
from kinecast.codec.layers import stream_decoder
from kinecast.codec.packets import EXTENDED, VERSION, Header
from kinecast.codec.quantizer import quantize
from kinecast.codec.references import ChoiceUnit
from kinecast.codec.schedule import Present
from kinecast.codec.stream import BodyUnit, StreamReader, code_picture, write_stream
from kinecast.codec.times import FrameClock
from kinecast.errors import KinecastError, KinecastWarning
from kinecast.files import GFV_OUTPUTS, STREAM_OUTPUTS, atomic_path, check_output, existing_file
from kinecast.media.sound import clip_sound


def stream_to_gfv(
    stream: str | Path, output: str | Path, picture_quality: int = 60, sound: bool = False
) -> dict[str, Any]:
    """Write a motion stream (.kcm) as a still with GFV messages of the same quantised values; returns sizes and rates.

    The first picture is coded anew, and later ones are passed over, with a warning. Frames that were left out or lost
    are interpolated, with a warning. Times go into an mp4, and so does sound if `sound` is set.

    Raises:
        KinecastError: no .kcm file, or an output that cannot be written or tell its times or sound.
    """
    path = existing_file(stream, "motion stream (.kcm)")
    check_output(output, GFV_OUTPUTS, "GFV stream", [path])
    with path.open("rb") as file:
        reader = StreamReader(file)
        header = reader.header
        units = reader.units()
        picture = first_picture(units, header, path)
        clock, chosen = FrameClock(header.rate), list[ChoiceUnit]()
        units = _noting(units, chosen)
        layout = header.layers[-1] if header.layers else header.layout
        frames = interpolate(frames_of(units, stream_decoder(header, profile_for(header)), clock))
        first = next(frames, None)
        if first is None:
            raise KinecastError(f"{path}: expected at least one frame of motion, found none: copy it again")
        encoder = GfvEncoder(layout, Sender(layout, header.model, header.model_name))
        heard = stream_sound(path, clock.start(first.number)) if sound and header.version >= EXTENDED else None
        filled, end = 0, 0.0
        with GfvWriter(output, picture, Fraction(*header.rate), not clock.used, picture_quality, heard) as writer:
            for frame in (first, *frames):
                guessed = frame.concealed and not frame.absent
                filled += guessed
                # With layers, some frames may be of a lower one.
                again = guessed or bool(header.layers)
                levels = quantize(frame.vector[None], layout)[0] if again else frame.levels
                begin, end = (float(edge) for edge in clock.edges([frame.number]))
                writer.write(encoder.push(levels, sure=not frame.absent), (begin, end) if clock.used else None)
    if chosen:
        text = f"{path}: expected one picture, found {len(chosen)} choices of others: all is drawn from the first"
        warnings.warn(KinecastWarning(text), stacklevel=2)
    if filled:
        text = f"{path}: {filled} skipped or lost frames are interpolated"
        warnings.warn(KinecastWarning(text), stacklevel=2)
    return report(writer, clock.seconds) | {"constant_rate": not clock.used}


def _noting(units: Iterator[BodyUnit], chosen: list[ChoiceUnit]) -> Iterator[BodyUnit]:
    """Yield units, and note choices of pictures in passing."""
    for unit in units:
        if isinstance(unit, ChoiceUnit):
            chosen.append(unit)
        yield unit


def gfv_to_stream(
    video: str | Path, output: str | Path, picture_quality: int = 60, sound_kbps: float | None = None
) -> dict[str, Any]:
    """Write video with GFV messages of kinecast's own as a motion stream (.kcm) of the same quantised values.

    The base picture is re-encoded. Times are kept; sound is kept if `sound_kbps` sets its rate.

    Raises:
        KinecastError: not such a video, one of another program, whose steps are unknown, or a damaged one.
    """
    clip = GfvClip.open(video)
    check_output(output, STREAM_OUTPUTS, "motion stream", [clip.path])
    sender = clip.sender
    if sender is None:
        raise KinecastError(
            f"{clip.path}: expected a stream written by kinecast, which names steps and model, found another: render "
            "it with kinecast decode"
        )
    layout, coder = sender.layout, FrameCoder(sender.layout)
    tables = profile_named("auto", sender.model_name, layout)
    rate = Fraction(clip.rate).limit_denominator(1001 if clip.rate > 1 else 1_000_000)
    sound = None if sound_kbps is None else clip_sound(clip.path)
    beside = Beside(not clip.constant, None if sound is None or sound_kbps is None else SoundWriter(sound, sound_kbps))
    # Frames without a face are skipped, as in `encode_clip`.
    absent = any(frame.message.low_confidence for *_, frame in clip.frames())
    schedule = Present(lambda: beside.present) if absent else None
    height, width = clip.picture.shape[:2]
    header = Header(
        layout,
        (rate.numerator, rate.denominator),
        (height, width),
        sender.model,
        sender.model_name,
        tables.name,
        tables.fingerprint(),
        DEFAULT_FILLER,
        EXTENDED if beside.extended or absent else VERSION,
    )

    def levels() -> Iterator[np.ndarray]:
        for begin, end, frame in clip.frames():
            beside.came(np.array([begin, end]), not frame.message.low_confidence)
            try:
                yield coder.levels(frame.values)
            except KinecastError as error:
                raise KinecastError(f"{clip.path}: {error}") from error

    data, mime = code_picture(clip.picture, picture_quality)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        packets = encode_levels(levels(), layout, tables, replace(FILE, skips=absent), schedule)
        sizes = write_stream(file, header, data, mime, beside.units(packets))
    motion = sizes["payload_bytes"] + sizes["overhead_bytes"]
    kbps = {
        "motion_kbps": 8 * motion / beside.seconds / 1000,
        "total_kbps": 8 * sum(sizes.values()) / beside.seconds / 1000,
    }
    return {"frames": beside.frames, "fps": clip.rate, "constant_rate": clip.constant, **sizes, **kbps}
