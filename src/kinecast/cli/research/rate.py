"""`kinecast research rate`: rate and quality against ordinary codecs, with skipped frames, and with packet loss."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    LimitOption,
    MeasuredFpsOption,
    ModelOption,
    PrecisionOption,
    SeedOption,
    load_model,
    print_json,
    progress,
    say,
)
from kinecast.cli.outputs import WRITES_FOLDER
from kinecast.cli.workers import RayOption, WorkersOption
from kinecast.packages import needs

PARTS = ("codecs", "frames", "losses")
_ACCOUNTING = (
    "Rates cover everything a receiver needs, over the clips' duration: for kinecast header, reference picture (WebP, "
    "as stored in .kcm) and motion packets; for codecs all packets, the intra frame among them, without a container. "
    "Codecs: one thread, no B-frames, no lookahead, no delayed frame, one intra frame, constant quality, 4:2:0; at "
    "half size frames are scaled by Lanczos filters both ways. "
)


def evaluate_rate(
    clips: Annotated[list[Path], typer.Argument(help="Clips of people that the model was not trained on.")],
    output: Annotated[
        Path, WRITES_FOLDER, typer.Option("-o", "--output", help="Folder for rate.md, results.json, figures and units.")
    ],
    model: ModelOption = DEFAULT_BACKBONE,
    part: Annotated[list[str] | None, typer.Option("--part", help="codecs, frames or losses. (default: all)")] = None,
    codec: Annotated[list[str] | None, typer.Option("--codec", help="x264, x265, av1 or vp9. (default: all)")] = None,
    forecast: Annotated[
        list[str] | None, typer.Option("--forecast", help="hold, damped or a forecaster. (default: all bundled)")
    ] = None,
    profile: Annotated[str, typer.Option("--profile", help="Prediction tables, as for encode.")] = "auto",
    face_api: Annotated[
        Path | None,
        typer.Option("--face-api", help="Folder `model` of npm's @vladmandic/face-api, for the identity distance."),
    ] = None,
    face_every: Annotated[int, typer.Option("--face-every", help="Measure the face in every n-th frame.")] = 4,
    crop: CropOption = "center",
    fps: MeasuredFpsOption = None,
    limit: LimitOption = None,
    workers: WorkersOption = None,
    ray: RayOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Measure rate and quality against video codecs, with skipped frames and packet loss. Resumable."""
    needs("kinecast research rate", "codec")
    needs("kinecast research rate", "research")
    from kinecast.apps.backbone_worker import backbone_digest
    from kinecast.apps.stream.clips import header_size, profile_named
    from kinecast.apps.stream.fillers import load_fillers
    from kinecast.files import make_folder
    from kinecast.jobs.pool import WorkerPool
    from kinecast.media.framing import check_reading
    from kinecast.research.distortions import Distortions
    from kinecast.research.rate_settings import QUALITY, Stream
    from kinecast.research.rate_units import RateSettings, RateWorker, measure_rates
    from kinecast.research.tables import write_report
    from kinecast.research.video_codecs import CODECS

    parts, codecs = part or list(PARTS), codec or list(CODECS)
    _check_choices(parts, codecs, tuple(CODECS), face_every)
    check_reading(crop, fps, limit)
    if absent := [name for name in codecs if not CODECS[name].available]:
        say(f"this PyAV lacks the encoders of {', '.join(absent)}: omitted")
    codecs = [name for name in codecs if name not in absent]
    backbone = load_model(model, device, engine, precision)
    forecasts = load_fillers(forecast, backbone.motion_dim, seed)
    measures = Distortions(face_api, face_every)
    for reason in measures.missing.values():
        say(f"omitted: {reason}")
    stream = Stream.of(backbone, lambda layout: profile_named(profile, Path(model).name, layout), forecasts)
    layout = stream.layouts[QUALITY]
    settings = RateSettings(
        model=model,
        weights=backbone_digest(backbone),
        device=device,
        engine=backbone.engine,
        precision=backbone.precision,
        profile=profile,
        fingerprint=stream.profile(layout).fingerprint().hex(),
        fillers=tuple(forecasts),
        seed=seed,
        measures=tuple(measures.names),
        face_api=face_api,
        face_every=face_every,
        crop=crop,
        fps=fps,
        limit=limit,
        units=make_folder(output / "units"),
    )
    asked = _settings(parts, codecs, forecasts)
    with WorkerPool(RateWorker(settings), workers, ray) as pool, progress(unit="done") as update:
        measured = measure_rates(pool, settings, clips, [one for of in asked.values() for one in of], say, update)
    results = {
        **_facts(clips, measured),
        "model": model,
        "missing": measures.missing,
        "absent_codecs": absent,
        "face_every": face_every,
    }
    text = _text(asked, measured, measures.names, header_size(backbone, layout), results, output)
    write_report(output, "rate", text, results)
    if json:
        print_json(results)
    say(f"wrote rate.md, results.json and figures to {output}")


