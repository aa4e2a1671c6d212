"""From arrays over windows to the figures of a table: one value a window first, then means, then spread over seeds.

Figures of *all* frames of a window average its observed frames too, animated by their true keypoints, as the
published ones do; figures of *predicted* frames do not.

Notation: V windows, N observed, H horizon, T = N + H.
"""

from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch

from kinecast.errors import KinecastError
from kinecast.metrics.distances import pooled_energy_distance
from kinecast.metrics.diversity import ScaledRatios, scaled_ratios
from kinecast.metrics.jedi import jedi
from kinecast.research.run import Measured, TableData

CEILING, COPY = "true keypoints", "copy of the source"


@dataclass(frozen=True)
class Figures:
    """One row of a table. `figures` are means over windows and seeds; `deviations` are of seeds, where several.

    `windows` has for each seed the values of each window; `curves` the error at each predicted step, means over
    windows and seeds. `ratios` are the scaled APD/MAE ratios of each seed, diverse tables alone.
    """

    name: str
    reads_future: bool
    figures: dict[str, float]
    deviations: dict[str, float]
    windows: dict[int, dict[str, list[float]]]
    curves: dict[str, list[float]]
    ratios: dict[int, ScaledRatios]


def summarise(table: TableData) -> list[Figures]:
    """Return the rows of a table: what needs no forecast first."""
    single = table.study.kind == "single"
    rows = [_reference_row(table, name, key) for name, key in ((COPY, "copy"), (CEILING, "true"))]
    ratios = {} if single else _ratios(table)
    names = list(dict.fromkeys(row.label for row, _ in table.rows))
    for name in names:
        runs = [(row, seed, m) for (row, seed), m in zip(table.rows, table.measured, strict=True) if row.label == name]
        values = {seed: (_single if single else _diverse)(table, measured) for _, seed, measured in runs}
        sets = {seed: _of_sets(table, measured) if single else {} for _, seed, measured in runs}
        own = {seed: ratios[name, seed] for seed in values if (name, seed) in ratios}
        curves = {key: _curve([m[key] for _, _, m in runs]) for key in ("mae", "keypoint_mae") if single}
        rows.append(_row(name, runs[0][0].reads_future, values, sets, curves, own))
    return rows


def _row(
    name: str,
    reads_future: bool,
    values: dict[int, dict[str, np.ndarray]],
    sets: dict[int, dict[str, float]],
    curves: dict[str, list[float]],
    ratios: dict[int, ScaledRatios],
) -> Figures:
    by_seed = [
        {key: float(column.mean()) for key, column in values[seed].items()} | sets.get(seed, {}) for seed in values
    ]
    for figures, seed in zip(by_seed, values, strict=True):
        if seed in ratios:
            figures |= {"ratio_mean": ratios[seed].mean, "ratio_median": ratios[seed].median}
    keys = list(by_seed[0])
    several = len(by_seed) > 1
    return Figures(
        name=name,
        reads_future=reads_future,
        figures={key: mean(figures[key] for figures in by_seed) for key in keys},
        deviations={key: stdev(figures[key] for figures in by_seed) for key in keys} if several else {},
        windows={
            seed: {key: [round(float(v), 6) for v in column] for key, column in columns.items()}
            for seed, columns in values.items()
        },
        curves=curves,
        ratios=ratios,
    )


def _reference_row(table: TableData, name: str, key: str) -> Figures:
    observed, reference = table.horizon.observed, table.reference
    values: dict[str, np.ndarray] = {}
    for measure in ("mae", "ssim"):
        frames = reference[f"{key}_{measure}"]
        values |= {f"{measure}_all": frames.mean(axis=1), f"{measure}_predicted": frames[:, observed:].mean(axis=1)}
    if table.study.kind == "diverse":  # one video is all there is to keep
        values |= {f"{m}_{which}": values[f"{m}_all"] for m in ("mae", "ssim") for which in ("kept", "every")}
        values |= {"mae_every_predicted": values["mae_predicted"]}
    sets = {"jedi": _jedi(reference[f"{key}_features"], reference)} if f"{key}_features" in reference else {}
    curves = {"mae": _curve([reference[f"{key}_mae"][:, observed:]])}
    return _row(name, False, {0: values}, {0: sets}, curves, {})


