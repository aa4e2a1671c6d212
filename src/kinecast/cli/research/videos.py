"""`kinecast research single`, `diverse` and `paper`: forecasts rendered as video and measured."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from kinecast.cli.common import DEFAULT_BACKBONE, CropOption, DeviceOption, JsonOption, SeedOption, print_json, say
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
    str | None, typer.Option("--person", help="Layout clips: regular expression whose group is the person in a name.")
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


def evaluate_single(
    dataset: DatasetOption,
    output: OutputOption,
    layout: LayoutOption = "clips",
    mode: ModeOption = "reconstruction",
    horizon: HorizonOption = None,
    every: EveryOption = 1,
    protocol: ProtocolOption = "honest",
    models: ModelsOption = "gru,vrnn",
    backbone: BackboneOption = DEFAULT_BACKBONE,
    samples: SamplesOption = 100,
    windows_per_clip: WindowsOption = None,
    seeds: SeedsOption = 1,
    workers: WorkersOption = None,
    ray: RayOption = None,
    validate: ValidateOption = None,
    person: PersonOption = None,
    relative: RelativeOption = False,
    sources: SourcesOption = None,
    released: ReleasedOption = None,
    jedi_weights: JediOption = None,
    steps: StepsOption = None,
    crop: CropOption = "center",
    cache: CacheOption = None,
    compare: CompareOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "eager",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Render one forecast per window: MAE, SSIM, JEDi and motion scores. Resumes after an interruption."""
    needs("kinecast research single", "research")
    _run(_studies("single", mode, horizon, models, windows_per_clip, samples, 1, every), locals())


