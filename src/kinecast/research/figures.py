"""The pictures of a report: error against horizon, densities of the scaled ratio, grids of frames.

Notation: H horizon, S samples.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kinecast.data.windows import evaluation_windows
from kinecast.files import atomic_path
from kinecast.media.framing import fit
from kinecast.media.pictures import caption, grid, to_uint8
from kinecast.models.base import Backbone
from kinecast.research.predictors import predict
from kinecast.research.rendering import Stage
from kinecast.research.run import RunResult, TableData
from kinecast.research.study import Job, unit_seed
from kinecast.research.summary import CEILING, COPY, Figures
from kinecast.research.workers import load_motion

_COLUMNS = 7  # frames of a window that a grid shows
_SIDE = 80  # pixels of a frame in a grid
_SHOWN_SAMPLES = 3  # of a row with samples
_QUALITY = 78  # of JPEG
_REFERENCE = {CEILING: "black", COPY: "grey"}  # colours of rows that need no forecast
_OBSERVED, _PREDICTED, _NAME = (40, 140, 70), (215, 110, 20), (32, 32, 32)


def error_curves(path: Path, rows: Sequence[Figures], title: str) -> None:
    """Draw mean pixel and keypoint error of each row against the predicted step."""
    figure, axes = _axes(2)
    looks = _looks([row.name for row in rows])
    for axis, key, name in zip(axes, ("mae", "keypoint_mae"), ("pixel MAE", "keypoint MAE, raw units"), strict=True):
        for row in rows:
            if key in row.curves:
                curve = row.curves[key]
                axis.plot(range(1, len(curve) + 1), curve, label=row.name, linewidth=1.3, **looks[row.name])
        axis.set_xlabel("predicted step")
        axis.set_ylabel(name)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    _write(figure, path)


def ratio_densities(path: Path, rows: Mapping[str, Sequence[Figures]], title: str) -> bool:
    """Draw kernel density estimates of the finite scaled APD/MAE ratios, one panel per horizon (Figures 10-13).

    Returns whether there was anything to draw: a density needs ratios that differ.
    """
    import seaborn

    values = {
        horizon: {
            row.name: np.concatenate([r.ratios[r.ratios.isfinite()].numpy() for r in row.ratios.values()])
            for row in of
            if row.ratios
        }
        for horizon, of in rows.items()
    }
    values = {h: {n: v for n, v in of.items() if len(np.unique(v)) > 1} for h, of in values.items()}
    if not any(values.values()):
        return False
    figure, axes = _axes(len(values))
    looks = _looks(list(dict.fromkeys(name for of in values.values() for name in of)))
    for axis, (horizon, of) in zip(axes, values.items(), strict=True):
        for name, ratios in of.items():
            seaborn.kdeplot(x=ratios, ax=axis, label=name, fill=True, alpha=0.15, cut=0, **looks[name])
        axis.set_xlabel("scaled APD / scaled MAE")
        axis.set_title(horizon, fontsize=9)
        if of:
            axis.legend(fontsize=7, frameon=False)
    figure.suptitle(title, fontsize=10)
    _write(figure, path)
    return True


def chosen_windows(table: TableData) -> dict[str, int]:
    """Return the windows that grids show, by a rule and not by eye: by the error of repeating the last frame.

    `typical` has the median error, `lively` is at nine tenths.
    """
    name = table.rows[0][0].label
    errors = np.mean(
        [
            m["mae"].reshape(len(m["mae"]), -1).mean(axis=1)
            for (row, _), m in zip(table.rows, table.measured, strict=True)
            if row.label == name
        ],
        axis=0,
    )
    order = np.argsort(errors, kind="stable")
    last = len(order) - 1
    return {"typical": int(order[last // 2]), "lively": int(order[round(0.9 * last)])}


def qualitative_grid(path: Path, result: RunResult, table: TableData, window: int, backbone: Backbone) -> None:
    """Write a grid of one window: rows truth and forecasters, columns frames over time (Figures 8-9 and 14-15).

    A row with samples shows the first ones drawn in a diverse table, and the median of all in a single one.
    """
    job, place = _job_of(table, window)
    horizon = table.horizon
    motion = load_motion(result.settings, job.clip)
    windows = evaluation_windows({job.clip.name: motion.vectors()}, horizon, job.study.every)
    stage = Stage(backbone, job.clip, motion, job.source, result.settings.crop, result.settings.relative)
    steps = np.unique(np.linspace(0, horizon.forecast - 1, min(_COLUMNS - 1, horizon.forecast)).round().astype(int))
    shown = [horizon.observed - 1, *(horizon.observed + int(step) for step in steps)]
    number = job.windows[place]
    with torch.inference_mode():
        vectors = windows.frames[number]
        truth = next(iter(stage.truths(windows.frames, [number], job.study.every)))
        last = stage.render(vectors[shown[:1]])
        rows = [("source and truth", truth[shown])]
        if not stage.transfer:
            rows.append(("true keypoints", stage.render(vectors[shown])))
        for name, trajectory in _trajectories(table, windows, job, place, window):
            rows.append((name, torch.cat([last, stage.render(trajectory[steps])])))
    picture = Image.fromarray(_composed(rows, stage.source, shown, horizon.observed))
    with atomic_path(path) as temporary:
        picture.save(temporary, quality=_QUALITY)


def _trajectories(table: TableData, windows: Any, job: Job, place: int, window: int) -> list[tuple[str, Tensor]]:
    """Return names and trajectories (H, D) that a grid shows: each row's first seed."""
    found: list[tuple[str, Tensor]] = []
    names: set[str] = set()
    for (row, seed), measured in zip(table.rows, table.measured, strict=True):
        if row.label in names:
            continue
        names.add(row.label)
        if table.study.kind == "single":
            found.append((row.label, torch.from_numpy(measured["forecast"][window])))
        elif measured["mae"].shape[1] > 1:
            drawn_with = unit_seed(seed, job.clip, job.horizon, job.windows)
            samples = predict(row, windows, job.windows, table.study.samples, drawn_with)
            found += [(f"{row.label}, {i + 1}", samples[i, place]) for i in range(_SHOWN_SAMPLES)]
    return found