def _with_observed(table: TableData, measure: str, predicted: np.ndarray) -> np.ndarray:
    """Average predicted frames, a value a window (V,), with the window's observed frames from true keypoints."""
    observed, length = table.horizon.observed, table.horizon.frames
    given = table.reference[f"true_{measure}"][:, :observed].mean(axis=1)
    return (observed * given + (length - observed) * predicted) / length


def _single(table: TableData, measured: Measured) -> dict[str, np.ndarray]:
    predicted = {measure: measured[measure].mean(axis=1) for measure in ("mae", "ssim")}
    return {
        **{f"{measure}_all": _with_observed(table, measure, values) for measure, values in predicted.items()},
        **{f"{measure}_predicted": values for measure, values in predicted.items()},
        "keypoint_mae": measured["keypoint_mae"].mean(axis=1),
        "crps": measured["crps"],
        "energy_score": measured["energy_score"],
    }


def _of_sets(table: TableData, measured: Measured) -> dict[str, float]:
    """Return the figures of sets of windows: one sample of every window against all true ones."""
    observed = table.horizon.observed
    vectors = torch.from_numpy(table.reference["vectors"])
    samples = torch.from_numpy(measured["sample"]).unsqueeze(0)
    figures = {
        "energy_distance": pooled_energy_distance(samples, vectors[:, observed:]),
        "energy_distance_all": pooled_energy_distance(samples, vectors[:, observed:], vectors[:, :observed]),
    }
    return figures | ({"jedi": _jedi(measured["features"], table.reference)} if "features" in measured else {})


def _jedi(features: np.ndarray, reference: Measured) -> float:
    return jedi(torch.from_numpy(features), torch.from_numpy(reference["features"]))


def _diverse(table: TableData, measured: Measured) -> dict[str, np.ndarray]:
    share = table.horizon.forecast / table.horizon.frames  # observed frames are equal in all samples: their APD is 0
    kept = {measure: np.take_along_axis(measured[measure], measured["kept"], axis=1) for measure in ("mae", "ssim")}
    values = {"apd_kept": share * measured["apd_kept"], "apd_every": share * measured["apd"]}
    for which, of in (("kept", kept.__getitem__), ("every", measured.__getitem__)):
        for measure in ("mae", "ssim"):
            predicted = of(measure).mean(axis=1)
            values[f"{measure}_{which}"] = _with_observed(table, measure, predicted)
            values[f"{measure}_{which}_predicted"] = predicted
    return values | {"apd_kept_predicted": measured["apd_kept"], "apd_every_predicted": measured["apd"]}


def _ratios(table: TableData) -> dict[tuple[str, int], ScaledRatios]:
    """Return the scaled ratios of kept samples, of all rows with samples together, seed by seed."""
    found: dict[tuple[str, int], ScaledRatios] = {}
    for seed in sorted({seed for _, seed in table.rows}):
        columns = {
            row.label: _diverse(table, measured)
            for (row, of), measured in zip(table.rows, table.measured, strict=True)
            if of == seed and measured["mae"].shape[1] > 1
        }
        if not columns:
            continue
        try:
            ratios = scaled_ratios(*(_tensors(columns, key) for key in ("apd_kept", "mae_kept")))
        except KinecastError:  # one window of one model: nothing to scale by, so no ratio
            continue
        found |= {(name, seed): of for name, of in ratios.items()}
    return found


def _tensors(columns: dict[str, dict[str, np.ndarray]], key: str) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(values[key])) for name, values in columns.items()}


def _curve(runs: list[np.ndarray]) -> list[float]:
    return [float(v) for v in np.mean([run.mean(axis=0) for run in runs], axis=0)]
