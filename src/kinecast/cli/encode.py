"""`kinecast encode`: a clip to a motion bitstream or to video with GFV messages, and either of these to the other."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import (
    CropOption,
    DeviceOption,
    EngineOption,
    FaceOption,
    FpsOption,
    JsonOption,
    LimitOption,
    PrecisionOption,
    SeedOption,
    StripOption,
    TrueFpsOption,
    clip_named,
    load_model,
    print_json,
    progress,
    say,
)
from kinecast.cli.model_choice import AUTO, AutoModelOption, choose_for_clip
from kinecast.cli.outputs import WRITES_STREAM
from kinecast.errors import KinecastError
from kinecast.files import GFV_OUTPUTS, STREAM_OUTPUTS
from kinecast.packages import needs


def encode(
    clip: Annotated[
        Path,
        typer.Argument(
            help="mp4, mov, webm, gif, a folder of pictures, or - for standard input; a .kcm or video with GFV "
            "messages is converted."
        ),
    ],
    output: Annotated[
        Path,
        WRITES_STREAM,
        typer.Option("-o", "--output", help="Motion stream to write: .kcm; with --gfv .mp4, .h264 or .h265."),
    ],
    gfv: Annotated[
        bool,
        typer.Option(
            "--gfv",
            help="Write video with the motion in SEI messages (generative face video, H.274), which any player opens "
            "and shows as a still.",
        ),
    ] = False,
    quality: Annotated[
        float | None,
        typer.Option(
            "--quality",
            help="1 to 9, 4.5 too: steps of 1/32 to 1/512 for positions, 8 times as wide for Jacobians; with --gfv "
            "powers of two at least as fine. (default: 5, or as the budget allows)",
        ),
    ] = None,
    kbps: Annotated[
        float | None,
        typer.Option(
            "--kbps",
            help="Budget for all but sound, kept over 10 s: chooses steps and frame rate of the motion, and sends "
            "further pictures where the face as drawn is off. (default: every frame, one picture)",
        ),
    ] = None,
    layers: Annotated[
        int | None,
        typer.Option(
            "--layers",
            help="Split motion and picture into 2 to 4 layers: a base of about 0.5 kbps and refinements, which may be "
            "dropped from the last on. Of a .kcm: keep so many. (default: one)",
        ),
    ] = None,
    forecast: Annotated[
        str,
        typer.Option(
            "--forecast",
            help="Concealment of lost and skipped frames: interpolate, hold, damped, gru, vrnn, or a file. (default: "
            "damped; with --kbps interpolate)",
        ),
    ] = "auto",
    terms: Annotated[
        str,
        typer.Option("--terms", help="With --kbps and a forecast: measure its error on keypoints or on pictures."),
    ] = "keypoints",
    picture_quality: Annotated[
        int,
        typer.Option(
            "--picture-quality", help="WebP quality of the first frame, 1-100; approximate with --gfv, not with --kbps."
        ),
    ] = 60,
    profile: Annotated[
        str, typer.Option("--profile", help="Prediction tables: auto, generic, or a name of trained ones.")
    ] = "auto",
    model: AutoModelOption = AUTO,
    crop: CropOption = "center",
    face: FaceOption = None,
    fps: FpsOption = None,
    true_fps: TrueFpsOption = None,
    limit: LimitOption = None,
    sound: Annotated[
        bool, typer.Option("--sound", help="Include the clip's sound (Opus, mono; copied unchanged to an .mp4).")
    ] = False,
    sound_kbps: Annotated[float, typer.Option("--sound-kbps", help="Bit rate of the sound, 6 to 96 kbps.")] = 24.0,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    strip: StripOption = False,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Encode a clip as its first frame and a few kilobits per second of motion, streaming.

    A .kcm with --gfv, and video with GFV messages without it, are converted: the quantised motion is unchanged. A .kcm
    with --layers is thinned, decoding nothing. --seed seeds a forecaster that samples.
    """
    needs("kinecast encode", "codec")
    from kinecast.apps.stream.clips import EncodeOptions, encode_clip
    from kinecast.apps.stream.gfv.clips import encode_gfv
    from kinecast.media.framing import around_face

    _check_kind(output, gfv)
    if layers is not None and gfv:
        raise KinecastError("layers: expected none with --gfv, whose messages have none: drop --layers")
    _check_budget(gfv, kbps, forecast, terms, profile)
    crop, source = around_face(crop, face), clip_named(clip, strip)
    options = EncodeOptions(
        quality,
        kbps,
        picture_quality=picture_quality,
        profile=profile,
        crop=crop,
        fps=fps,
        limit=limit,
        terms=terms,
        true_fps=true_fps,
        sound_kbps=sound_kbps if sound else None,
        layers=layers if layers != 1 else None,
    )
    given = {"--quality": quality, "--kbps": kbps, "--fps": fps, "--true-fps": true_fps, "--limit": limit}
    converter = _thinner(clip, layers, given) or _converter(clip, gfv, given)
    if converter is not None:
        report = converter(output, picture_quality, sound, sound_kbps)
    else:
        from kinecast.apps.stream.fillers import load_filler
        from kinecast.codec.filling import DEFAULT_FILLER, INTERPOLATE

        forecast = (DEFAULT_FILLER if kbps is None else INTERPOLATE) if forecast == "auto" else forecast
        model = choose_for_clip(model, source, crop, DEFAULT_FILLER if forecast == INTERPOLATE else forecast)
        backbone = load_model(model, device, engine, precision)
        loaded = None if forecast == INTERPOLATE else load_filler(forecast, backbone.motion_dim, seed)
        filler = Path(forecast).name, loaded
        options = replace(options, filler=filler, model_name=Path(model).name)
        with progress() as update:
            report = (encode_gfv if gfv else encode_clip)(backbone, source, output, options, update)
    if json:
        print_json(report)
    say(f"{output}: {_summary(report)}")


