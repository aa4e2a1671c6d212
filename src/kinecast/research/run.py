"""One run of an evaluation of video, from the folder of a data set to the figures of every window.

Clips are listed and checked, motion is detected once a clip, forecasters are trained on the training side, and windows
of the test side are forecast, animated and measured, in units whose files are named by everything they depend on: an
interrupted run resumes, a changed setting is another file, and no file is ever out of date.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinecast.apps.backbone_worker import backbone_digest
from kinecast.data.datasets import Clip, DataSet, list_sources, named, open_dataset
from kinecast.data.windows import Horizon, frames_needed, too_short, window_count
from kinecast.errors import KinecastError
from kinecast.files import existing_file, make_folder
from kinecast.forecasting import forecaster_class
from kinecast.jobs.pool import WorkerPool
from kinecast.jobs.tasks import Task, digest
from kinecast.media.video import READING
from kinecast.research.predictors import check_released, model_path, row_labels, seeded_rows
from kinecast.research.study import BLOCK, UNIT_VERSION, Job, Row, RunConfig, Study, Unit, picked_windows
from kinecast.research.workers import (
    Settings,
    VideoWorker,
    detect_task,
    load_motion,
    measure_task,
    motion_path,
    train_task,
    unit_path,
)
from kinecast.runtime import accelerate
from kinecast.zoo import load_backbone

Log = Callable[[str], None]
Progress = Callable[[str, int], None]
Measured = dict[str, np.ndarray]


@dataclass(frozen=True)
class Window:
    """One measured window, in the order of every array of a table."""

    clip: str
    index: int
    source: str


@dataclass(frozen=True)
class TableData:
    """What was measured of one study at one horizon: arrays over windows, by row and seed; the reference by itself."""

    study: Study
    horizon: Horizon
    windows: list[Window]
    jobs: list[Job]
    rows: list[tuple[Row, int]]
    reference: Measured
    measured: list[Measured]  # of each of `rows`


@dataclass(frozen=True)
class RunResult:
    """All tables of a run, and notes on the data."""

    config: RunConfig
    dataset: DataSet
    skipped: dict[str, str]  # damaged clips, with the reason
    notes: list[str]
    tables: list[TableData]
    settings: Settings
    models: dict[str, str]  # file of each trained model, by row, horizon and seed


def evaluate(
    config: RunConfig,
    output: Path,
    workers: int | None = None,
    cache: Path | None = None,
    log: Log = lambda line: None,
    progress: Progress = lambda stage, count: None,
    ray: str | None = None,
) -> RunResult:
    """Run all studies of a config; files go to `output`, detected motion to `cache` (default: in `output`).

    `workers` and `ray` are those of `WorkerPool`: the result on a CPU is the same bits anywhere.

    Raises:
        KinecastError: a data set, backbone, model, horizon or cluster that cannot be used. A damaged clip is skipped
            and reported instead.
    """
    plain = load_backbone(config.backbone, config.device, "eager")
    weights = backbone_digest(plain)
    backbone = accelerate(plain, config.engine)
    check_released(config, backbone.name, backbone.motion_dim)
    _check_named(config)
    dataset = open_dataset(
        config.dataset, config.layout, config.validate, config.person, drop_leaks=config.protocol == "honest"
    )
    for note in dataset.notes:
        log(f"note: {note}")
    settings = Settings(
        backbone=config.backbone,
        weights=weights,
        device=config.device,
        engine=config.engine,
        crop=config.crop,
        relative=config.relative,
        motions=make_folder((cache or output / "cache") / "motion"),
        models=output / "models",
        units=make_folder(output / "units"),
        jedi_weights=config.jedi_weights,
    )
    with WorkerPool(VideoWorker(settings, backbone), workers, ray) as pool:
        notes, skipped = list(dataset.notes), {}
        clips = [c for c in (*dataset.training, *dataset.test) if not motion_path(settings, c).exists()]
        for i, (problem, remarks) in pool.run([detect_task(settings, clip) for clip in clips]):
            progress("detect", 1)
            notes += remarks
            if problem:
                skipped[clips[i].name] = problem
                log(f"skipped: {problem}")
        training, test = ([c for c in side if c.name not in skipped] for side in (dataset.training, dataset.test))
        log(f"{len(training)} clips to train on, {len(test)} to test on, {len(skipped)} damaged and skipped")
        if not training or not test:
            raise KinecastError(f"{config.dataset}: expected readable clips on both sides, found none on one of them")
        lengths = {clip.name: len(load_motion(settings, clip)) for clip in (*training, *test)}
        notes += _too_short(config, test, lengths) + _given(config)
        models = _train(config, pool, training, lengths, settings, log, progress)
        plan = [
            _plan(config, study, horizon, test, training, lengths, models[study, horizon], settings)
            for study in config.studies
            for horizon in study.horizons
        ]
        jobs = [job for table in plan for job in _missing(table.jobs, settings)]
        log(f"{sum(len(job.units) for job in jobs)} of {sum(len(j.units) for t in plan for j in t.jobs)} units to do")
        for _ in pool.run([measure_task(settings, job) for job in jobs]):
            progress("measure", 1)
    tables = [_collected(table, settings) for table in plan]
    files = {
        f"{label} {horizon} seed {seed}": path.name
        for (_, horizon), named in models.items()
        for (label, seed), path in named.items()
    }
    return RunResult(config, dataset, skipped, notes, tables, settings, files)


def _check_named(config: RunConfig) -> None:
    """Check early that the files named in the config exist, which the run reads only after detection.

    Raises:
        KinecastError: it is not.
    """
    if config.jedi_weights is not None and not config.jedi_weights.is_dir():
        existing_file(config.jedi_weights, "folder of V-JEPA weights")
    if config.sources is not None:
        list_sources(config.sources)
    for model in dict.fromkeys(model for study in config.studies for model in study.models):
        if model.endswith(".safetensors"):
            existing_file(model, "forecaster file (.safetensors)")
        else:
            forecaster_class(model.partition(":")[0])


def _too_short(config: RunConfig, test: Sequence[Clip], lengths: Mapping[str, int]) -> list[str]:
    notes = []
    for horizon, every in dict.fromkeys((h, study.every) for study in config.studies for h in study.horizons):
        needed = frames_needed(horizon, every)
        short = [clip.name for clip in test if lengths[clip.name] < needed]
        if short:
            notes.append(f"{horizon}: test clips of fewer than {needed} frames are not in it: {named(short)}")
    return notes


def _given(config: RunConfig) -> list[str]:
    files = {Path(m).name for study in config.studies for m in study.models if m.endswith(".safetensors")}
    if not files:
        return []
    return [f"{named(sorted(files))}: given as files; whether their training excluded the test persons is not checked"]


_Models = dict[tuple[str, int], Path]


def _train(
    config: RunConfig,
    pool: WorkerPool,
    clips: Sequence[Clip],
    lengths: Mapping[str, int],
    settings: Settings,
    log: Log,
    progress: Progress,
) -> dict[tuple[Study, Horizon], _Models]:
    """Train missing forecasters; return the file of each row and seed, by study and horizon."""
    data = digest(READING, sorted(clip.content for clip in clips), settings.weights, settings.engine, settings.crop)
    found: dict[tuple[Study, Horizon], _Models] = {}
    wanted: dict[Path, Task] = {}
    for study in config.studies:
        for horizon in study.horizons:
            longest = max(lengths[clip.name] for clip in clips)
            if longest < frames_needed(horizon, study.every):
                raise KinecastError(
                    f"the longest clip to train on has {longest} frames; {too_short(horizon, study.every)}: "
                    "choose a shorter horizon or longer clips"
                )
            files = found[study, horizon] = {}
            for seed in config.seeds:
                for label in row_labels(config, study):
                    training_values = {**config.training, "every": study.every}
                    path, training = model_path(settings.models, label, horizon, seed, training_values, data)
                    files[label, seed] = path
                    if training is None:
                        existing_file(path, "forecaster file (.safetensors)")
                    elif not path.exists():
                        wanted[path] = train_task(settings, path, training, clips)
    if wanted:
        log(f"training {len(wanted)} forecasters")
    for _ in pool.run(list(wanted.values())):
        progress("train", 1)
    return found


def _plan(
    config: RunConfig,
    study: Study,
    horizon: Horizon,
    test: Sequence[Clip],
    training: Sequence[Clip],
    lengths: Mapping[str, int],
    models: _Models,
    settings: Settings,
) -> TableData:
    """Return the jobs of one study at one horizon, with all their units."""
    rows = seeded_rows(config, horizon, models)
    sources = _sources(config, test, training) if study.mode == "transfer" else {}
    jobs: list[Job] = []
    for clip in test:
        windows = picked_windows(window_count(lengths[clip.name], horizon, study.every), study.windows)
        for start in range(0, len(windows), BLOCK[study.kind]):
            block = windows[start : start + BLOCK[study.kind]]
            job = Job(study, horizon, clip, sources.get(clip.name), block, ())
            units = [Unit(None, 0, _key(job, None, 0, settings))]
            units += [Unit(row, seed, _key(job, row, seed, settings)) for row, seed in rows]
            jobs.append(Job(study, horizon, clip, job.source, block, tuple(units)))
    if not jobs:
        longest = max(lengths[clip.name] for clip in test)
        raise KinecastError(
            f"the longest clip to test on has {longest} frames; {too_short(horizon, study.every)}: "
            "choose a shorter horizon or longer clips"
        )
    measured = [Window(j.clip.name, w, (j.source or j.clip).name) for j in jobs for w in j.windows]
    return TableData(study, horizon, measured, jobs, rows, {}, [])


def _key(job: Job, row: Row | None, seed: int, settings: Settings) -> str:
    """Name a unit by everything it depends on."""
    study = job.study
    of_row = (row.kind, row.digest, study.samples, seed if row.seeded else None) if row else ("reference",)
    how = study.keep if study.kind == "diverse" and row else None
    source = job.source.content if job.source else None
    relative = settings.relative and job.source is not None
    clip = (job.clip.content, source, relative, study.every)
    what = (study.kind, how, clip, settings.weights, settings.engine, settings.crop)
    return digest(UNIT_VERSION, READING, what, job.horizon, job.windows, of_row, settings.jedi_weights)


def _sources(config: RunConfig, test: Sequence[Clip], training: Sequence[Clip]) -> dict[str, Clip]:
    """Assign every test clip the first frame of another person: of --sources, else of the test side, else of training.

    The choice depends on the clip's content alone, so that adding clips does not change it.
    """
    given = list_sources(config.sources) if config.sources else None
    chosen: dict[str, Clip] = {}
    for clip in test:
        sides = [given] if given else [test, training]
        others = next((o for side in sides if (o := [c for c in side if c.person != clip.person])), None)
        if not others:
            raise KinecastError(f"transfer: expected a source of another person than {clip.person}: add --sources")
        others = sorted(others, key=lambda other: other.content)
        chosen[clip.name] = others[int(digest("source", clip.content)[:8], 16) % len(others)]
    return chosen


def _missing(jobs: Sequence[Job], settings: Settings) -> Iterator[Job]:
    for job in jobs:
        units = tuple(unit for unit in job.units if not unit_path(settings.units, unit.key).exists())
        if units:
            yield Job(job.study, job.horizon, job.clip, job.source, job.windows, units)


def _collected(plan: TableData, settings: Settings) -> TableData:
    """Read the unit files of a table, windows in the order of its jobs."""
    columns = [
        [_load(unit_path(settings.units, job.units[i].key)) for job in plan.jobs] for i in range(len(plan.rows) + 1)
    ]
    joined = [{name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in columns]
    return TableData(plan.study, plan.horizon, plan.windows, plan.jobs, plan.rows, joined[0], joined[1:])


def _load(path: Path) -> Measured:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
