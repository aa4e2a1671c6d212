"""`kinecast anomaly`: how unlikely each frame of a clip, motion file or camera is, compared with normal motion."""

import json as jsonlib
from collections.abc import Iterator
from itertools import islice
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
    PrecisionOption,
    SeedOption,
    StripOption,
    load_model,
    print_json,
    progress,
    say,
)
from kinecast.cli.outputs import Writes
from kinecast.packages import needs

_MOTION = (".npz", ".npy")
_NAMES = ("anomaly.json", "timeline.png", "timeline.svg")


def anomaly(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="Clip, motion file (.npz, .npy) or camera number.")],
    normal: Annotated[
        list[Path], typer.Option("--normal", help="Normal clips or motion: a folder or a file; repeatable.")
    ],
    output: Annotated[
        Path,
        Writes("folder", folder=True, names=_NAMES),
        typer.Option("-o", "--output", help="Folder for anomaly.json and the timeline."),
    ],
    model: Annotated[
        str, typer.Option("--model", help="Trained forecaster (a name or a file), or gru-nf to train one here.")
    ] = "gru-nf",
    backbone: Annotated[str, typer.Option("--backbone", help="Backbone for clips and cameras.")] = DEFAULT_BACKBONE,
    observe: Annotated[int, typer.Option("--observe", help="Frames observed for each forecast.")] = 8,
    ahead: Annotated[int, typer.Option("--ahead", help="Frames forecast.")] = 4,
    samples: Annotated[int, typer.Option("--samples", help="Samples per frame.")] = 32,
    frame_rate: Annotated[float, typer.Option("--frame-rate", help="Guaranteed false-alarm rate per frame.")] = 0.05,
    clip_rate: Annotated[float, typer.Option("--clip-rate", help="Guaranteed false-alarm rate per clip.")] = 0.1,
    fit_share: Annotated[
        float, typer.Option("--fit-share", help="Share of normal clips used to fit; the rest are for calibration.")
    ] = 0.5,
    cut_frames: Annotated[
        int | None, typer.Option("--cut", help="Cut normal motion into clips of this many frames.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", help="Training steps if a forecaster is trained here.")] = 300,
    svg: Annotated[bool, typer.Option("--svg", help="Write the timeline as SVG instead of PNG.")] = False,
    crop: CropOption = "center",
    limit: LimitOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    strip: StripOption = False,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Score each frame against an earlier forecast; raise alarms at a guaranteed rate, and early warnings.

    Thresholds are split conformal: the rate holds if new normal clips are exchangeable with those given. A camera is
    watched until Ctrl-C or --limit.
    """
    needs("kinecast anomaly", "plot")
    from kinecast.apps.anomaly import Detector, Rates, ScorerConfig, cut, split_normal
    from kinecast.apps.anomaly.timeline import draw_timeline
    from kinecast.files import atomic_path, make_folder
    from kinecast.media.framing import check_reading
    from kinecast.media.video import Strip

    config, rates = ScorerConfig(observe, ahead, samples, seed), Rates(frame_rate, clip_rate)
    check_reading(crop, limit=limit)
    trained_here = _trained_here(model)
    extractor = _Extractor(backbone, crop, device, engine, precision)
    extractor.check(source)
    make_folder(output)
    clips = {name: motion for path in normal for name, motion in extractor.series(path).items()}
    clips = cut(clips, cut_frames) if cut_frames else clips
    fit, calibration = split_normal(clips, fit_share, seed)
    rates.check(len(calibration))
    kept = output / "model.safetensors" if trained_here else None
    scorer, calibration = _scorer(model, fit, calibration, config, steps, seed, kept)
    detector = Detector.calibrate(scorer, calibration, rates)
    say(f"calibrated: {detector.to_dict()['promise']}")

    frames = extractor.frames(Strip(source) if strip else source)
    verdicts = _watch(detector, islice(frames, limit), until_interrupted=source.isdecimal())
    first = {name: next(_alarms(verdicts, name), None) for name in detector.thresholds}
    result = {"input": source, "model": model, "frames": len(verdicts), "first_alarm": first, **detector.to_dict()}
    figure = output / f"timeline.{'svg' if svg else 'png'}"
    draw_timeline(figure, verdicts, detector, f"{Path(source).name}, {model}")
    with atomic_path(output / "anomaly.json") as temporary:
        rows = [verdict.to_dict() for verdict in verdicts]
        temporary.write_text(jsonlib.dumps(result | {"scores": rows}, indent=1) + "\n")
    if json:
        print_json(result)
    alarm = first[detector.primary]
    say(f"{source}: {'no alarm' if alarm is None else f'first alarm at frame {alarm}'} in {len(verdicts)} frames")
    say(f"wrote {output / 'anomaly.json'} and {figure}")


def _watch(detector: Any, frames: Iterator[Any], until_interrupted: bool) -> list[Any]:
    """Return the verdict of each frame, and report the first alarm as it comes; Ctrl-C may end a camera."""
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


def _trained_here(name: str) -> bool:
    """Return whether a model has to be trained; check that any other can be loaded before detection starts."""
    from kinecast.forecasting import FORECASTERS
    from kinecast.forecasting.storage import WEIGHTLESS
    from kinecast.zoo import load_forecaster, names

    if name in FORECASTERS and name not in (*names("forecaster"), *WEIGHTLESS):
        return True
    if name not in WEIGHTLESS:
        load_forecaster(name, "cpu")
    return False


def _scorer(
    name: str, fit: Any, calibration: Any, config: Any, steps: int, seed: int, path: Path | None
) -> tuple[Any, dict[str, Any]]:
    """Return the scorer of a loaded or trained model, and the clips left for calibration: none it was fitted on.

    A trained model is saved at `path`; None loads it.
    """
    from kinecast.apps.anomaly import scorer_of, train_scorer
    from kinecast.errors import KinecastError
    from kinecast.forecasting.storage import save_forecaster
    from kinecast.zoo import forecaster_for

    if path is not None:
        say(f"training {name} on {len(fit)} normal clips, {steps} steps")
        scorer = train_scorer(fit, config, name, steps, seed)
        save_forecaster(scorer.model, path)
        return scorer, calibration
    model = forecaster_for(name, next(iter(fit.values())).shape[1], "cpu")
    known = set(model.about.get("clips", ()))
    left = {clip: motion for clip, motion in calibration.items() if clip not in known}
    if known and (len(left) < len(calibration)):
        say(f"{name}: {len(calibration) - len(left)} normal clips that it was trained on are not used for calibration")
    if not left:
        raise KinecastError(f"{name}: expected normal clips that it was not trained on, found none: add others")
    return scorer_of(model, fit, config), left


class _Extractor:
    """Motion of any input; the backbone is loaded when the first frame arrives."""

    def __init__(self, name: str, crop: str, device: str, engine: str, precision: str) -> None:
        self.name, self.crop, self.how = name, crop, (device, engine, precision)
        self.loaded: Any = None

    @property
    def backbone(self) -> Any:
        """The backbone."""
        if self.loaded is None:
            self.loaded = load_model(self.name, *self.how)
        return self.loaded

    def check(self, source: str) -> None:
        """Check that the input can be read, before reading the normal clips; a camera is not checked."""
        from kinecast.media.video import probe

        if Path(source).suffix.lower() in _MOTION:
            self._one(source)
        elif not source.isdecimal():
            probe(source)

    def series(self, path: Path) -> dict[str, Any]:
        """Return the motion of normal clips: motion files, a clip, or a folder of either."""
        from kinecast.apps.pipeline import extract
        from kinecast.data.keypoint_store import load_series
        from kinecast.data.video_folder import CLIP_SUFFIXES, list_clips

        if path.is_dir() and any(p.suffix.lower() in CLIP_SUFFIXES for p in path.iterdir()):
            clips = list_clips([path])
        elif path.suffix.lower() in CLIP_SUFFIXES:
            clips = [path]
        else:
            return load_series(path)
        with progress() as update:
            motions = {clip.stem: extract(self.backbone, clip, self.crop, None, None, update) for clip in clips}
        return {name: motion.evenly_timed().vectors() for name, motion in motions.items()}

    def frames(self, source: str) -> Iterator[Any]:
        """Yield the motion (D,) of each frame of the input as it comes; clips of variable frame rate are resampled."""
        from kinecast.apps.anomaly import frames_of
        from kinecast.apps.pipeline import extract
        from kinecast.media.camera import camera_frames
        from kinecast.media.pictures import to_tensor
        from kinecast.media.video import probe, read_frames

        if Path(source).suffix.lower() in _MOTION:
            yield from frames_of(self._one(source))
            return
        if not source.isdecimal() and not probe(source).constant_rate:
            yield from frames_of(extract(self.backbone, source, self.crop).evenly_timed().vectors())
            return
        size = self.backbone.frame_size
        pictures = camera_frames(int(source), size) if source.isdecimal() else read_frames(source, size, self.crop)
        for picture in pictures:
            yield self.backbone.detect(to_tensor(picture).to(self.backbone.device)).vectors()[0].cpu()

    def _one(self, source: str) -> Any:
        """Return the motion (T, D) of a file that holds one clip."""
        from kinecast.data.keypoint_store import load_series
        from kinecast.errors import KinecastError

        series = load_series(source)
        if len(series) != 1:
            raise KinecastError(f"{source}: expected the motion of one clip, found {len(series)}: name one file")
        return next(iter(series.values()))