def _job_of(table: TableData, window: int) -> tuple[Job, int]:
    for job in table.jobs:
        if window < len(job.windows):
            return job, window
        window -= len(job.windows)
    raise IndexError(window)


def _composed(rows: list[tuple[str, Tensor]], source: Tensor, shown: list[int], observed: int) -> np.ndarray:
    """Join rows of frames (T, 3, H, W) into one picture, names on the left and frame numbers above."""
    blank = np.full((_SIDE, _SIDE, 3), 255, np.uint8)
    pictures = []
    for i, (name, frames) in enumerate(rows):
        first = _small(to_uint8(source)[0]) if i == 0 else blank
        cells = [caption(first, name, _NAME)]
        for frame, number in zip(to_uint8(frames), shown, strict=True):
            color = _OBSERVED if number < observed else _PREDICTED
            cells.append(caption(_small(frame), f"frame {number + 1}" if i == 0 else "", color))
        pictures.append(cells)
    return grid(pictures)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return fit(frame, (0, 0, height, width), (_SIDE, _SIDE))


def _looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give every row a look of its own, the same in all panels: ten colours, then other strokes."""
    forecasts = [name for name in names if name not in _REFERENCE]
    looks = {n: {"color": f"C{i % 10}", "linestyle": ("-", "--", ":")[i // 10 % 3]} for i, n in enumerate(forecasts)}
    return looks | {name: {"color": color, "linestyle": "--"} for name, color in _REFERENCE.items()}


def _axes(count: int) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure  # the class, not pyplot: no global state, no display

    figure = Figure(figsize=(4.5 * count, 3.4), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def _write(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, pil_kwargs={"quality": _QUALITY})