def _check_choices(parts: Sequence[str], codecs: Sequence[str], known_codecs: Sequence[str], face_every: int) -> None:
    from kinecast.errors import KinecastError

    for what, chosen, known in (("part", parts, PARTS), ("codec", codecs, known_codecs)):
        if foreign := [name for name in chosen if name not in known]:
            raise KinecastError(f"{what}: expected {', '.join(known)}; found {foreign[0]!r}")
    if face_every < 1:
        raise KinecastError(f"face-every: expected 1 frame or more, found {face_every}")


def _settings(parts: Sequence[str], codecs: Sequence[str], forecasts: Any) -> dict[str, list[Any]]:
    """Return the settings to measure, by part; exact keypoints always."""
    from kinecast.research.loss_study import loss_settings
    from kinecast.research.rate_settings import Exact, codec_settings, frame_settings

    asked: dict[str, list[Any]] = {"exact": [Exact()]}
    asked |= {"codecs": list(codec_settings(codecs))} if "codecs" in parts else {}
    asked |= {"frames": list(frame_settings(forecasts))} if "frames" in parts else {}
    asked |= {"losses": list(loss_settings(forecasts))} if "losses" in parts else {}
    return asked


def _text(
    asked: dict[str, list[Any]], measured: Any, measures: list[str], header: int, results: dict[str, Any], output: Path
) -> str:
    """Return the report's text; write its figures, and add the tables to `results`."""
    from kinecast.research.loss_study import loss_rows
    from kinecast.research.rate_distortion import points_of

    text = _about(results)
    if "codecs" in asked:
        text += _codecs(points_of(asked["codecs"], measured, header), measures, results, output)
    if "frames" in asked:
        text += _frames(points_of(asked["frames"], measured), measures, results, output)
    if "losses" in asked:
        text += _losses(loss_rows(asked["losses"], measured), results, output)
    return text


def _facts(clips: Sequence[Path], measured: Any) -> dict[str, Any]:
    """Return length and rate of the clips, and the distortions of exact keypoints."""
    from kinecast.research.rate_distortion import mean_distortions
    from kinecast.research.rate_settings import Exact

    exact = measured[Exact()]
    return {
        "clips": {
            clip.stem: {"frames": int(one.facts["frames"]), "fps": one.facts["fps"]}
            for clip, one in zip(clips, exact, strict=True)
        },
        "exact_keypoints": mean_distortions(exact),
    }


def _about(results: dict[str, Any]) -> str:
    clips = ", ".join(
        f"{name} ({one['frames']} frames, {one['fps']:.4g} fps)" for name, one in results["clips"].items()
    )
    exact = ", ".join(f"{name} {value:.4f}" for name, value in results["exact_keypoints"].items())
    text = f"{_ACCOUNTING}Landmarks and identity: every {results['face_every']}th frame.\n\nClips: {clips}.\n\n"
    text += f"With the detector's own keypoints, unquantised: {exact}.\n\n"
    return text + "".join(f"Omitted: {reason}.\n\n" for reason in dict.fromkeys(results["missing"].values()))


