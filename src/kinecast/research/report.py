"""The report of a run: Markdown in the layout of the paper's Tables 1-10, figures, and results.json."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kinecast.data.windows import Horizon
from kinecast.files import make_folder
from kinecast.metrics.jedi import NEEDS_WEIGHTS
from kinecast.models.base import Backbone
from kinecast.research import published
from kinecast.research.figures import chosen_windows, error_curves, qualitative_grid, ratio_densities
from kinecast.research.run import RunResult, TableData
from kinecast.research.study import RunConfig, Study
from kinecast.research.summary import Figures, summarise
from kinecast.research.tables import markdown, write_report

_NONE = "–"
_SINGLE_COLUMNS = (
    ("MAE all", "mae_all", 4),
    ("MAE pred.", "mae_predicted", 4),
    ("SSIM all", "ssim_all", 3),
    ("SSIM pred.", "ssim_predicted", 3),
    ("keypoint MAE", "keypoint_mae", 4),
    ("CRPS", "crps", 4),
    ("energy score", "energy_score", 3),
    ("energy dist.", "energy_distance", 4),
    ("energy dist. all", "energy_distance_all", 4),
)
_DIVERSE_COLUMNS = (
    ("APD kept (oracle)", "apd_kept", 4),
    ("APD every", "apd_every", 4),
    ("MAE kept (oracle)", "mae_kept", 4),
    ("MAE every", "mae_every", 4),
    ("MAE every, pred.", "mae_every_predicted", 4),
    ("SSIM kept (oracle)", "ssim_kept", 3),
    ("SSIM every", "ssim_every", 3),
)
_PAPER_DIVERSE = (
    ("APD", "apd_kept", 4),
    ("MAE", "mae_kept", 4),
    ("SSIM", "ssim_kept", 3),
    ("ratio mean", "ratio_mean", 3),
    ("ratio median", "ratio_median", 3),
)

_Rows = dict[Horizon, list[Figures]]


def make_report(
    result: RunResult, output: Path, backbone: Backbone, compare: str | None, log: Callable[[str], None]
) -> dict[str, Any]:
    """Write report.md, results.json and figures/ of a run to a folder; return what results.json holds.

    `compare` names the data set whose published figures stand beside ours; None is none.
    """
    folder = make_folder(output / "figures")
    text = _preface(result, backbone, compare)
    tables: dict[str, Any] = {}
    for study in result.config.studies:
        data = {table.horizon: table for table in result.tables if table.study == study}
        rows: _Rows = {horizon: summarise(table) for horizon, table in data.items()}
        text += _paper_table(study, rows, compare)
        for horizon, table in data.items():
            text += _own_table(study, horizon, rows[horizon], table)
        text += _pictures(result, study, data, rows, folder, backbone, log)
        for horizon, table in data.items():
            tables[f"{study.title}, {horizon}"] = _plain(table, rows[horizon])
    results = {
        "config": _config(result.config),
        "backbone_digest": result.settings.weights,
        "compared_with": compare,
        "clips": {
            "training": [clip.name for clip in result.dataset.training if clip.name not in result.skipped],
            "test": [clip.name for clip in result.dataset.test if clip.name not in result.skipped],
            "left_out": result.skipped,
        },
        "notes": result.notes,
        "models": result.models,
        "tables": tables,
    }
    write_report(output, "report", text, results)
    return results


def _preface(result: RunResult, backbone: Backbone, compare: str | None) -> str:
    config, data = result.config, result.dataset
    used = [[clip for clip in side if clip.name not in result.skipped] for side in (data.training, data.test)]
    left = f"; {len(result.skipped)} damaged clips skipped: {', '.join(result.skipped)}" if result.skipped else ""
    people = sorted({clip.person for clip in used[1]})
    size = "x".join(map(str, backbone.frame_size))
    lines = [
        f"# Video forecasts, {config.protocol}",
        "",
        f"Data: {config.dataset.name}, layout {config.layout}; {len(used[0])} clips to train forecasters on, "
        f"{len(used[1])} of other persons to test on ({len(people)} persons){left}. "
        f"Backbone: {Path(config.backbone).name}, {size}, {backbone.motion_dim} numbers per frame, "
        f"engine {config.engine}. "
        f"Seeds: {', '.join(map(str, config.seeds))}.",
        "",
        *(f"- {note}" for note in result.notes),
        *([""] if result.notes else []),
        "- *Single*: the trajectory that is animated is the median of the samples, number by number (the one "
        "prediction of a row without randomness). *Diverse*: all samples are animated.",
        "- *All* frames of a window average its observed frames too, as published figures do; *pred.* are the "
        "predicted frames alone. Observed frames are animated by their true keypoints in every row.",
        "- *True keypoints* is the ceiling that the backbone sets; *copy of the source* shows no motion at all.",
        "- In transfer the truth is the backbone's own output with the true driving keypoints, "
        f"{'relative' if config.relative else 'absolute'} motion; sources are other persons' first frames.",
        "- CRPS, energy score and energy distance are of motion, in raw units; energy distance pools one sample of "
        "every window. ± is the standard deviation over seeds.",
    ]
    if any(row.reads_future for table in result.tables for row, _ in table.rows):
        lines.append("- Rows with a * read true frames after the N-th and are not forecasts.")
    if compare:
        lines += ["", "Why published figures (arXiv 2504.05537v2) differ from ours:", ""]
        lines += [f"- {line}" for line in _differences(result, backbone, compare)]
    return "\n".join(lines) + "\n\n"


def _differences(result: RunResult, backbone: Backbone, compare: str) -> list[str]:
    windows = ", ".join(f"{len(table.windows)} ({table.study.title}, {table.horizon})" for table in result.tables)
    size = "x".join(map(str, backbone.frame_size))
    return [
        *published.DIFFERENCES[result.config.protocol],
        f"Theirs are of {compare}'s whole test set; ours of this many windows: {windows}.",
        f"Theirs are of FOMM at 256x256; ours of {Path(result.config.backbone).name} at {size}.",
    ]


def _paper_table(study: Study, rows: _Rows, compare: str | None) -> str:
    """Return one table of a mode in the paper's layout: models down, horizons across, the published figure beside."""
    single = study.kind == "single"
    columns = [("MAE", "mae_all", 4), ("JEDi", "jedi", 4)] if single else list(_PAPER_DIVERSE)
    header = ["forecaster", "family"]
    for horizon in rows:
        for name, _, _ in columns:
            header += [f"{horizon} {name}"] + ([f"{horizon} {name}, published"] if compare else [])
    names = list(dict.fromkeys(row.name for of in rows.values() for row in of))
    lines = []
    for name in names:
        found = [row for of in rows.values() for row in of if row.name == name]
        cells = [found[0].family or _NONE]
        for horizon, of in rows.items():
            row = next((row for row in of if row.name == name), None)
            printed = _published(study, compare, horizon, name)
            for i, (_, key, digits) in enumerate(columns):
                cells.append(_cell(row, key, digits))
                if compare:
                    cells.append(f"{printed[i]:.4f}" if printed else _NONE)
        mark = " *" if any(row.name == name and row.reads_future for of in rows.values() for row in of) else ""
        lines.append([name + mark, *cells])
    which = "1-6" if single else "7-10"
    kept = "" if single else f": {study.keep} of {study.samples} samples, kept by an oracle"
    text = markdown(f"{study.title}, in the layout of Tables {which}{kept}", header, lines) + "\n"
    return text + ("" if single else _about_ratios(rows)) + _about_models(rows)