def evaluate_diverse(
    dataset: DatasetOption,
    output: OutputOption,
    layout: LayoutOption = "clips",
    mode: ModeOption = "reconstruction",
    horizon: HorizonOption = None,
    every: EveryOption = 1,
    protocol: ProtocolOption = "honest",
    models: ModelsOption = "vrnn",
    backbone: BackboneOption = DEFAULT_BACKBONE,
    samples: SamplesOption = 100,
    keep: KeepOption = 20,
    windows_per_clip: WindowsOption = None,
    seeds: SeedsOption = 1,
    workers: WorkersOption = None,
    ray: RayOption = None,
    validate: ValidateOption = None,
    person: PersonOption = None,
    relative: RelativeOption = False,
    sources: SourcesOption = None,
    released: ReleasedOption = None,
    steps: StepsOption = None,
    crop: CropOption = "center",
    cache: CacheOption = None,
    compare: CompareOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "eager",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Render many samples per window: diversity (APD) against error, for the oracle's choice and for all samples."""
    needs("kinecast research diverse", "research")
    jedi_weights = None
    _run(_studies("diverse", mode, horizon, models, windows_per_clip, samples, keep, every), locals())


def evaluate_paper(
    dataset: DatasetOption,
    output: OutputOption,
    layout: LayoutOption = "clips",
    horizon: Annotated[
        list[str] | None,
        typer.Option("--horizon", help="N-H; may be repeated. (default: the data set's, as published)"),
    ] = None,
    family: Annotated[
        str,
        typer.Option("--family", help="kinecast (ours), or paper (as printed; large): preset of models without one."),
    ] = "kinecast",
    protocol: ProtocolOption = "honest",
    models: Annotated[
        str | None, typer.Option("--models", help="As in `research single`. (default: vrnn,vae,gru,nf,gru-nf)")
    ] = None,
    diverse_models: Annotated[
        str | None, typer.Option("--diverse-models", help="Those of the diverse tables. (default: vrnn,gru-nf)")
    ] = None,
    backbone: BackboneOption = DEFAULT_BACKBONE,
    samples: SamplesOption = 100,
    diverse_samples: Annotated[int, typer.Option("--diverse-samples", help="The same for the diverse tables.")] = 100,
    keep: KeepOption = 20,
    windows_per_clip: WindowsOption = None,
    diverse_windows_per_clip: Annotated[
        int | None, typer.Option("--diverse-windows-per-clip", help="The same for the diverse tables.")
    ] = None,
    seeds: SeedsOption = 1,
    workers: WorkersOption = None,
    ray: RayOption = None,
    validate: ValidateOption = None,
    person: PersonOption = None,
    relative: RelativeOption = False,
    sources: SourcesOption = None,
    released: ReleasedOption = None,
    jedi_weights: JediOption = None,
    steps: StepsOption = None,
    crop: CropOption = "center",
    cache: CacheOption = None,
    compare: CompareOption = None,
    device: DeviceOption = "auto",
    engine: EngineOption = "eager",
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """All published tables and figures of a data set, at its horizons: single and diverse, both modes, refinement.

    Layout clips has the horizons of the data set that --compare names, else VoxCeleb's.
    """
    needs("kinecast research paper", "research")
    from kinecast.data.windows import parse_horizon
    from kinecast.research.paper import PaperPlan, paper_studies
    from kinecast.research.published import DATA_SETS

    named = [name for name in (layout, compare) if name in DATA_SETS]
    plan = PaperPlan(
        data_set=named[0] if named else "voxceleb",
        family=family,
        horizons=tuple(dict.fromkeys(map(parse_horizon, horizon))) if horizon else None,
        models=None if models is None else _names(models),
        diverse_models=None if diverse_models is None else _names(diverse_models),
        windows=windows_per_clip,
        diverse_windows=diverse_windows_per_clip,
        samples=samples,
        diverse_samples=diverse_samples,
        keep=keep,
    )
    _run(paper_studies(plan), locals())


def _names(models: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))


def _studies(
    kind: Any,
    mode: str,
    horizon: list[str] | None,
    models: str,
    windows: int | None,
    samples: int,
    keep: int,
    every: int,
) -> list[Any]:
    """Return the study of one mode, or of both."""
    from kinecast.data.windows import parse_horizon
    from kinecast.research.study import MODES, Study

    horizons = tuple(dict.fromkeys(parse_horizon(text) for text in horizon or ("12-12",)))
    modes: tuple[Any, ...] = MODES if mode == "both" else (mode,)
    return [Study(kind, mode, horizons, _names(models), windows, samples, keep, every) for mode in modes]


def _run(studies: list[Any], options: dict[str, Any]) -> None:
    """Run a study with a command's options, by name; those that are not config fields are handled here."""
    from kinecast.cli.common import progress
    from kinecast.errors import KinecastError
    from kinecast.research.published import DATA_SETS
    from kinecast.research.report import make_report
    from kinecast.research.run import evaluate
    from kinecast.research.study import RunConfig
    from kinecast.zoo import load_backbone

    layout, compare, output = options["layout"], options["compare"], options["output"]
    if compare not in (None, "none", *DATA_SETS):
        raise KinecastError(f"compare: expected one of {', '.join(DATA_SETS)} or none; found {compare!r}")
    if options["seeds"] < 1:
        raise KinecastError(f"seeds: expected at least 1, found {options['seeds']}")
    known = {field.name for field in dataclasses.fields(RunConfig)}
    config = RunConfig(
        studies=tuple(studies),
        **{name: value for name, value in options.items() if name in known - {"studies", "seeds", "training"}},
        seeds=tuple(range(options["seed"], options["seed"] + options["seeds"])),
        training={} if options["steps"] is None else {"steps": options["steps"]},
    )
    with progress(unit="done") as update:
        result = evaluate(config, output, options["workers"], options["cache"], say, update, options["ray"])
    named = compare or (layout if layout in DATA_SETS else None)
    backbone = load_backbone(config.backbone, config.device, config.engine)
    results = make_report(result, output, backbone, None if named == "none" else named, say)
    if options["json"]:
        print_json(results)
    say(f"wrote {output / 'report.md'}, {output / 'results.json'} and {output / 'figures'}")
