"""`kinecast research single`, `diverse` and `paper`: forecasts rendered as video and measured."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import (
    DEFAULT_BACKBONE,
    CropOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    expanded,
    print_json,
    say,
)
from kinecast.cli.outputs import WRITES_FOLDER
from kinecast.cli.workers import RayOption, WorkersOption
from kinecast.packages import needs

DatasetOption = Annotated[Path, typer.Option("--dataset", help="Folder of the data set, as distributed.")]
OutputOption = Annotated[
    Path,
    WRITES_FOLDER,
    typer.Option("-o", "--output", help="Folder for report.md, results.json, figures, models and units."),
]
LayoutOption = Annotated[
    str, typer.Option("--layout", help="voxceleb, bair, mgif (train/ and test/), or clips (with --validate).")
]
ModeOption = Annotated[str, typer.Option("--mode", help="reconstruction, transfer or both.")]
HorizonOption = Annotated[list[str] | None, typer.Option("--horizon", help="N-H; may be repeated. (default: 12-12)")]
EveryOption = Annotated[int, typer.Option("--every", help="Use every k-th frame of a clip.")]
ProtocolOption = Annotated[
    str,
    typer.Option("--protocol", help="honest (causal), or as-released (released weights, which read the true future)."),
]
ModelsOption = Annotated[
    str,
    typer.Option("--models", help="Forecasters to train (NAME or NAME:PRESET) or .safetensors files, comma-separated."),
]
BackboneOption = Annotated[str, typer.Option("--backbone", help="A name of `kinecast zoo list`, or a file.")]
SamplesOption = Annotated[int, typer.Option("--samples", help="Samples per window.")]
KeepOption = Annotated[int, typer.Option("--keep", help="Diverse: number of lowest-MAE samples to keep.")]
WindowsOption = Annotated[
    int | None, typer.Option("--windows-per-clip", help="Maximum number of windows, evenly spaced. (default: all)")
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", help="Number of runs with successive seeds; more than 1 gives spreads.")
]
ValidateOption = Annotated[
    str | None, typer.Option("--validate", help="Layout clips: regular expression for the people to test on.")
]
PersonOption = Annotated[
    str | None,
    typer.Option("--person", help="Layout clips: regular expression whose group matches the person in a name."),
]
RelativeOption = Annotated[bool, typer.Option("--relative", help="Transfer: relative motion.")]
SourcesOption = Annotated[
    Path | None, typer.Option("--sources", help="Transfer: folder of source pictures. (default: other persons' clips)")
]
ReleasedOption = Annotated[
    Path | None, typer.Option("--released", help="Folder with the released vrnn_vox_N-H.safetensors.")
]
JediOption = Annotated[Path | None, typer.Option("--jedi-weights", help="Folder with V-JEPA's published files.")]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Training steps of each model. (default: its own)")]
CacheOption = Annotated[
    Path | None, WRITES_FOLDER, typer.Option("--cache", help="Folder for cached motion. (default: OUTPUT/cache)")
]
CompareOption = Annotated[
    str | None,
    typer.Option("--compare", help="voxceleb, bair, mgif or none: published figures shown. (default: the layout's)"),
]
EngineOption = Annotated[str, typer.Option("--engine", help="eager, or fast (CPU).")]


@dataclass(frozen=True)
class Place:
    """Options of each of these commands: what is read, and where results go."""

    dataset: DatasetOption
    output: OutputOption
    layout: LayoutOption = "clips"


@dataclass(frozen=True)
class Common:
    """Options of each of these commands: who is tested, with what, and how it runs."""

    protocol: ProtocolOption = "honest"
    backbone: BackboneOption = DEFAULT_BACKBONE
    samples: SamplesOption = 100
    windows_per_clip: WindowsOption = None
    seeds: SeedsOption = 1
    workers: WorkersOption = None
    ray: RayOption = None
    validate: ValidateOption = None
    person: PersonOption = None
    relative: RelativeOption = False
    sources: SourcesOption = None
    released: ReleasedOption = None
    steps: StepsOption = None
    crop: CropOption = "center"
    cache: CacheOption = None
    compare: CompareOption = None
    device: DeviceOption = "auto"
    engine: EngineOption = "eager"
    seed: SeedOption = 0
    json: JsonOption = False


@expanded
def evaluate_single(
    *,
    place: Place,
    mode: ModeOption = "reconstruction",
    horizon: HorizonOption = None,
    every: EveryOption = 1,
    models: ModelsOption = "gru,vrnn",
    jedi_weights: JediOption = None,
    common: Common,
) -> None:
    """Render one forecast per window: MAE, SSIM, JEDi and motion scores. Resumes after an interruption."""
    needs("kinecast research single", "research")
    _run(_studies("single", mode, horizon, models, 1, every, common), place, common, jedi_weights)


@expanded
def evaluate_diverse(
    *,
    place: Place,
    mode: ModeOption = "reconstruction",
    horizon: HorizonOption = None,
    every: EveryOption = 1,
    models: ModelsOption = "vrnn",
    keep: KeepOption = 20,
    common: Common,
) -> None:
    """Render many samples per window: diversity (APD) against error, for the oracle's choice and for all samples."""
    needs("kinecast research diverse", "research")
    _run(_studies("diverse", mode, horizon, models, keep, every, common), place, common)