def _published(study: Study, compare: str | None, horizon: Horizon, name: str) -> tuple[float, ...] | None:
    of = published.published_single if study.kind == "single" else published.published_diverse
    model = "vrnn" if name == "vrnn released, as released" else name.split(":")[0].removesuffix(" (file)")
    return of(compare, study.mode, str(horizon), model)


def _about_models(rows: _Rows) -> str:
    """List for each row how it differs from the printed model of its name."""
    differing = {row.name: row for of in rows.values() for row in of if row.differences}
    lines = [f"- {name} ({row.family}): {'; '.join(row.differences)}." for name, row in differing.items()]
    return "\n".join(["Against the printed models:", "", *lines, "", ""]) if lines else ""


def _about_ratios(rows: _Rows) -> str:
    pairs = "; ".join(
        sorted({" with ".join(sorted((r.name, r.scaled_with))) for of in rows.values() for r in of if r.scaled_with})
    )
    left = {str(h): sum(r.infinite + r.undefined for row in of for r in row.ratios.values()) for h, of in rows.items()}
    return (
        "APD is of predicted frames (eq. 37), MAE and SSIM of all frames of a window. A ratio is per clip, whose "
        "windows are averaged first, min-max scaled over all clips of only two models: "
        f"{pairs or 'no pair here'}. At the minimum of MAE the scaled MAE is 0 and there is no finite ratio "
        f"({', '.join(f'{h}: {n}' for h, n in left.items())} such clips): the mean leaves them out, the median counts "
        "them as the largest. A clip close to that minimum can decide the mean: trust the median.\n\n"
    )


