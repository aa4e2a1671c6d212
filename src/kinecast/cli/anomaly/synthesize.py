"""`kinecast anomaly synthesize`: a labelled set of defects that never happened, from sampled futures."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.anomaly.inputs import Extractor, trained_here
from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    PrecisionOption,
    SeedOption,
    print_json,
    progress,
    say,
)
from kinecast.cli.outputs import WRITES_FOLDER


def synthesize(
    normal: Annotated[
        list[Path], typer.Option("--normal", help="Normal clips or motion: a folder or a file; repeatable.")
    ],
    output: Annotated[
        Path,
        WRITES_FOLDER,
        typer.Option("-o", "--output", help="Folder for motion/, clips/, labels.csv and manifest.json."),
    ],
    count: Annotated[int, typer.Option("--count", help="Samples of each kind.")] = 50,
    kinds: Annotated[
        str, typer.Option("--kinds", help="Comma-separated: normal, tail, freeze, drift, shake.")
    ] = "normal,tail,freeze,drift,shake",
    model: Annotated[
        str, typer.Option("--model", help="Trained forecaster (a name, a file), or one to train here: gru-nf.")
    ] = "gru-nf",
    backbone: Annotated[str, typer.Option("--backbone", help="Backbone for clips.")] = DEFAULT_BACKBONE,
    observe: Annotated[
        int, typer.Option("--observe", help="Frames of a normal clip that each sample begins with.")
    ] = 8,
    ahead: Annotated[int, typer.Option("--ahead", help="Frames that follow: the sampled future.")] = 16,
    part: Annotated[
        int,
        typer.Option("--part", help="Consecutive numbers that a defect changes: 1 for joints, 6 for FOMM keypoints."),
    ] = 1,
    samples: Annotated[
        int, typer.Option("--samples", help="Futures drawn per tail sample; the least typical is kept.")
    ] = 64,
    clips: Annotated[
        bool, typer.Option("--clips", help="Render each sample as a clip, too; normal clips must be pictures.")
    ] = False,
    steps: Annotated[int, typer.Option("--steps", help="Training steps of a forecaster trained here.")] = 300,
    crop: CropOption = "center",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "exact",
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Sample futures of normal motion, change some as faults would, and write them with labels.

    Resumes after an interruption; a larger --count adds samples. A folder with another set is refused; existing files
    are never overwritten.
    """
    from kinecast.apps.anomaly.defect_set import WEIGHTS, check_manifest, hash_of, manifest_of, write_set
    from kinecast.apps.anomaly.synthesis import SynthesisConfig, plan
    from kinecast.media.framing import check_reading

    names: Any = tuple(name.strip() for name in kinds.split(",") if name.strip())
    config = SynthesisConfig(count, names, observe, ahead, part, samples, seed)
    check_reading(crop)
    here = trained_here(model)
    extractor = Extractor(backbone, crop, device, engine, precision)
    motion = {name: one for path in normal for name, one in extractor.series(path).items()}
    templates = extractor.templates if extractor.templates.keys() == motion.keys() else {}
    extractor.check_clips(motion.keys(), clips)
    next(plan(motion, config))  # clips too short, or parts that do not divide, are found before hours of training
    told = {"name": model, "training": f"{steps} steps, seed {seed}" if here else ""}
    check_manifest(output, manifest_of(motion, config, told, clips), but=("model",))
    scorer = _scorer(model, motion, output / WEIGHTS if here else None, config, steps)
    manifest = manifest_of(motion, config, told | {"weights": hash_of(scorer.model)}, clips)

    def save(path: Path, name: str, vectors: Any) -> None:
        one = next(iter(templates.values()))[:1]  # of another length than the sample's, so that no time is kept
        replace(one.with_vectors(vectors), clip=name).save(path)

    with progress("samples") as update:
        written = write_set(
            output,
            scorer,
            motion,
            config,
            manifest,
            save if templates else None,
            extractor.renderer() if clips else None,
            update,
        )
    total = count * len(names)
    if json:
        print_json({"samples": total, "written": written, "kinds": list(names), "manifest": manifest["settings"]})
    say(f"{output}: {written} samples written, {total - written} were there; labels.csv says what each is")


def _scorer(name: str, normal: Any, kept: Path | None, config: Any, steps: int) -> Any:
    """Return a scorer of the forecaster: loaded, or trained and kept, from where the next run takes it."""
    from kinecast.apps.anomaly import ScorerConfig, scorer_of, train_scorer
    from kinecast.files import make_folder
    from kinecast.forecasting.storage import load_forecaster_file, save_forecaster
    from kinecast.zoo import forecaster_for

    how = ScorerConfig(config.observed, min(config.ahead, 4), 2, config.seed)
    if kept is None:
        return scorer_of(forecaster_for(name, next(iter(normal.values())).shape[1], "cpu"), normal, how)
    if kept.exists():
        return scorer_of(load_forecaster_file(kept), normal, how)
    say(f"training {name} on {len(normal)} normal clips, {steps} steps")
    scorer = train_scorer(normal, how, name, steps, config.seed)
    make_folder(kept.parent)
    save_forecaster(scorer.model, kept)
    return scorer