@expanded
def evaluate_paper(
    *,
    place: Place,
    horizon: Annotated[
        list[str] | None,
        typer.Option("--horizon", help="N-H; may be repeated. (default: the data set's, as published)"),
    ] = None,
    family: Annotated[
        str,
        typer.Option("--family", help="kinecast (ours), or paper (as printed; large): preset of models without one."),
    ] = "kinecast",
    models: Annotated[
        str | None, typer.Option("--models", help="As in `research single`. (default: vrnn,vae,gru,nf,gru-nf)")
    ] = None,
    diverse_models: Annotated[
        str | None, typer.Option("--diverse-models", help="Those of the diverse tables. (default: vrnn,gru-nf)")
    ] = None,
    diverse_samples: Annotated[
        int, typer.Option("--diverse-samples", help="Samples per window of the diverse tables.")
    ] = 100,
    keep: KeepOption = 20,
    diverse_windows_per_clip: Annotated[
        int | None,
        typer.Option(
            "--diverse-windows-per-clip", help="Maximum number of windows of the diverse tables. (default: all)"
        ),
    ] = None,
    jedi_weights: JediOption = None,
    common: Common,
) -> None:
    """All published tables and figures of a data set, at its horizons: single and diverse, both modes, refinement.

    Layout clips has the horizons of the data set that --compare names, else VoxCeleb's.
    """
    needs("kinecast research paper", "research")
    from kinecast.data.windows import parse_horizon
    from kinecast.research.paper import PaperPlan, paper_studies
    from kinecast.research.published import DATA_SETS

    named = [name for name in (place.layout, common.compare) if name in DATA_SETS]
    plan = PaperPlan(
        data_set=named[0] if named else "voxceleb",
        family=family,
        horizons=tuple(dict.fromkeys(map(parse_horizon, horizon))) if horizon else None,
        models=None if models is None else _names(models),
        diverse_models=None if diverse_models is None else _names(diverse_models),
        windows=common.windows_per_clip,
        diverse_windows=diverse_windows_per_clip,
        samples=common.samples,
        diverse_samples=diverse_samples,
        keep=keep,
    )
    _run(paper_studies(plan), place, common, jedi_weights)


def _names(models: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))


def _studies(
    kind: Any, mode: str, horizon: list[str] | None, models: str, keep: int, every: int, common: Common
) -> list[Any]:
    """Return the study of one mode, or of both."""
    from kinecast.data.windows import parse_horizon
    from kinecast.research.study import MODES, Study

    horizons = tuple(dict.fromkeys(parse_horizon(text) for text in horizon or ("12-12",)))
    modes: tuple[Any, ...] = MODES if mode == "both" else (mode,)
    windows, samples = common.windows_per_clip, common.samples
    return [Study(kind, mode, horizons, _names(models), windows, samples, keep, every) for mode in modes]


def _run(studies: list[Any], place: Place, common: Common, jedi_weights: Path | None = None) -> None:
    """Run studies and write their report."""
    from kinecast.cli.common import progress
    from kinecast.errors import KinecastError
    from kinecast.research.published import DATA_SETS
    from kinecast.research.report import make_report
    from kinecast.research.run import evaluate
    from kinecast.research.study import RunConfig
    from kinecast.zoo import load_backbone

    if common.compare not in (None, "none", *DATA_SETS):
        raise KinecastError(f"compare: expected one of {', '.join(DATA_SETS)} or none; found {common.compare!r}")
    if common.seeds < 1:
        raise KinecastError(f"seeds: expected at least 1, found {common.seeds}")
    config = RunConfig(
        dataset=place.dataset,
        layout=place.layout,
        studies=tuple(studies),
        protocol=common.protocol,
        validate=common.validate,
        person=common.person,
        backbone=common.backbone,
        crop=common.crop,
        relative=common.relative,
        sources=common.sources,
        released=common.released,
        seeds=tuple(range(common.seed, common.seed + common.seeds)),
        training={} if common.steps is None else {"steps": common.steps},
        jedi_weights=jedi_weights,
        device=common.device,
        engine=common.engine,
    )
    with progress(unit="done") as update:
        result = evaluate(config, place.output, common.workers, common.cache, say, update, common.ray)
    named = common.compare or (place.layout if place.layout in DATA_SETS else None)
    backbone = load_backbone(config.backbone, config.device, config.engine)
    results = make_report(result, place.output, backbone, None if named == "none" else named, say)
    if common.json:
        print_json(results)
    say(f"wrote {place.output / 'report.md'}, {place.output / 'results.json'} and {place.output / 'figures'}")