def _own_table(study: Study, horizon: Horizon, rows: Sequence[Figures], table: TableData) -> str:
    columns = _SINGLE_COLUMNS if study.kind == "single" else _DIVERSE_COLUMNS
    lines = [
        [row.name + (" *" if row.reads_future else ""), *(_cell(row, key, digits) for _, key, digits in columns)]
        for row in rows
    ]
    clips = len({window.clip for window in table.windows})
    title = f"{study.title}, {horizon}: {len(table.windows)} windows of {clips} clips"
    if study.windows is not None:
        title += f", at most {study.windows} per clip, evenly spaced"
    return markdown(title, ["forecaster", *(name for name, _, _ in columns)], lines) + "\n"


def _cell(row: Figures | None, key: str, digits: int) -> str:
    if row is None or key not in row.figures:
        return NEEDS_WEIGHTS if key == "jedi" else _NONE
    text = f"{row.figures[key]:.{digits}f}"
    return text + (f" ± {row.deviations[key]:.{digits}f}" if key in row.deviations else "")


def _pictures(
    result: RunResult,
    study: Study,
    data: dict[Horizon, TableData],
    rows: _Rows,
    folder: Path,
    backbone: Backbone,
    log: Callable[[str], None],
) -> str:
    """Draw a study's figures; return the Markdown that shows them."""
    stem = "_".join(part for part in (study.kind, study.mode, study.about) if part)
    shown: list[tuple[str, str]] = []
    if study.kind == "single":
        for horizon, of in rows.items():
            name = f"{stem}_{horizon}_errors.jpg"
            error_curves(folder / name, of, f"{study.title}, {horizon}")
            shown.append((f"Error against horizon, {study.title}, {horizon}", name))
    else:
        name = f"{stem}_ratio.jpg"
        title = f"Scaled APD/MAE ratio of clips, {study.mode}"
        if ratio_densities(folder / name, {str(h): of for h, of in rows.items()}, title):
            shown.append((f"{title}, kernel density (as Figures 10-13)", name))
    for horizon, table in data.items():
        for kind, window in chosen_windows(table).items():
            name = f"{stem}_{horizon}_{kind}.jpg"
            qualitative_grid(folder / name, result, table, window, backbone)
            where = f"{table.windows[window].clip}, window {table.windows[window].index}"
            rank = "median" if kind == "typical" else "nine-tenths"
            about = f"the window of {rank} error of repeating the last frame ({where})"
            shown.append((f"{study.title}, {horizon}: {about}; green observed, orange predicted", name))
    log(f"drew {len(shown)} figures of {study.title}")
    return "".join(f"![{name}](figures/{name})\n\n*{title}.*\n\n" for title, name in shown)


def _config(config: RunConfig) -> dict[str, Any]:
    values = asdict(config)
    values["studies"] = [{**asdict(s), "horizons": [str(h) for h in s.horizons]} for s in config.studies]
    return {key: str(value) if isinstance(value, Path) else value for key, value in values.items()}


def _plain(table: TableData, rows: Sequence[Figures]) -> dict[str, Any]:
    """Return a table as plain values, those of every window included."""
    return {
        "windows": [asdict(window) for window in table.windows],
        "rows": [
            {
                "name": row.name,
                "reads_future": row.reads_future,
                "family": row.family,
                "differences": row.differences,
                "figures": row.figures,
                "deviations": row.deviations,
                "error_by_step": row.curves,
                "scaled_with": row.scaled_with,
                "ratios": {
                    seed: {
                        "mean": of.mean,
                        "median": of.median,
                        "infinite": of.infinite,
                        "undefined": of.undefined,
                        "values": [round(v, 4) if abs(v) < float("inf") else None for v in of.ratios.tolist()],
                    }
                    for seed, of in row.ratios.items()
                },
                "by_window": row.windows,
            }
            for row in rows
        ],
    }