def _codecs(points: Sequence[Any], measures: list[str], results: dict[str, Any], output: Path) -> str:
    from kinecast.apps.pipeline import PLAIN_VIDEO_KBPS
    from kinecast.research.rate_distortion import equal_quality
    from kinecast.research.rate_figures import plot_curves
    from kinecast.research.tables import markdown

    plot_curves(points, measures, output / "rate-codecs.png", "kinecast and ordinary codecs")
    results["codecs"] = [point.to_dict() for point in points]
    results["equal_quality"] = equal_quality(points, measures)
    text = markdown(
        "Against ordinary codecs", ("curve, setting", "kbps", "of it motion", *measures), _rows(points, measures)
    )
    rows = [
        [row["codec"]]
        + [f"{row[m]['relation'].replace('=', '')}{row[m]['kbps']:.2f} ({row[m]['saving']:.2f} x)" for m in measures]
        for row in results["equal_quality"]
    ]
    ours = results["equal_quality"][0]["ours_kbps"] if rows else float("nan")
    text += "\n" + markdown("What a codec needs to be as good", ("codec, kbps", *measures), rows)
    text += (
        f"\nAs good as kinecast at its default setting, {ours:.2f} kbps ({PLAIN_VIDEO_KBPS / ours:.0f} times below "
        f"{PLAIN_VIDEO_KBPS:g} kbps); in brackets the ratio of rates. `<`: the codec is better already at its lowest "
        "rate, and wins above it; `>`: it is not as good even at its highest measured rate.\n\n"
        "![curves](rate-codecs.png)\n\n"
    )
    return text


def _frames(points: Sequence[Any], measures: list[str], results: dict[str, Any], output: Path) -> str:
    from kinecast.research.rate_figures import plot_curves
    from kinecast.research.tables import markdown

    columns = [*measures, "own", "keypoint"]
    results["frames"] = [point.to_dict() for point in points]
    title = "motion alone, frames skipped"
    plot_curves(points, ["mae", "ssim", "own", "keypoint"], output / "rate-frames.png", title, log=False)
    header = ("curve, setting", "kbps", "sent", *columns)
    rows = [
        [row[0], row[1], f"{p.frames_sent:.2f}", *row[3:]]
        for row, p in zip(_rows(points, columns), points, strict=True)
    ]
    note = (
        "\nMotion packets alone, 60 frames per packet. Interpolation waits for the next frame that is sent; all others "
        "show each frame on time. `own`: MAE against the render from exact keypoints.\n\n"
        "![curves](rate-frames.png)\n\n"
    )
    return markdown("Skipped frames", header, rows) + note


def _losses(rows: list[dict[str, Any]], results: dict[str, Any], output: Path) -> str:
    from kinecast.research.rate_figures import plot_losses
    from kinecast.research.tables import markdown

    results["losses"] = rows
    plot_losses(rows, "mae", output / "rate-losses.png")
    header = ("loss", "keys", "kbps", "concealed", "concealment", "MAE", "SSIM", "keypoint")
    cells = [
        [
            f"{100 * row['loss']:.0f} % {row['kind']}",
            row["keys"],
            f"{row['kbps']:.2f}",
            f"{100 * row['concealed']:.0f} %",
            row["concealment"],
            *(f"{row['distortions'][name]:.4f}" for name in ("mae", "ssim", "keypoint")),
        ]
        for row in rows
    ]
    note = (
        "\nOne packet per frame. `hold` repeats the last keypoints, which freezes the picture; `interpolate` uses the "
        "frame after the loss and delays by the gap, a bound for the others.\n\n![losses](rate-losses.png)\n"
    )
    return markdown("Lost packets", header, cells) + note


def _rows(points: Sequence[Any], measures: Sequence[str]) -> list[list[str]]:
    return [
        [f"{p.curve}, {p.setting}", f"{p.kbps:.2f}", f"{p.motion_kbps:.2f}"]
        + [f"{p.distortions[m]:.2f}" if m == "psnr" else f"{p.distortions[m]:.4f}" for m in measures]
        for p in points
    ]