def _check_kind(output: Path, gfv: bool) -> None:
    """Check that the output's suffix matches the format."""
    if gfv == (output.suffix.lower() in STREAM_OUTPUTS):
        expected, found = (GFV_OUTPUTS, "with") if gfv else (STREAM_OUTPUTS, "without")
        fix = "rename the output" if gfv else "rename the output, or add --gfv"
        raise KinecastError(f"{output}: expected {' or '.join(expected)} {found} --gfv, found {output.suffix!r}: {fix}")


def _check_budget(gfv: bool, kbps: float | None, forecast: str, terms: str, profile: str) -> None:
    if terms != "keypoints" and (kbps is None or forecast in ("auto", "interpolate")):
        raise KinecastError(
            f"terms: expected a budget and a forecast with {terms}, found {'none' if kbps is None else 'no forecast'}: "
            "add --kbps and --forecast, or leave --terms out"
        )
    if gfv and kbps is not None:
        raise KinecastError("rate: expected no budget with --gfv, which sends every frame: drop --kbps")
    if gfv and profile != "auto":
        raise KinecastError(
            f"profile: expected none with --gfv, whose coding the standard fixes, found {profile}: drop --profile"
        )


def _thinner(clip: Path, layers: int | None, given: Mapping[str, Any]) -> Callable[..., dict[str, Any]] | None:
    """Return what keeps the first layers of a .kcm; None for anything else."""
    from kinecast.apps.stream.layered import thin_stream

    if layers is None or clip.suffix.lower() not in STREAM_OUTPUTS:
        return None
    _check_unchanged(clip, given)
    return lambda output, *_: thin_stream(clip, output, layers)


def _check_unchanged(clip: Path, given: Mapping[str, Any]) -> None:
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        raise KinecastError(f"{clip}: expected no {wrong[0]}, since a stream is converted unchanged: drop {wrong[0]}")


def _converter(clip: Path, gfv: bool, given: Mapping[str, Any]) -> Callable[..., dict[str, Any]] | None:
    """Return the converter from one kind of stream to the other; None for a clip.

    Raises:
        KinecastError: it is already of the requested kind, or an option was given that applies to encoding a clip.
    """
    from kinecast.apps.stream.gfv.convert import gfv_to_stream, stream_to_gfv
    from kinecast.apps.stream.gfv.reading import carries_gfv

    of_stream = clip.suffix.lower() in STREAM_OUTPUTS
    if not of_stream and not carries_gfv(clip):
        return None
    if of_stream != gfv:
        found, fix = (
            ("a .kcm", "add --gfv to convert it") if of_stream else ("GFV messages", "drop --gfv to convert it")
        )
        raise KinecastError(f"{clip}: expected a stream of the other kind, or a clip, found {found}: {fix}")
    _check_unchanged(clip, given)
    if of_stream:
        return lambda output, quality, sound, kbps: stream_to_gfv(clip, output, quality, sound)
    return lambda output, quality, sound, kbps: gfv_to_stream(clip, output, quality, kbps if sound else None)


def _summary(report: Mapping[str, Any]) -> str:
    """Return one line on what was written and the rate of each part."""
    if "of_layers" in report:
        bytes_kept = f"{report['output_bytes']} of {report['input_bytes']} bytes"
        return f"{report['layers']} of {report['of_layers']} layers, {bytes_kept}"
    frames = f"{report['frames']} frames at {report['fps']:.4g} fps"
    if "frames_sent" in report:
        frames = f"{report['frames_sent']} of {frames}"
    inside = f"{report['overhead_kbps']:.2f} of it framing" if "overhead_kbps" in report else ""
    if "message_kbps" in report:
        inside = f"{report['message_kbps']:.2f} of it messages, the rest skipped pictures"
    layers = report.get("layers", [])
    if layers:
        each = " + ".join(f"{one['motion_kbps']:.2f}" for one in layers)
        inside = f"{each} in {len(layers)} layers"
    pictures = "picture" if report.get("pictures", 1) == 1 else f"{report['pictures']} pictures"
    parts = [("times of frames", report.get("times_kbps")), ("sound", report.get("sound_kbps"))]
    beside = "".join(f", {name} {kbps:.2f} kbps" for name, kbps in parts if kbps)
    unseen = report.get("frames_without_face")
    beside += f", no face in {unseen} frames" if unseen else ""
    return (
        f"{frames}, motion {report['motion_kbps']:.2f} kbps{f' ({inside})' if inside else ''}, {pictures} "
        f"{report['picture_bytes']} bytes{beside}, {report['total_kbps']:.2f} kbps in all"
    )
