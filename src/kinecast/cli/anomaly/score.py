"""`kinecast anomaly [score]`: how unlikely each frame of a clip, a motion file or a camera is, given normal ones."""

import json as jsonlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.anomaly.inputs import Extractor, scorer_for, trained_here
from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    LimitOption,
    PrecisionOption,
    SeedOption,
    StripOption,
    print_json,
    say,
)
from kinecast.cli.outputs import Writes
from kinecast.packages import needs

_NAMES = ("anomaly.json", *(f"{name}.{kind}" for name in ("timeline", "forecasts") for kind in ("png", "svg")))


def score(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Clip, motion file (.npz, .npy) or camera number.")],
    normal: Annotated[
        list[Path], typer.Option("--normal", help="Normal clips or motion: a folder or a file; repeatable.")
    ],
    output: Annotated[
        Path,
        Writes("folder", folder=True, names=_NAMES),
        typer.Option("-o", "--output", help="Folder for anomaly.json, timeline and pictures."),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Trained forecaster (a name, a file), or one to train here: gru-nf.")
    ] = "gru-nf",
    backbone: Annotated[str, typer.Option("--backbone", help="Backbone for clips and cameras.")] = DEFAULT_BACKBONE,
    observe: Annotated[int, typer.Option("--observe", help="Frames observed by each forecast.")] = 8,
    ahead: Annotated[int, typer.Option("--ahead", help="Frames forecast.")] = 4,
    samples: Annotated[int, typer.Option("--samples", help="Samples per frame.")] = 32,
    frame_rate: Annotated[float, typer.Option("--frame-rate", help="Guaranteed false-alarm rate per frame.")] = 0.05,
    clip_rate: Annotated[float, typer.Option("--clip-rate", help="Guaranteed false-alarm rate per clip.")] = 0.1,
    fit_share: Annotated[
        float, typer.Option("--fit-share", help="Share of normal clips used to fit; the rest calibrate.")
    ] = 0.5,
    cut_frames: Annotated[
        int | None, typer.Option("--cut", help="Cut normal motion into clips of this many frames.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Training steps of a forecaster trained here.")] = 300,
    fault_at: Annotated[
        int | None, typer.Option("--fault-at", help="Frame of a known fault, to report lead times.")
    ] = None,
    svg: Annotated[bool, typer.Option("--svg", help="Write figures as SVG instead of PNG.")] = False,
    crop: CropOption = "center",
    limit: LimitOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    strip: StripOption = False,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Score each frame against a forecast made before it; alarms at a guaranteed rate, and early warnings.

    Thresholds are split conformal: they keep the promised rate if new normal clips are like those given. A camera is
    watched until Ctrl-C or --limit. For clips, the forecast of the second around the alarm, or before --fault-at, is
    drawn as pictures, with a heat map of surprise.
    """
    needs("kinecast anomaly", "plot")
    from kinecast.apps.anomaly import Detector, Rates, ScorerConfig, cut, split_normal
    from kinecast.apps.anomaly.timeline import draw_timeline
    from kinecast.errors import KinecastError
    from kinecast.files import atomic_path, make_folder
    from kinecast.media.framing import check_reading
    from kinecast.media.video import Strip

    config, rates = ScorerConfig(observe, ahead, samples, seed), Rates(frame_rate, clip_rate)
    check_reading(crop, limit=limit)
    if fault_at is not None and fault_at < 1:
        raise KinecastError(f"fault-at: expected a frame from 1 on, found {fault_at}")
    here = trained_here(model)
    extractor = Extractor(backbone, crop, device, engine, precision)
    extractor.check(source)
    make_folder(output)
    clips = {name: motion for path in normal for name, motion in extractor.series(path).items()}
    clips = cut(clips, cut_frames) if cut_frames else clips
    fit, calibration = split_normal(clips, fit_share, seed)
    rates.check(len(calibration))
    kept = output / "model.safetensors" if here else None
    scorer, calibration = scorer_for(model, fit, calibration, config, steps, seed, kept)
    detector = Detector.calibrate(scorer, calibration, rates)
    say(f"calibrated: {detector.to_dict()['promise']}")

    camera, given = source.isdecimal(), Strip(source) if strip else source
    seen: list[Any] = []
    frames = islice(extractor.frames(given), limit)
    verdicts = _watch(detector, frames if camera else _kept(frames, seen), until_interrupted=camera)
    first = {name: next(_alarms(verdicts, name), None) for name in detector.thresholds}
    result = {"input": source, "model": model, "frames": len(verdicts), "first_alarm": first, **detector.to_dict()}
    result |= {"fault_at": fault_at, "lead": _leads(first, fault_at, extractor.rate(source))}
    suffix = "svg" if svg else "png"
    figure = output / f"timeline.{suffix}"
    draw_timeline(figure, verdicts, detector, f"{Path(source).name}, {model}", fault_at)
    preview = _Preview(extractor, scorer, first[detector.primary], fault_at, seed)
    rows = [verdict.scores.get(detector.primary) for verdict in verdicts]
    result["pictures"] = preview.draw(output / f"forecasts.{suffix}", given, seen, rows)
    with atomic_path(output / "anomaly.json") as temporary:
        told = [verdict.to_dict() for verdict in verdicts]
        temporary.write_text(jsonlib.dumps(result | {"scores": told}, indent=1) + "\n")
    if json:
        print_json(result)
    alarm = first[detector.primary]
    say(f"{source}: {'no alarm' if alarm is None else f'first alarm at frame {alarm}'} in {len(verdicts)} frames")
    if fault_at is not None and alarm is not None:
        say(f"{source}: {_told_lead(result['lead'][detector.primary])}")
    drawn = f", {output / f'forecasts.{suffix}'}" if result["pictures"]["drawn"] else ""
    say(f"wrote {output / 'anomaly.json'}{drawn} and {figure}")


class _Preview:
    """The second around the alarm, or the known fault, forecast and drawn."""

    def __init__(self, extractor: Extractor, scorer: Any, alarm: int | None, fault: int | None, seed: int) -> None:
        self.extractor, self.scorer, self.alarm, self.fault, self.seed = extractor, scorer, alarm, fault, seed

    def draw(self, path: Path, given: Any, seen: list[Any], scores: list[float | None]) -> dict[str, Any]:
        """Draw it, and return what was drawn or why nothing was; the scores are kept in any case."""
        from kinecast.errors import KinecastError

        try:
            return self._drawn(path, given, seen, scores)
        except KinecastError as error:
            say(f"no pictures of the forecast: {error}")
            return {"drawn": False, "why": str(error)}

    def _drawn(self, path: Path, given: Any, seen: list[Any], scores: list[float | None]) -> dict[str, Any]:
        import torch

        from kinecast.apps.anomaly.pictures import draw_preview, horizon_of, preview, when

        why = self.extractor.without_pictures(str(given))
        if why:
            return {"drawn": False, "why": why}
        made_at = when(self.alarm, self.fault, scores, self.scorer.config.observed)
        fps = self.extractor.rate(str(given))
        after = range(made_at + 1, made_at + 1 + horizon_of(made_at, len(seen), fps))
        pictures = self.extractor.pictures(given, (0, *after))
        made = preview(self.extractor.backbone, self.scorer, torch.stack(seen), pictures, made_at, seed=self.seed)
        title = f"{Path(str(given)).name}: forecast at frame {made_at} of the next {len(after)} frames"
        if self.alarm is not None:
            title += f"; first alarm at frame {self.alarm}"
            if self.fault is not None:
                title += f", {_told_lead(_lead(self.alarm, self.fault, fps))}"
        draw_preview(path, made, title, fps, self.fault)
        heat = {str(f): round(float(s), 5) for f, s in zip(made.frames, made.surprise.mean(dim=(1, 2)), strict=True)}
        return {"drawn": True, "made_at": made_at, "frames": list(made.frames), "surprise": heat}


def _kept(frames: Iterator[Any], seen: list[Any]) -> Iterator[Any]:
    """Pass frames on and keep them: D numbers each."""
    for frame in frames:
        seen.append(frame)
        yield frame


def _leads(first: dict[str, int | None], fault: int | None, fps: float | None) -> dict[str, Any] | None:
    """Return how long before a known fault each score's first alarm came; below 0 after it, None without an alarm."""
    if fault is None:
        return None
    return {name: None if alarm is None else _lead(alarm, fault, fps) for name, alarm in first.items()}


def _lead(alarm: int, fault: int, fps: float | None) -> dict[str, float | None]:
    return {"frames": fault - alarm, "seconds": round((fault - alarm) / fps, 4) if fps else None}


def _told_lead(lead: dict[str, float | None]) -> str:
    frames, seconds = int(lead["frames"] or 0), lead["seconds"]
    side = "before" if frames > 0 else "after"
    length = f"{abs(frames)} frames" + (f" ({abs(seconds):.2f} s)" if seconds is not None else "")
    return f"{length} {side} the fault" if frames else "in the frame of the fault"


def _watch(detector: Any, frames: Iterator[Any], until_interrupted: bool) -> list[Any]:
    """Return the verdict of each frame, and tell the first alarm as it comes; Ctrl-C may be the end of a camera."""
    verdicts: list[Any] = []
    alarmed = False
    try:
        for verdict in detector.watch(frames):
            verdicts.append(verdict)
            if detector.primary in verdict.clip_alarms and not alarmed:
                alarmed = True
                say(f"frame {verdict.frame}: first alarm, {detector.primary} {verdict.scores[detector.primary]:.3g}")
    except KeyboardInterrupt:
        if not until_interrupted:
            raise
    return verdicts


def _alarms(verdicts: Any, name: str) -> Iterator[int]:
    """Yield the frames of alarms per clip."""
    return (verdict.frame for verdict in verdicts if name in verdict.clip_alarms)
